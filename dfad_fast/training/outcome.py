"""What comes out of a run: its summary and its pictures."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from dfad_fast.distributed import collectives, processes
from dfad_fast.engine.evaluation import GeneratedScores, TestSet, ask, generated_scores
from dfad_fast.engine.randomness import undisturbed
from dfad_fast.environment import device_name, versions
from dfad_fast.errors import DFADFastWarning
from dfad_fast.reporting import pictures, sheets
from dfad_fast.reporting.report_page.page import write_page
from dfad_fast.runs import layout
from dfad_fast.runs.attempts import Attempts
from dfad_fast.runs.folder import RunFolder
from dfad_fast.runs.summary import Best, Summary
from dfad_fast.terms import reads_features

if TYPE_CHECKING:
    from dfad_fast.training.trainer import DFADTrainer

_HELD_OUT_IMAGES = 1024
_SHARE = 1 / 100
"""Held-out images in an evaluation during a run, as a part of those generated for training since the one before. To
measure on an image costs about as much time as to train on one."""
_FEWEST_IMAGES = 32
_SHOWN_IMAGES = 64
_COLLAPSED = 0.95
"""The largest share of the images in one class: with more, figures on them say little about the others."""
_ALIKE = 0.02
"""Variety of images that are all nearly one, see GeneratedScores."""


def held_out_images(trainer: DFADTrainer, evaluate_every: int) -> int:
    """How many are looked at in each evaluation of a run."""
    few = int(_SHARE * evaluate_every * trainer.images_per_iteration)
    return min(_HELD_OUT_IMAGES, max(few, _FEWEST_IMAGES))


def evaluate(trainer: DFADTrainer, test_set: TestSet | None, held_out: int) -> dict[str, float]:
    """An evaluation during a run, for its record, on the test images and on ``held_out`` generated ones; at it the
    student may become the best one. Changes nothing else of the run."""
    networks = trainer.networks
    found: dict[str, float] = {}
    if test_set:
        scores = test_set.scores(networks.student)
        found["student_accuracy"] = scores.student_accuracy
        found["agreement"] = scores.agreement
        trainer.best_accuracy = max(scores.student_accuracy, trainer.best_accuracy or 0.0)
        trainer.best.meet_on_test_images(networks.student, trainer.iteration, scores)
        if trainer.averaged_student is not None:
            found["averaged_accuracy"] = test_set.scores(trainer.averaged_student).student_accuracy

    def measure() -> GeneratedScores:
        with undisturbed(trainer.device):
            looked: list[tuple[Tensor, Tensor, Tensor]] = []
            own = generated_scores(
                networks,
                trainer.held_out_batches(held_out),
                held_out,
                stages=False,
                look=lambda *seen: None if looked else looked.append(seen),
            )
            if not test_set:
                trainer.best.meet_on_generated_images(networks.student, trainer.iteration, *looked[0])
        # The first process's, since running statistics may differ between them.
        return collectives.on_first(lambda: own)

    attempts = Attempts()
    generated = attempts.attempt("scores on held-out generated images", measure, together=True)
    if generated is None:
        warnings.warn(f"not measured: {attempts}; training goes on", DFADFastWarning, stacklevel=2)
        return found
    return found | {
        "agreement_generated": generated.agreement,
        "discrepancy_generated": generated.discrepancy,
        "classes_generated": generated.balance.covered,
        "effective_classes_generated": generated.balance.effective,
    }


def summarise(
    trainer: DFADTrainer, test_set: TestSet | None, tell: Callable[[str], None] = lambda text: None
) -> Summary:
    """Scores that cannot be taken are None, with a warning; a generator that collapsed is a warning too."""
    networks = trainer.networks
    attempts = Attempts()

    scored = 0

    def look(images: Tensor, *_: Tensor) -> None:
        nonlocal scored
        scored += len(images)
        tell(f"scoring held-out generated images: {scored:,} of {_HELD_OUT_IMAGES:,}")

    def score() -> GeneratedScores:
        with undisturbed(trainer.device):
            return generated_scores(
                networks,
                trainer.held_out_batches(_HELD_OUT_IMAGES),
                _HELD_OUT_IMAGES,
                connectors_trained=reads_features(trainer.method.student),
                look=look,
            )

    own = attempts.attempt("scores on held-out generated images", score, together=True)
    generated = collectives.on_first(lambda: own)
    final = averaged = None
    if test_set:
        tell("scoring test images")
        final = attempts.attempt("scores on test images", lambda: test_set.scores(networks.student))
        if trainer.averaged_student is not None:
            averaged = attempts.attempt(
                "the averaged student's scores on test images",
                lambda: test_set.scores(trainer.averaged_student),  # type: ignore[arg-type]
            )
    best = trainer.best_accuracy
    if final:
        best = max(final.student_accuracy, best or 0.0)
        trainer.best.meet_on_test_images(networks.student, trainer.iteration, final)
    notices = _notices(generated) if generated else []
    # For a run that was interrupted or failed, one line is enough; its summary and page say this too.
    is_done = trainer.planned_iterations is None or trainer.iteration >= trainer.planned_iterations
    for notice in notices if processes.is_first() and is_done else []:
        warnings.warn(notice, DFADFastWarning, stacklevel=2)
    if attempts.failures:
        warnings.warn(f"missing in the summary: {attempts}", DFADFastWarning, stacklevel=2)
    averaged_final, averaged_best = _averaged(trainer, averaged.student_accuracy if averaged else None)
    described = trainer.best.describe()
    own_summary = Summary(
        method=trainer.method.name,
        seed=trainer.seed,
        iterations=trainer.iteration,
        planned_iterations=trainer.planned_iterations,
        teacher_accuracy=final.teacher_accuracy if final else None,
        student_accuracy_final=final.student_accuracy if final else None,
        student_accuracy_best=best,
        agreement_final=final.agreement if final else None,
        averaged_accuracy_final=averaged_final,
        averaged_accuracy_best=averaged_best,
        best_student=Best(**described) if described else None,
        held_out_images=generated.images if generated else None,
        discrepancy_generated=generated.discrepancy if generated else None,
        agreement_generated=generated.agreement if generated else None,
        sign_agreement_generated=generated.sign_agreement if generated else {},
        classes=networks.classes,
        classes_generated=generated.balance.covered if generated else None,
        effective_classes_generated=generated.balance.effective if generated else None,
        entropy_generated=generated.balance.entropy if generated else None,
        variety_generated=generated.variety if generated else None,
        notices=notices,
        teacher_parameters=sum(p.numel() for p in networks.teacher.parameters()),
        student_parameters=sum(p.numel() for p in networks.student.parameters()),
        generated_images=trainer.generated_images,
        seconds_distill=round(trainer.seconds, 2),
        device=device_name(trainer.device),
        threads=torch.get_num_threads(),
        processes=processes.count(),
        versions=versions(),
    )
    return collectives.on_first(lambda: own_summary)


def _notices(generated: GeneratedScores) -> list[str]:
    """What makes the figures on generated images say little, a line each."""
    label, share = generated.balance.most_frequent
    if generated.variety < _ALIKE:
        found = f"the {generated.images:,} held-out generated images are nearly all alike"
    elif share >= _COLLAPSED:
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


def _averaged(trainer: DFADTrainer, final: float | None) -> tuple[float, float] | tuple[None, None]:
    """The averaged student's accuracies, final and best, where there is one and images to test it on."""
    if final is None:
        return None, None
    seen = [record["averaged_accuracy"] for record in trainer.history if "averaged_accuracy" in record]
    return final, max([final, *seen])


