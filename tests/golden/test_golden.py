"""Short runs end with the same bits as on record: whoever means to change no behavior sees whether it did."""

import pytest

from tests.golden.cases import CASES, CASES_OF_TWO
from tests.golden.record import COMMAND, recorded
from tests.golden.runs import differences, machine_type, run, run_in_two

MACHINE = machine_type()
RECORDED = recorded().get(MACHINE)

pytestmark = [
    pytest.mark.golden,
    pytest.mark.skipif(
        RECORDED is None,
        reason=f"no digests on record for {MACHINE}: record them on code that is right, with {COMMAND}",
    ),
    # Generators as young as these make images of few classes; the summary holds it too, and is digested.
    pytest.mark.filterwarnings("ignore:.*agreement on them says little:dfad_fast.errors.DFADFastWarning"),
]


def message(name, found, expected):
    differing = " and ".join(differences(found, expected))
    return f"{name}: the {differing} differ from those on record; if that is meant: {COMMAND} --overwrite"


def test_the_cases_are_those_on_record():
    assert list(RECORDED["1"]) == list(CASES)
    assert list(RECORDED["2"]) == list(CASES_OF_TWO)


@pytest.mark.parametrize("name", CASES)
def test_a_run_ends_as_on_record(name, tmp_path):
    found, expected = run(CASES[name], tmp_path), RECORDED["1"][name]
    assert found == expected, message(name, found, expected)


def test_runs_in_two_processes_end_as_on_record(tmp_path):
    found = run_in_two(tmp_path)
    wrong = [
        message(name, found[name], expected)
        for name, expected in RECORDED["2"].items()
        if found[name] != expected
    ]
    assert not wrong, "\n".join(wrong)
