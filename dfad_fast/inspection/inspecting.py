"""All measures of a run, on real or generated images."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dfad_fast.engine.evaluation import sign_agreement
from dfad_fast.environment import device_name, versions
from dfad_fast.errors import RunError, UsageError
from dfad_fast.inspection.calibration import Calibration, calibration
from dfad_fast.inspection.lines import Lines, compare_on_lines, draw_pairs
from dfad_fast.inspection.similarity import FEWEST_IMAGES, MinibatchCKA
from dfad_fast.jobs.trained_run import TrainedRun
from dfad_fast.models.reading.taps import Taps
from dfad_fast.networks.balance import ClassBalance, class_balance
from dfad_fast.runs.layout import CHECKPOINT, GENERATOR

Images = Literal["real", "generated"]
_BATCH = 128  # also that of the minibatch CKA


@dataclass(frozen=True)
class Stage:
    """One stage of the teacher and the student's that is compared to it, by their taps."""

    teacher: str
    student: str
    cka: float
    """That of the pre-activations, without any connector."""
    sign_agreement: float | None
    """Through the stage's connector; None where that was not trained, or was not saved."""


@dataclass(frozen=True)
class Labeled:
    """One network on the test images."""

    accuracy: float
    calibration: Calibration


@dataclass(frozen=True)
class Inspection:
    """How alike teacher and student are. Fractions are from 0 to 1; NaN is what is not defined.

    ``agreement``, ``stages`` and ``lines`` are about ``compared`` images of the kind ``images``; ``teacher`` and
    ``student`` about ``labeled`` test images, None where there are none; ``balance`` about ``generated`` ones,
    None where there is no generator. ``missing`` says what could not be measured and why, a line each.
    """

    run: str
    method: str
    run_seed: int
    iteration: int | None
    planned_iterations: int | None
    dataset: str | None
    images: Images
    compared: int
    labeled: int
    generated: int
    seed: int
    teacher: Labeled | None
    student: Labeled | None
    agreement: float
    stages: list[Stage]
    lines: Lines
    balance: ClassBalance | None
    missing: list[str]
    device: str
    versions: dict[str, str]
    best_iteration: int | None = None
    """That of the student, where it is the best one and not the last."""

    def as_data(self) -> dict[str, Any]:
        """Everything, as plain values that JSON knows: None for NaN."""
        data = asdict(self)
        data["lines"].update(mean_agreement=self.lines.mean_agreement, mean_l1=self.lines.mean_l1)
        return _without_nan(data)


