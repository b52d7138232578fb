"""An evaluation during a run, after which the student may be the best one so far."""

from __future__ import annotations

import warnings

from torch import Tensor

from dfad_fast.attempts import Attempts
from dfad_fast.distributed import collectives
from dfad_fast.engine.distiller import Distiller
from dfad_fast.engine.evaluation import GeneratedScores, TestSet, generated_scores
from dfad_fast.engine.global_randomness import undisturbed
from dfad_fast.errors import DFADFastWarning

HELD_OUT_IMAGES = 1024
_SHARE = 1 / 100
"""Held-out images per evaluation, as a fraction of the images generated for training since the previous evaluation.
Measuring on an image takes about as long as training on one."""
_FEWEST_IMAGES = 32


def held_out_images(distiller: Distiller, evaluate_every: int) -> int:
    """How many held-out images each evaluation of a run uses."""
    # If iterations generate none, count the images that the student sees.
    images = distiller.images_per_iteration or distiller.method.student_steps * distiller.settings.batch_size
    few = int(_SHARE * evaluate_every * images)
    return distiller.held_out_count(min(HELD_OUT_IMAGES, max(few, _FEWEST_IMAGES)))


def evaluate(distiller: Distiller, test_set: TestSet | None, held_out: int) -> dict[str, float]:
    """Figures for the record of this iteration, on the test images and on ``held_out`` generated ones.

    Changes nothing in the run except ``best`` and the best accuracy.
    """
    networks, state, best = distiller.networks, distiller.state, distiller.best
    found: dict[str, float] = {}
    tested = test_set is not None
    if test_set:
        scores = test_set.scores(networks.student)
        found["student_accuracy"] = scores.student_accuracy
        if scores.agreement is not None:
            found["agreement"] = scores.agreement
        found["largest_class_student"] = scores.largest_class
        if scores.largest_class_teacher is not None:
            found["largest_class_teacher"] = scores.largest_class_teacher
        state.best_accuracy = max(scores.student_accuracy, state.best_accuracy or 0.0)
        best.meet_on_test_images(networks.student, state.iteration, scores)
        if distiller.averaged_student is not None:
            found["averaged_accuracy"] = test_set.scores(distiller.averaged_student).student_accuracy

    if networks.teacher_is_black_box:  # every query must be one that the student learns from
        return found

    def measure() -> GeneratedScores:
        with undisturbed(distiller.device):
            looked: list[tuple[Tensor, Tensor, Tensor]] = []
            own = generated_scores(
                networks,
                distiller.held_out_batches(held_out),
                held_out,
                stages=False,
                look=lambda *seen: None if looked else looked.append(seen),
            )
            if best.meets_on_generated_images(tested):
                accuracy = found.get("student_accuracy")
                best.meet_on_generated_images(networks.student, state.iteration, *looked[0], accuracy)
        # From the first process, since running statistics may differ between them.
        return collectives.on_first(lambda: own)

    attempts = Attempts()
    generated = attempts.attempt("scores on held-out generated images", measure, together=True)
    if generated is None:
        warnings.warn(f"not measured: {attempts}; training continues", DFADFastWarning, stacklevel=2)
        return found
    found.setdefault("largest_class_student", generated.student_balance.most_frequent[1])
    found.setdefault("largest_class_teacher", generated.balance.most_frequent[1])
    return found | {
        "agreement_generated": generated.agreement,
        "discrepancy_generated": generated.discrepancy,
        "classes_generated": generated.balance.covered,
        "effective_classes_generated": generated.balance.effective,
        "largest_class_generated": generated.balance.most_frequent[1],
        "variety_generated": generated.variety,
    }
