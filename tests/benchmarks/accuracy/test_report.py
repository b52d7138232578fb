import pytest

from benchmarks.accuracy.pictures import draw
from benchmarks.accuracy.report import confidence, sheets
from benchmarks.accuracy.study import read_study

STUDY = """
seeds: [0, 1, 2]
baseline: plain
data: {digits: {dataset: digits}}
arms: {plain: {method: dfad}, better: {method: zskt}, missing: {method: dafl}}
"""


def summary(final):
    costs = {"seconds_distill": 2.0, "generated_images": 1000, "teacher_passes": 2000, "student_passes": 3000}
    accuracies = {"student_accuracy_best": final + 0.01, "agreement_final": final, "teacher_accuracy": 0.95}
    return {"student_accuracy_final": final, **accuracies, **costs}


@pytest.fixture
def study(tmp_path):
    (tmp_path / "study.yaml").write_text(STUDY)
    return read_study(tmp_path / "study.yaml")


def records(study, of):
    curve = [
        {"iteration": i, "seconds": i, "generated_images": i, "teacher_passes": i, "student_passes": i,
         "student_accuracy": 0.1 * i} for i in (1, 2)
    ]  # fmt: skip
    return [
        {"data": run.data, "arm": run.arm, "seed": run.seed, "settings": run.settings,
         "summary": summary(of[run.arm][run.seed]), "cpu_seconds": [3.2, 2.8, None][run.seed], "curve": curve}
        for run in study.runs if run.seed in of.get(run.arm, {})
    ]  # fmt: skip


def test_an_interval_is_students():
    # The 97.5 % quantile of t with two degrees of freedom is 4.3027.
    mean, half = confidence([1.0, 2.0, 3.0])
    assert (mean, half) == pytest.approx((2.0, 4.3027 / 3**0.5), rel=1e-4)
    assert confidence([1.0]) is None


def test_differences_are_taken_seed_by_seed(study):
    (sheet,) = sheets(
        study, records(study, {"plain": {0: 0.8, 1: 0.9, 2: 0.85}, "better": {0: 0.81, 1: 0.92, 2: 0.88}})
    )
    table = sheet.markdown()
    assert "### digits: teacher 95.00 %" in table
    assert (
        "| plain | 3 | 85.00 ± 5.00 | 86.00 ± 5.00 | 85.00 ± 5.00 | 89.47 | 84.21 | - | 2 | 3 | 1,000 |"
        in table
    )
    assert table.splitlines()[-1].endswith("| 1,000 | 2,000 | 3,000 | - |")
    assert "| better | 3 | 87.00 ± 5.57 |" in table
    assert "| +2.00 ± 2.48 |" in table
    assert "missing" not in table


def test_one_seed_has_no_interval(study):
    (sheet,) = sheets(study, records(study, {"plain": {0: 0.8}, "better": {0: 0.7, 1: 0.9}}))
    assert "| -10.00 |" in sheet.markdown()


def test_a_black_box_has_no_accuracy_of_its_own(study):
    own = records(study, {"plain": {0: 0.8, 1: 0.8}})
    for record in own:
        record["summary"] |= {"teacher_accuracy": None, "agreement_final": None, "queries": 500}
    (sheet,) = sheets(study, own)
    assert "| plain | 2 | 80.00 ± 0.00 | 81.00 ± 0.00 | - | - | - | - |" in sheet.markdown()
    assert sheet.markdown().splitlines()[-1].endswith("| 3,000 | 500 |")


def test_curves_are_drawn(study, tmp_path):
    draw(study, records(study, {"plain": {0: 0.8, 1: 0.9}}), "digits", tmp_path / "digits.png")
    assert (tmp_path / "digits.png").stat().st_size > 10_000
