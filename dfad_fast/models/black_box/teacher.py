"""``BlackBoxTeacher``: a teacher that is a callable, in the place of a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dfad_fast.errors import DFADFastError, RunError, UsageError, first_line, unknown_name, with_kind
from dfad_fast.models.black_box.answers import ANSWERS, as_logits, check_answers
from dfad_fast.models.black_box.endpoint import HTTPEndpoint
from dfad_fast.models.black_box.queries import Queries, image_key
from dfad_fast.terminal import printable


class BlackBoxTeacher(nn.Module):
    """Maps images [B, C, H, W] to logits [B, classes] float32 without a graph, by what a callable answers.

    Each image is asked about once: its answer is kept, by the exact image. Nothing is asked before a run's first step,
    nor for evaluations and pictures.

    Args:
        ask: gets images [N, C, H, W], float32, in the teacher's normalized input space, where the student is, and
            gives a tensor or array: [N, classes] logits or probabilities, or [N] hard labels. Any callable, such as a
            TorchScript module, an :class:`OnnxSession` or an :class:`HTTPEndpoint`.
        classes: the number of classes.
        answers: ``logits``, ``probabilities``, ``labels``, or ``auto``, by the first answers. Hard labels must be named
            here, since they decide what the student's objective is.
        query_budget: the most images that are sent, in all; None without a limit.
        max_batch: the most images in one request.

    Raises:
        UsageError: for a kind of answers that is unknown, and numbers that are out of range.
        QueryBudgetSpent: in a forward pass, for images that are more than the budget has left. None is sent.
        RunError: in a forward pass, for an answer of another shape or kind, for NaN or infinite numbers, and where
            the callable raises.
    """

    def __init__(
        self,
        ask: Callable[[Tensor], Any] | HTTPEndpoint,
        classes: int,
        answers: str = "auto",
        *,
        query_budget: int | None = None,
        max_batch: int = 256,
    ) -> None:
        super().__init__()
        if not callable(ask):
            raise UsageError(
                f"a black-box teacher is a callable, got {type(ask).__name__}: give a function of images"
            )
        if answers not in ANSWERS:
            raise unknown_name("kind of answers", answers, ANSWERS)
        for name, value, least in (
            ("classes", classes, 2),
            ("query_budget", query_budget, 1),
            ("max_batch", max_batch, 1),
        ):
            if value is not None and value < least:
                raise UsageError(f"{name} must be at least {least}, got {value}")
        # Inside a tuple no module of the caller's becomes a part of this one, with weights to be seen.
        self._ask = (ask,)
        self.classes = classes
        self.answers = answers
        self.max_batch = max_batch
        self.queries = Queries(query_budget, answers)

    @property
    def gives_labels(self) -> bool:
        """Whether it was said to answer hard labels."""
        return self.answers == "labels"

    def describe(self) -> dict[str, Any]:
        """What is recorded of it, and compared where a run is resumed. The budget may change."""
        return {"classes": self.classes, "answers": self.answers, "max_batch": self.max_batch}

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, classes] of images [B, C, H, W]; only images without an answer are sent.

        Raises QueryBudgetSpent if more images are new than the budget has left, and RunError for hard labels that were
        not announced.
        """
        shown = images.detach().float().contiguous()
        keys = [image_key(image) for image in shown.cpu().numpy()]
        missing = self.queries.unanswered(keys)
        asked = list(missing)
        for start in range(0, len(asked), self.max_batch):
            part = asked[start : start + self.max_batch]
            self._request(part, shown[[missing[key] for key in part]])
        rows = torch.from_numpy(self.queries.answers(keys)).to(images.device)
        kind = self.queries.kind
        if kind == "labels" and not self.gives_labels:
            raise RunError(
                "the teacher returned hard labels: set answers='labels' (--teacher-answers labels), since the "
                "student's terms depend on it"
            )
        return as_logits(rows, kind or self.answers, self.classes)

    def _request(self, keys: Sequence[bytes], images: Tensor) -> None:
        request = self.queries.send(keys)
        (ask,) = self._ask
        try:
            with torch.autocast(images.device.type, enabled=False):
                answer = (
                    ask.answer(images.cpu().numpy(), request)
                    if isinstance(ask, HTTPEndpoint)
                    else ask(images)
                )
        except DFADFastError:
            raise
        except Exception as error:  # of any kind: it is the user's code
            said = printable(with_kind(error, first_line(error, 200)))
            raise RunError(
                f"the black-box teacher failed on images {list(images.shape)} ({said}): fix it, then resume the run"
            ) from error
        rows, kind = check_answers(answer, len(keys), self.classes, self.queries.kind or self.answers)
        self.queries.receive(request, rows, kind)


def is_black_box(network: nn.Module) -> bool:
    """Whether ``network`` is a teacher that only gives answers."""
    return isinstance(network, BlackBoxTeacher)


def refuse_hidden_black_box(network: nn.Module, what: str) -> None:
    """Raises UsageError if ``network`` contains a black box.

    The black box would be queried like a network, repeatedly and for images that no step learns from.
    """
    if any(is_black_box(module) for module in network.modules() if module is not network):
        raise UsageError(
            f"the {what} is a module that contains a BlackBoxTeacher, whose queries nothing would limit: pass the "
            "BlackBoxTeacher itself, and move the code around it into its callable"
        )
