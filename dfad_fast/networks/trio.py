"""Teacher, student and generator of a run, with the modules trained beside the student."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from dfad_fast.models.black_box import is_black_box
from dfad_fast.models.ensemble import Ensemble, named_members
from dfad_fast.models.generators.conditional import ConditionalGenerator
from dfad_fast.models.reading.attention import find_attention
from dfad_fast.models.reading.check import depends_on_batch, device_of, example_images, image_dtype
from dfad_fast.models.reading.taps import Tap
from dfad_fast.models.surgery.adapting import Needs
from dfad_fast.models.surgery.connectors import create_connector
from dfad_fast.models.surgery.layout import fitted
from dfad_fast.models.surgery.quick_layers import QuickLayers
from dfad_fast.models.surgery.sharding import is_sharded
from dfad_fast.models.surgery.sync_batch_norm import SynchronizedBatchNorms
from dfad_fast.models.surgery.wrappers import unwrapped
from dfad_fast.networks.levers import PLAIN, Levers
from dfad_fast.networks.matching import Matching, Names
from dfad_fast.networks.validation import classes_of_both, refuse_other_placement, refuse_untrainable
from dfad_fast.settings import RATE
from dfad_fast.terms import Term, Weighted, create_module, reads_features


class Trio:
    """The three networks, checked against each other.

    ``teacher`` and ``student`` are the given networks without wrappers such as DataParallel, or with the adapters of
    dfad_fast.models.surgery.adapting that ``needs`` lists. ``connectors`` map the student's features to the teacher's
    widths, one for each of ``tap_pairs``.

    Raises UsageError if the networks do not fit: images that a network cannot take, answers that are not logits,
    different numbers of classes, named taps that cannot be matched.

    Args:
        levers: decide whether convolutions use Winograd when the networks' layout is tested.
        sync_batch_norm: whether batch norm layers see the whole batch of several processes in a step.
        batch_size: images per batch in this process.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        generator: nn.Module,
        image_shape: tuple[int, int, int],
        taps_teacher: Names = None,
        taps_student: Names = None,
        levers: Levers = PLAIN,
        sync_batch_norm: bool = False,
        batch_size: int = 2,
    ) -> None:
        self.image_shape = image_shape
        self.generator = generator
        teacher, student = unwrapped(teacher), unwrapped(student)
        if not is_black_box(teacher):  # which accepts images on any device
            refuse_other_placement(teacher, student)
        self.classes = classes_of_both(teacher, student, image_shape)
        refuse_untrainable(student)

        def kernels(network: nn.Module) -> AbstractContextManager[None]:
            winograd, direct = levers.by_winograd, levers.by_direct_convolutions
            return QuickLayers(network, norms=False, winograd=winograd, direct=direct, alone=True).used()

        self.needs: dict[str, Needs] = {}
        """Keyed by the network's name in errors: ``student``, ``teacher``, or ``teacher's member 0`` in an ensemble."""
        # A teacher that is sharded over processes, see dfad_fast.models.surgery.sharding, runs as it is.
        self.teacher_is_sharded = is_sharded(teacher)
        self.teacher_is_black_box = is_black_box(teacher)
        if not (self.teacher_is_sharded or self.teacher_is_black_box):
            members = []
            for what, member in named_members(teacher):
                member, self.needs[what] = fitted(member, image_shape, what, batch_size, kernels=kernels)
                members.append(member)
            teacher = teacher.with_members(members) if isinstance(teacher, Ensemble) else members[0]
        student, self.needs["student"] = fitted(
            student, image_shape, "student", batch_size, trained=True, kernels=kernels
        )
        self.teacher = teacher
        self.student = student
        self.matching = Matching(teacher, student, image_shape, taps_teacher, taps_student)
        with torch.device("cpu"):  # whatever the default device is
            self.connectors = nn.ModuleList(create_connector(s, t) for t, s in self.tap_pairs)
        self._place(self.connectors)
        self.term_modules = nn.ModuleList()
        self._equipped: list[tuple[Term, nn.Module]] = []
        self.student_depends_on_batch = depends_on_batch(student, image_shape)
        self.sync_batch_norm = sync_batch_norm
        self.synchronized: list[SynchronizedBatchNorms] = []
        self.synchronize(student, generator, self.connectors)

    def _place(self, module: nn.Module) -> None:
        student = self.student
        module.to(device_of(student), image_dtype(student)).to(memory_format=torch.channels_last)

    @property
    def notices(self) -> list[str]:
        """The adapters that the networks needed, one line each."""
        lines = []
        for what, needs in self.needs.items():
            if needs.contiguous:
                lines.append(
                    f"the {what} does not give the same answers in channels_last: it gets the default layout, "
                    "which is slower"
                )
            if needs.own_images:
                lines.append(f"the {what} changes its images in place: it gets copies")
            if needs.logits:
                lines.append(
                    f"the {what} does not return logits [B, classes] alone: they are taken from its answer"
                )
        return lines

    def describe_ensemble(self) -> dict[str, Any] | None:
        """How the teacher's members are averaged, as plain values; None for a single network."""
        return self.teacher.describe() if isinstance(self.teacher, Ensemble) else None

    @property
    def tap_pairs(self) -> list[tuple[Tap, Tap]]:
        """Taps of the teacher and of the student whose features are compared."""
        return self.matching.pairs

    @cached_property
    def attention(self) -> list[Tap]:
        """The outputs of the teacher's attention modules."""
        return find_attention(self.teacher.eval(), example_images(self.teacher, self.image_shape))

    def equip(self, rows: Sequence[Weighted]) -> None:
        """Creates the ``term_modules`` that the terms of ``rows`` train beside the student, one for all equal terms."""
        for row in rows:
            if self.module_of(row.term) is not None:
                continue
            with torch.device("cpu"):
                made = create_module(row.term, self.matching.shapes, self.image_shape)
            if made is not None:
                if row.term.module_lr is not None:
                    RATE.refuse(f"{row.term.name}: module_lr", row.term.module_lr)
                self._place(made)
                self.synchronize(made)
                self._equipped.append((row.term, made))
                self.term_modules.append(made)

    @property
    def trained_apart(self) -> list[tuple[nn.Module, float]]:
        """The ``term_modules`` that the student's optimizer leaves out, each with its own rate."""
        return [(module, term.module_lr) for term, module in self._equipped if term.module_lr is not None]

    def module_of(self, term: Term) -> nn.Module | None:
        """The module created for ``term`` or for an equal one."""
        return next((module for equipped, module in self._equipped if equipped == term), None)

    def synchronize(self, *networks: nn.Module) -> None:
        """Makes these networks' batch norm layers see the whole batch in a step too, if ``sync_batch_norm`` is set."""
        if self.sync_batch_norm:
            self.synchronized += [SynchronizedBatchNorms(network) for network in networks]

    @property
    def beside_student(self) -> list[nn.Module]:
        """The modules that are trained with the student and then discarded."""
        return [self.connectors, self.term_modules]

    def read_by(self, rows: Sequence[Weighted]) -> list[nn.Module]:
        """The modules that a student's step with these terms trains."""
        return [self.student, *([self.connectors] if reads_features(rows) else []), self.term_modules]

    @property
    def is_conditional(self) -> bool:
        """Whether the generator takes labels."""
        return isinstance(self.generator, ConditionalGenerator)

    def labels_of(self, noise: Tensor) -> Tensor | None:
        """The labels that the generator gets with ``noise``; None for an unconditional generator."""
        return self.generator.labels_of(noise) if isinstance(self.generator, ConditionalGenerator) else None

    def set_modes(self, student: bool) -> None:
        """``student``: whether the student and the modules beside it are in train mode."""
        self.teacher.eval()
        self.generator.train()
        self.student.train(student)
        for module in self.beside_student:
            module.train(student)