class Labelled(NamedTuple):
    """Generated images [N, C, H, W] from 0 to 1 on the CPU, shrunk where they are large, and the teacher's and the
    student's labels [N]. ``size``: their height and width before that."""

    images: Tensor
    teacher: Tensor
    student: Tensor
    size: tuple[int, int]


@torch.no_grad()
def label_samples(trainer: DFADTrainer, count: int = _SHOWN_IMAGES) -> Labelled:
    """Generated images, always of the same noise. Changes nothing of the run.

    All of several processes ask the networks, since the teacher may be sharded over them.
    """
    shown, teacher, student = [], [], []
    trainer.networks.teacher.eval()
    trainer.networks.student.eval()
    # A network of the user's may draw from the global sources of randomness even here.
    with undisturbed(trainer.device):
        for batch in trainer.held_out_batches(count):
            bright = pictures.brightness(batch, trainer.normalisation)
            shown.append(pictures.shrink(bright).cpu())
            teacher.append(ask(trainer.networks.teacher, batch).argmax(1).cpu())
            student.append(ask(trainer.networks.student, batch).argmax(1).cpu())
    _, height, width = trainer.image_shape
    return Labelled(torch.cat(shown), torch.cat(teacher), torch.cat(student), (height, width))


def try_to_label_samples(trainer: DFADTrainer, count: int = _SHOWN_IMAGES) -> Labelled | None:
    """Warns where a network raises: pictures are no reason to lose a run."""
    attempts = Attempts()
    samples = attempts.attempt("generated images", lambda: label_samples(trainer, count), together=True)
    if attempts.failures:
        warnings.warn(f"not drawn: {attempts}", DFADFastWarning, stacklevel=2)
    return samples


def draw(trainer: DFADTrainer, folder: RunFolder, summary: Summary, samples: Labelled | None) -> None:
    """Writes samples.png, curves.png, the last sheet of samples/ and the page, and tells the loggers. Warns in one line
    of those that cannot be written."""
    attempts = Attempts()
    if samples is not None:
        attempts.attempt(
            layout.SAMPLES,
            lambda: folder.write_picture(layout.SAMPLES, lambda path: pictures.draw_samples(path, *samples)),
        )
        attempts.attempt(f"{layout.SHEETS}/", lambda: _keep_sheet(trainer, folder, samples))
    attempts.attempt(
        layout.CURVES,
        lambda: folder.write_picture(
            layout.CURVES, lambda path: pictures.draw_curves(path, trainer.history, summary)
        ),
    )
    trainer.loggers.summary(summary.as_data())
    attempts.attempt(layout.REPORT, lambda: write_page(folder.path))
    if attempts.failures:
        warnings.warn(f"not written in {folder.path}: {attempts}", DFADFastWarning, stacklevel=2)


def draw_sheet(trainer: DFADTrainer, folder: RunFolder, samples: Labelled) -> None:
    """Writes the sheet of this moment to samples/. One that cannot be written does not end the run."""
    attempts = Attempts()
    attempts.attempt(f"{layout.SHEETS}/", lambda: _keep_sheet(trainer, folder, samples))
    if attempts.failures:
        warnings.warn(
            f"not written in {folder.path}: {attempts}; training goes on without it",
            DFADFastWarning,
            stacklevel=2,
        )


def _keep_sheet(trainer: DFADTrainer, folder: RunFolder, samples: Labelled) -> None:
    sheet = sheets.lay_out(*samples[:3], trainer.iteration, trainer.generated_images)
    folder.write_sheet(sheet)
    trainer.loggers.images(trainer.iteration, sheet.grid())