@torch.no_grad()
def inspect(run: TrainedRun, images: Images, samples: int, bins: int, seed: int) -> Inspection:
    """Measures ``run`` on up to ``samples`` images of each kind, drawn by ``seed``: the same again for the same seed.

    Args:
        run: the run's networks and images.
        images: the kind on which the networks are compared.
        samples: the most images of each kind.
        bins: of the calibration error.
        seed: of the draw of images and pairs.

    Raises:
        UsageError: numbers that make no measure, or images of a kind that the run does not have.
        RunError: a network returns NaN or inf, so nothing can be measured.
    """
    for name, value, least in (("samples", samples, FEWEST_IMAGES), ("bins", bins, 1), ("seed", seed, 0)):
        if value < least:
            raise UsageError(f"--{name} must be at least {least}, got {value}")
    if images == "generated" and not run.makes_images:
        raise UsageError(
            f"{run.folder} holds no generator to generate images with: use real ones, with --images real "
            "--dataset NAME"
        )
    if images == "real" and run.test_set is None:
        raise UsageError("the run names no dataset: give one with --dataset, or --images generated")
    real, labels = run.real(samples, seed) if run.test_set else (None, None)
    generated, missing = None, []
    if run.makes_images:
        try:
            generated = run.generated(samples, seed)
        except UsageError as error:  # of a source whose file is gone, such as a record
            if images == "generated":
                raise
            missing.append(f"class balance of generated images: {error}")
    else:
        missing.append(
            f"class balance of generated images: {run.folder} holds no {GENERATOR} and no {CHECKPOINT}"
        )
    compared = real if images == "real" else generated
    assert compared is not None
    if len(compared) < FEWEST_IMAGES:
        raise UsageError(f"at least {FEWEST_IMAGES} images are needed, the test set has {len(compared)}")
    teacher, student, stages = _compare(run, compared)
    source = torch.Generator().manual_seed(seed)
    first, second = draw_pairs(teacher.argmax(1), source)
    networks = run.networks
    if run.test_set is None:
        missing.append(f"accuracy and calibration: {run.no_test_set}")
    if not len(first):
        missing.append("agreement on lines: the teacher puts all images into one class")
    unsigned = [stage.teacher for stage in stages if stage.sign_agreement is None]
    if unsigned:
        missing.append(
            f"sign agreement of {', '.join(unsigned)}: the student is narrower there and no connector was trained "
            "with it, or none is saved"
        )
    if not stages:
        missing.append("CKA and sign agreement: no stage of the student matches one of the teacher")
    return Inspection(
        run=str(run.folder),
        method=run.method,
        run_seed=run.seed,
        iteration=run.iteration,
        planned_iterations=run.planned_iterations,
        dataset=run.test_set.name if run.test_set else None,
        images=images,
        compared=len(compared),
        labeled=0 if real is None else len(real),
        generated=0 if generated is None else len(generated),
        seed=seed,
        teacher=_labeled(networks.teacher, "teacher", real, labels, bins),
        student=_labeled(networks.student, "student", real, labels, bins),
        agreement=(teacher.argmax(1) == student.argmax(1)).double().mean().item(),
        stages=stages,
        lines=compare_on_lines(networks.teacher, networks.student, compared[first], compared[second], _BATCH),
        balance=None
        if generated is None
        else class_balance(_ask(networks.teacher, "teacher", generated).argmax(1), networks.classes),
        missing=missing,
        device=device_name(run.device),
        versions=versions(),
        best_iteration=run.best_iteration,
    )


def _compare(run: TrainedRun, images: Tensor) -> tuple[Tensor, Tensor, list[Stage]]:
    """Both networks' logits [N, classes], and how alike their stages are."""
    networks = run.networks
    pairs = networks.tap_pairs
    teacher_taps = Taps(networks.teacher, [t for t, _ in pairs])
    student_taps = Taps(networks.student, [s for _, s in pairs])
    cka = [MinibatchCKA() for _ in pairs]
    signs = [0.0 for _ in pairs]
    with_signs = [run.connectors_trained or isinstance(c, nn.Identity) for c in networks.connectors]
    answers: list[tuple[Tensor, Tensor]] = []
    # Batches of about one size, since the minibatch CKA gives each the same weight.
    for batch in images.tensor_split(-(-len(images) // _BATCH)):
        with teacher_taps.record() as teacher_features, student_taps.record() as student_features:
            answers.append(
                (_ask(networks.teacher, "teacher", batch), _ask(networks.student, "student", batch))
            )
        share = len(batch) / len(images)
        for i, (t, s) in enumerate(zip(teacher_features, student_features, strict=True)):
            cka[i].add(t, s)
            if with_signs[i]:
                signs[i] += share * sign_agreement(networks.connectors[i](s), t)
    stages = [
        Stage(str(t), str(s), cka[i].value(), signs[i] if with_signs[i] else None)
        for i, (t, s) in enumerate(pairs)
    ]
    teacher, student = (torch.cat(logits) for logits in zip(*answers, strict=True))
    return teacher, student, stages


def _labeled(
    network: nn.Module, name: str, images: Tensor | None, labels: Tensor | None, bins: int
) -> Labeled | None:
    if images is None or labels is None:
        return None
    logits = _ask(network, name, images)
    right = (logits.argmax(1) == labels).double().mean().item()
    return Labeled(right, calibration(logits, labels, bins))


def _ask(network: nn.Module, name: str, images: Tensor) -> Tensor:
    """Logits [N, classes]. Raises RunError if not all are finite."""
    logits = torch.cat([network(batch) for batch in images.split(_BATCH)])
    bad = int((~logits.isfinite()).any(1).sum())
    if bad:
        raise RunError(
            f"the {name} returns NaN or inf for {bad} of {len(images)} images, so nothing can be measured: check its "
            "weights, and --mean and --std of the run"
        )
    return logits


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(held) for held in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
