"""What comes out of a run: its summary and its pictures."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from dfad_fast import processes
from dfad_fast.errors import DFADFastWarning, RunError
from dfad_fast.terms import reads_features
from dfad_fast.training import pictures, run_folder, sheets
from dfad_fast.training.environment import device_name, versions
from dfad_fast.training.evaluation import TestSet, generated_scores
from dfad_fast.training.run_folder import RunFolder

if TYPE_CHECKING:
    from dfad_fast.training.trainer import DFADTrainer

_HELD_OUT_IMAGES = 1024
_SHOWN_IMAGES = 64


def summarise(trainer: DFADTrainer, test_set: TestSet | None) -> dict[str, Any]:
    """What came out, as plain values. Accuracies are fractions; None without test images."""
    networks = trainer.networks
    generated = generated_scores(
        networks,
        trainer.sample(_HELD_OUT_IMAGES),
        trainer.batch_size // processes.count(),
        connectors_trained=reads_features(trainer.method.student),
    )
    final = test_set.scores(networks.student) if test_set else None
    best = trainer.best_accuracy
    if final:
        best = max(final.student_accuracy, best or 0.0)
    return {
        "method": trainer.method.name,
        "seed": trainer.seed,
        "iterations": trainer.iteration,
        "planned_iterations": trainer.planned_iterations,
        "teacher_accuracy": final and final.teacher_accuracy,
        "student_accuracy_final": final and final.student_accuracy,
        "student_accuracy_best": best,
        "agreement_final": final and final.agreement,
        **_averaged(trainer, test_set),
        "discrepancy_generated": generated.discrepancy,
        "agreement_generated": generated.agreement,
        "sign_agreement_generated": generated.sign_agreement,
        "teacher_parameters": sum(p.numel() for p in networks.teacher.parameters()),
        "student_parameters": sum(p.numel() for p in networks.student.parameters()),
        "generated_images": trainer.generated_images,
        "seconds_distill": round(trainer.seconds, 2),
        "device": device_name(trainer.device),
        "threads": torch.get_num_threads(),
        "processes": processes.count(),
        "versions": versions(),
    }


def _averaged(trainer: DFADTrainer, test_set: TestSet | None) -> dict[str, float]:
    """The averaged student's accuracies, where there is one and images to test it on."""
    if trainer.averaged_student is None or test_set is None:
        return {}
    final = test_set.scores(trainer.averaged_student).student_accuracy
    seen = [record["averaged_accuracy"] for record in trainer.history if "averaged_accuracy" in record]
    return {"averaged_accuracy_final": final, "averaged_accuracy_best": max([final, *seen])}


class Labelled(NamedTuple):
    """Generated images [N, C, H, W] from 0 to 1, and the teacher's and the student's labels [N]."""

    images: Tensor
    teacher: Tensor
    student: Tensor


@torch.no_grad()
def label_samples(trainer: DFADTrainer, count: int = _SHOWN_IMAGES) -> Labelled:
    """Generated images, always of the same noise. Changes nothing of the run.

    Of several processes all ask the networks, since the teacher may be sharded over them.
    """
    # A network of the user's may draw from torch's global generator even here.
    with torch.random.fork_rng(devices=[trainer.device] if trainer.device.type == "cuda" else []):
        images = trainer.sample(count)
        teacher, student = (
            network.eval()(images).argmax(1)
            for network in (trainer.networks.teacher, trainer.networks.student)
        )
    return Labelled(pictures.brightness(images, trainer.normalisation), teacher, student)


def draw(trainer: DFADTrainer, folder: RunFolder, summary: dict[str, Any], samples: Labelled) -> None:
    """Writes samples.png, curves.png and the last sheet of samples/."""
    folder.write_picture(run_folder.SAMPLES, lambda path: pictures.draw_samples(path, *samples))
    folder.write_picture(run_folder.CURVES, lambda path: pictures.draw_curves(path, trainer.history, summary))
    _keep_sheet(trainer, folder, samples)


def draw_sheet(trainer: DFADTrainer, folder: RunFolder, samples: Labelled) -> None:
    """Writes the sheet of this moment to samples/. A full disk does not end the run."""
    try:
        _keep_sheet(trainer, folder, samples)
    except RunError as error:
        warnings.warn(f"{error}; training goes on without it", DFADFastWarning, stacklevel=2)


def _keep_sheet(trainer: DFADTrainer, folder: RunFolder, samples: Labelled) -> None:
    sheet = sheets.lay_out(*samples, trainer.iteration, trainer.generated_images)
    folder.write_sheet(sheet)
    trainer.loggers.images(trainer.iteration, sheets.grid(sheet))
