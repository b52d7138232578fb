"""Black-box teachers as the command line names them: an address, or a network whose answers alone are used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from dfad_fast.data import Dataset
from dfad_fast.errors import UsageError
from dfad_fast.jobs.settings import DistillSettings
from dfad_fast.jobs.teachers import Teacher
from dfad_fast.models.black_box import BlackBoxTeacher, HTTPEndpoint
from dfad_fast.models.black_box.endpoint import TOKEN
from dfad_fast.models.reading.answers import find_logits
from dfad_fast.models.reading.check import as_image_shape, device_of


def refuse_unused(settings: DistillSettings) -> None:
    """Raises UsageError for settings of a black box where there is none, and for two teachers."""
    if settings.teacher_url and (settings.teacher or settings.teacher_weights):
        raise UsageError("--teacher-url and --teacher name two teachers: give one of them")
    if settings.teacher_url and (settings.teacher_count > 1 or settings.ensemble_weights):
        raise UsageError("--teacher-url names a single teacher: average several teachers in the server")
    if settings.query_budget is not None and not (settings.teacher_url or settings.teacher_answers):
        raise UsageError(
            "--query-budget is for a black-box teacher: give --teacher-url, or --teacher-answers"
        )


def behind_address(settings: DistillSettings, dataset: Dataset | None) -> Teacher:
    """The teacher at ``settings.teacher_url``, which is not queried yet.

    Raises UsageError for a URL with a query string, which often holds secrets: config.yaml would record it.
    """
    shape = settings.image_shape or (dataset.image_shape if dataset else None)
    classes = settings.classes or (len(dataset.classes) if dataset else None)
    if shape is None or classes is None:
        raise UsageError(
            "--teacher-url needs the shape of the images and the number of classes: --image-shape "
            "CHANNELS,HEIGHT,WIDTH and --classes N, or --dataset"
        )
    assert settings.teacher_url is not None
    if "?" in settings.teacher_url or "#" in settings.teacher_url:
        raise UsageError(
            f"--teacher-url has a query string (?...), which the run would record: put a token into {TOKEN}, or pass "
            "the URL to HTTPEndpoint in Python"
        )
    endpoint = HTTPEndpoint(settings.teacher_url, settings.query_timeout, settings.query_retries)
    return Teacher(
        _black_box(endpoint, settings, classes), as_image_shape(shape), origin=settings.teacher_url
    )


def shut(teacher: Teacher, settings: DistillSettings, classes: int) -> Teacher:
    """The same teacher, of which nothing is left but its answers."""
    answer = _answering(teacher.network.eval(), settings.teacher_answers or "auto")
    return replace(teacher, network=_black_box(answer, settings, classes))


def _black_box(
    ask: Callable[[Tensor], Any] | HTTPEndpoint, settings: DistillSettings, classes: int
) -> nn.Module:
    return BlackBoxTeacher(
        ask,
        classes,
        settings.teacher_answers or "auto",
        query_budget=settings.query_budget,
        max_batch=settings.query_batch,
    )


def _answering(network: nn.Module, kind: str) -> Callable[[Tensor], Tensor]:
    device = device_of(network)

    def ask(images: Tensor) -> Tensor:
        logits = find_logits(network(images.to(device)), len(images))
        assert logits is not None  # its classes were counted before
        if kind == "labels":
            return logits.argmax(1)
        return torch.softmax(logits.float(), 1) if kind == "probabilities" else logits.float()

    return ask
