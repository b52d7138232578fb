import pytest
import torch

from dfad_fast.errors import UsageError
from dfad_fast.networks.levers import Levers, choose_levers, with_changes


def test_speeds_by_name():
    cpu = torch.device("cpu")
    assert choose_levers("exact", cpu) == Levers()
    half = choose_levers(Levers(precision="bfloat16"), cpu)
    assert (half.winograd, half.fused_generator, half.fold_teacher) == (False, False, True)
    assert choose_levers("fast", cpu).student_batches == 0
    assert choose_levers("auto", cpu).student_batches is None
    assert choose_levers("auto", cpu).precision == (
        "bfloat16" if torch.cpu.get_capabilities().get("amx_tile", False) else "float32"
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: choose_levers("fats", torch.device("cpu")), "fast"),
        (lambda: choose_levers(Levers(graph=True), torch.device("cpu")), "graph needs a GPU"),
        (lambda: Levers(precision="int8"), "precision"),
        (lambda: Levers(teacher_precision="float16"), "teacher_precision 'float16'"),
        (lambda: choose_levers(Levers(teacher_precision="measured"), torch.device("cuda")), "is for the CPU"),
        (lambda: Levers(student_batches=-1), "at least 0"),
        (lambda: Levers(student_batches=0, sample_together=True), "nothing to sample"),
        (lambda: with_changes(Levers(), ("winogrd=on",)), "winograd"),
        (lambda: with_changes(Levers(), ("winograd=yes",)), "on or off"),
        (lambda: with_changes(Levers(), ("student_batches=few",)), "a number or none"),
    ],
)
def test_levers_that_do_not_exist_or_fit_are_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make()


def test_the_teacher_may_compute_in_another_precision():
    cpu = torch.device("cpu")
    narrower = choose_levers(Levers(teacher_precision="bfloat16"), cpu)
    assert (narrower.autocast, narrower.of_teacher.autocast) == (None, torch.bfloat16)
    assert (narrower.by_winograd, narrower.of_teacher.by_winograd) == (True, False)
    wider = choose_levers(Levers(precision="bfloat16", teacher_precision="float32"), cpu)
    assert (wider.autocast, wider.of_teacher.autocast) == (torch.bfloat16, None)
    assert (wider.by_winograd, wider.of_teacher.by_winograd) == (False, True)
    assert not wider.fused_generator
    assert Levers(precision="float16").of_teacher.autocast == torch.float16


def test_levers_can_be_written():
    assert with_changes(Levers(), ("teacher_precision=measured",)).teacher_precision == "measured"
    changed = with_changes(Levers(), ("winograd=off", "student_batches=2", "precision=bfloat16"))
    assert changed == Levers(winograd=False, student_batches=2, precision="bfloat16")
    assert with_changes(changed, ("student_batches=none",)).student_batches is None
    assert with_changes(
        choose_levers("fast", torch.device("cpu")), ("sample_together=on", "student_batches=2")
    )
    assert changed.describe()["student_batches"] == "2"
    assert Levers(student_batches=1).describe()["student_batches"] == "1"
    assert Levers().describe()["winograd"] == "on"
