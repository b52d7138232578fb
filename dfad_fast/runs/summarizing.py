"""The summary of a run: scores of the current student, and the cost of training it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dfad_fast.attempts import Attempts
from dfad_fast.distributed import collectives, processes
from dfad_fast.engine.distiller import Distiller
from dfad_fast.engine.evaluating import HELD_OUT_IMAGES
from dfad_fast.engine.evaluation import GeneratedScores, TestSet, generated_scores
from dfad_fast.engine.global_randomness import undisturbed
from dfad_fast.environment import device_name, versions
from dfad_fast.errors import DFADFastWarning
from dfad_fast.runs import layout, stability
from dfad_fast.runs.summary import Best, Summary
from dfad_fast.terms import reads_features


def summarize(
    distiller: Distiller,
    test_set: TestSet | None,
    history: Sequence[Mapping[str, Any]],
    tell: Callable[[str], None] = lambda text: None,
) -> Summary:
    """Measures the summary.

    Scores that cannot be measured are None, with a warning. Also warns if the generator has collapsed.
    """
    networks, state = distiller.networks, distiller.state
    attempts = Attempts()

    held_out, scored = distiller.held_out_count(HELD_OUT_IMAGES), 0

    def look(images: Tensor, *_: Tensor) -> None:
        nonlocal scored
        scored += len(images)
        tell(f"scoring held-out generated images: {scored:,} of {held_out:,}")

    def score() -> GeneratedScores:
        with undisturbed(distiller.device):
            return generated_scores(
                networks,
                distiller.held_out_batches(held_out),
                held_out,
                connectors_trained=reads_features(distiller.method.student),
                look=look,
            )

    own = None
    if not networks.teacher_is_black_box:  # every query must be one that the student learns from
        own = attempts.attempt("scores on held-out generated images", score, together=True)
    generated = collectives.on_first(lambda: own)
    final = averaged = None
    if test_set:
        tell("scoring test images")
        final = attempts.attempt("scores on test images", lambda: test_set.scores(networks.student))
        if distiller.averaged_student is not None:
            averaged = attempts.attempt(
                "the averaged student's scores on test images",
                lambda: test_set.scores(distiller.averaged_student),  # type: ignore[arg-type]
            )
    best = state.best_accuracy
    if final:
        best = max(final.student_accuracy, best or 0.0)
        distiller.best.meet_on_test_images(networks.student, state.iteration, final)
    notices = [
        *(_notices(generated) if generated else []),
        *(stability.fallen_behind(history, final) if final else []),
    ]
    # A run that was interrupted or failed should print one line. Its summary and page contain these notices too, and
    # collapses were reported when they happened.
    is_done = state.planned_iterations is None or state.iteration >= state.planned_iterations
    for notice in notices if processes.is_first() and is_done else []:
        warnings.warn(notice, DFADFastWarning, stacklevel=2)
    if attempts.failures:
        warnings.warn(f"missing in the summary: {attempts}", DFADFastWarning, stacklevel=2)
    averaged_final, averaged_best = _averaged(history, averaged.student_accuracy if averaged else None)
    described = distiller.best.describe()
    own_summary = Summary(
        method=distiller.method.name,
        seed=distiller.settings.seed,
        iterations=state.iteration,
        planned_iterations=state.planned_iterations,
        teacher_accuracy=final.teacher_accuracy if final else None,
        student_accuracy_final=final.student_accuracy if final else None,
        student_accuracy_best=best,
        student_accuracy_deviation=stability.deviation(history, "student_accuracy"),
        agreement_final=final.agreement if final else None,
        averaged_accuracy_final=averaged_final,
        averaged_accuracy_best=averaged_best,
        best_student=Best(**described) if described else None,
        held_out_images=generated.images if generated else None,
        discrepancy_generated=generated.discrepancy if generated else None,
        agreement_generated=generated.agreement if generated else None,
        agreement_generated_deviation=stability.deviation(history, "agreement_generated"),
        sign_agreement_generated=generated.sign_agreement if generated else {},
        classes=networks.classes,
        classes_generated=generated.balance.covered if generated else None,
        effective_classes_generated=generated.balance.effective if generated else None,
        entropy_generated=generated.balance.entropy if generated else None,
        variety_generated=generated.variety if generated else None,
        student_start=distiller.student_start,
        notices=[*distiller.ended, *notices, *stability.collapses(history)],
        teacher_parameters=sum(p.numel() for p in networks.teacher.parameters()) or None,
        student_parameters=sum(p.numel() for p in networks.student.parameters()),
        source=str(distiller.method.source_spec),
        data_free=not any(part.reads_given_images for part in distiller.method.source_spec.walk()),
        generated_images=state.generated_images,
        teacher_passes=state.teacher_passes,
        student_passes=state.student_passes,
        queries=distiller.queries.count if distiller.queries else None,
        teacher_answers=distiller.queries.kind if distiller.queries else None,
        seconds_distill=round(state.seconds, 2),
        device=device_name(distiller.device),
        threads=torch.get_num_threads(),
        processes=processes.count(),
        versions=versions(),
    )
    return collectives.on_first(lambda: own_summary)


def _notices(generated: GeneratedScores) -> list[str]:
    """Why figures on generated images say little, one line each."""
    label, share = generated.balance.most_frequent
    if generated.variety < stability.ALIKE:
        found = f"the {generated.images:,} held-out generated images are nearly all alike"
    elif share >= stability.ONE_CLASS:
        percent = f"{100 * share:.1f} %"
        found = (
            f"the teacher sees class {label} in {percent} of {generated.images:,} held-out generated images"
        )
    else:
        return []
    return [
        f"{found}, so agreement on them says little about real images: look at {layout.SAMPLES}, and try another "
        "method, seed or learning rate"
    ]


def _averaged(
    history: Sequence[Mapping[str, Any]], final: float | None
) -> tuple[float, float] | tuple[None, None]:
    """The averaged student's final and best accuracy; None without an averaged student or test images."""
    if final is None:
        return None, None
    seen = [record["averaged_accuracy"] for record in history if "averaged_accuracy" in record]
    return final, max([final, *seen])
