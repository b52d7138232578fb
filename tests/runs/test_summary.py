import dataclasses
import json

import pytest

from dfad_fast.runs.summary import Best, Summary

WRITTEN = {
    "method": "dfad",
    "seed": 0,
    "iterations": 6,
    "planned_iterations": 6,
    "teacher_accuracy": 0.9,
    "student_accuracy_final": 0.8,
    "student_accuracy_best": 0.85,
    "student_accuracy_deviation": 0.01,
    "agreement_final": 0.7,
    "averaged_accuracy_final": 0.8,
    "averaged_accuracy_best": 0.8,
    "best_student": {"iteration": 4, "by": "test accuracy", "value": 0.85, "accuracy": 0.85},
    "held_out_images": 1024,
    "discrepancy_generated": 0.5,
    "agreement_generated": 0.6,
    "agreement_generated_deviation": 0.02,
    "sign_agreement_generated": {"2#0": 0.5},
    "classes": 10,
    "classes_generated": 9,
    "effective_classes_generated": 7.8,
    "entropy_generated": 0.9,
    "variety_generated": 0.3,
    "student_start": {"from_teacher": True, "share": 1.0},
    "notices": ["beware"],
    "teacher_parameters": 200,
    "student_parameters": 50,
    "source": "fresh",
    "data_free": True,
    "generated_images": 288,
    "teacher_passes": 300,
    "student_passes": 400,
    "seconds_distill": 1.5,
    "device": "cpu",
    "threads": 1,
    "processes": 1,
    "versions": {"torch": "2"},
}
ADDED_LATER = (
    "student_accuracy_deviation",
    "agreement_generated_deviation",
    "source",
    "data_free",
    "teacher_passes",
    "student_passes",
    "averaged_accuracy_final",
    "averaged_accuracy_best",
    "best_student",
    "held_out_images",
    "classes",
    "classes_generated",
    "effective_classes_generated",
    "entropy_generated",
    "variety_generated",
    "student_start",
    "notices",
    "processes",
)


def test_a_summary_comes_back_to_the_letter():
    summary = Summary.from_data(WRITTEN)
    assert json.dumps(summary.as_data()) == json.dumps(WRITTEN)
    assert (summary.best_student, summary.size_ratio) == (Best(4, "test accuracy", 0.85, 0.85), 0.25)
    without = dataclasses.replace(summary, averaged_accuracy_final=None, averaged_accuracy_best=None)
    assert WRITTEN.keys() - without.as_data().keys() == {"averaged_accuracy_final", "averaged_accuracy_best"}


def test_older_summaries_lack_what_came_later_and_nothing_else():
    older = {name: value for name, value in WRITTEN.items() if name not in ADDED_LATER}
    summary = Summary.from_data(older)
    assert (summary.processes, summary.best_student, summary.notices) == (None, None, [])
    for name in older:
        with pytest.raises(ValueError, match=f"^summary.json lacks {name}$"):
            Summary.from_data({key: value for key, value in older.items() if key != name})


@pytest.mark.parametrize("damaged", [None, 3, "text", ["a"]])
def test_what_is_no_table_is_taken_for_an_empty_one(damaged):
    summary = Summary.from_data(WRITTEN | {"student_start": damaged, "sign_agreement_generated": damaged})
    assert (summary.student_start, summary.sign_agreement_generated) == ({}, {})
