import pytest

from benchmarks.accuracy.study import done, read_study
from benchmarks.measuring.machine import ROOT
from dfad_fast.errors import UsageError
from dfad_fast.methods import METHODS
from dfad_fast.sources import as_source
from dfad_fast.terms import TERMS, parse_terms

STUDIES = sorted(ROOT.glob("benchmarks/studies/*.yaml"))

STUDY = """
seeds: [0, 1]
baseline: plain
settings: {student_init: random, iterations: 5}
data:
  digits: {dataset: digits}
  longer: {dataset: digits, minutes: 2}
arms:
  plain: {method: dfad}
  real images: {method: dfad, source: "folder(path='{real}')", lever: [winograd=off], images: 100}
"""


@pytest.fixture
def study(tmp_path):
    path = tmp_path / "study.yaml"

    def read(text=STUDY):
        path.write_text(text)
        return read_study(path)

    return read


def test_every_arm_runs_on_every_data_set_with_every_seed(study):
    read = study()
    assert [(run.data, run.arm, run.seed) for run in read.runs] == [
        (data, arm, seed)
        for data in ("digits", "longer")
        for arm in ("plain", "real images")
        for seed in (0, 1)
    ]
    assert read.baseline == "plain"


def test_arms_come_before_data_and_lengths_before_other_lengths(study):
    lengths = {
        (run.data, run.arm): {
            k: v for k, v in run.settings.items() if k in ("iterations", "images", "minutes")
        }
        for run in study().runs
    }
    assert lengths == {
        ("digits", "plain"): {"iterations": 5},
        ("longer", "plain"): {"minutes": 2},
        ("digits", "real images"): {"images": 100},
        ("longer", "real images"): {"images": 100},
    }


def test_a_run_as_it_is_handed_to_the_trainer(study, tmp_path):
    run = next(run for run in study().runs if run.arm == "real images")
    assert run.wants_real_images
    config = run.config(tmp_path, "/data/train.npz")
    assert config.source == "folder(path='/data/train.npz')"
    assert (config.lever, config.seed, config.student_init) == (("winograd=off",), 0, "random")
    assert config.out == str(tmp_path / run.folder)


def test_other_settings_are_another_run(study):
    before, after = study().runs[0], study(STUDY.replace("iterations: 5", "iterations: 6")).runs[0]
    assert before.folder != after.folder
    record = {"data": "digits", "arm": "plain", "seed": 0, "settings": before.settings, "summary": 1}
    later = {**record, "summary": 2}
    assert list(done([record, later], [before, after])) == [(before, later)]


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_the_studies_that_come_with_it_can_be_run(path, tmp_path):
    for run in read_study(path).runs:
        settings = run.config(tmp_path, "images.npz")
        assert settings.method == "auto" or settings.method in METHODS
        assert settings.source == "auto" or as_source(settings.source)
        assert settings.student_terms is None or parse_terms(settings.student_terms, TERMS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "cannot read"),
        ("- a", "a study: expected a mapping"),
        (STUDY.replace("arms:", "armes:"), "unknown part 'armes': did you mean 'arms'"),
        (STUDY.replace("[0, 1]", "[0, 0]"), "contains duplicates"),
        (STUDY.replace("[0, 1]", "3"), "seeds is 3, expected a list"),
        (STUDY.replace("baseline: plain", "baseline: plane"), "did you mean 'plain'"),
        (STUDY.replace("baseline: plain", "baseline: [plain]"), "unknown baseline"),
        (STUDY.replace("[0, 1]", "[-1]"), "seeds must be at least 0, got -1"),
        (STUDY.replace("{dataset: digits}", "{dataset: digits, images: 9, minutes: 1}"), "give only one"),
        (
            STUDY.replace("method: dfad}", "methd: dfad}"),
            "arms: plain: setting 'methd': did you mean 'method'",
        ),
        (STUDY.replace("iterations: 5", "iterations: five"), "settings: iterations is 'five', expected"),
        (STUDY.replace("iterations: 5", "iterations: 0"), "settings: iterations must be at least 1, got 0"),
        (STUDY.replace("iterations: 5", "seed: 5"), "setting 'seed'"),
        (STUDY[: STUDY.index("arms:")], "arms: expected a mapping"),
    ],
)
def test_what_is_no_study_is_refused(study, text, message):
    with pytest.raises(UsageError, match=r"study\.yaml: ") as refused:
        study(text)
    assert message in str(refused.value)
