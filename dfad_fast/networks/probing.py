"""Images shown to the three networks: what the teacher says to them, and the probes that terms read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from torch import Tensor, nn

from dfad_fast.models.ensemble import Ensemble, named_members, path_of_member
from dfad_fast.models.reading.batch_norm import LayerStatistics, over_processes, record_statistics
from dfad_fast.models.reading.check import device_of, noise_images
from dfad_fast.models.reading.taps import Tap, Taps
from dfad_fast.models.surgery.adapting import Needs
from dfad_fast.models.surgery.folding import Folded, fold_batch_norm
from dfad_fast.models.surgery.quick_layers import QuickLayers
from dfad_fast.networks.levers import PLAIN, Levers
from dfad_fast.networks.trio import Trio
from dfad_fast.precision import at_least_float32
from dfad_fast.terms import (
    Probe,
    Weighted,
    reads_contrast,
    reads_features,
    reads_last_stage,
    reads_statistics,
    reads_student,
)

Draws = Sequence[tuple[Tensor, ...]]
"""The random numbers of a step: for each row of its table, those that its term drew."""


@dataclass(frozen=True)
class TeacherView:
    """Logits [B, classes], and the features and statistics that the terms of the phase ask for.

    ``ask`` gives the logits of further images, with or without a graph as in this view.
    """

    logits: Tensor
    ask: Callable[[Tensor], Tensor]
    features: list[Tensor]
    last_stage: Tensor | None
    statistics: list[LayerStatistics]

    def detached(self, ask: Callable[[Tensor], Tensor]) -> TeacherView:
        """The same without a graph, with ``ask`` for further questions."""
        statistics = [
            replace(layer, mean=layer.mean.detach(), variance=layer.variance.detach())
            for layer in self.statistics
        ]
        return TeacherView(
            self.logits.detach(),
            ask,
            [x.detach() for x in self.features],
            None if self.last_stage is None else self.last_stage.detach(),
            statistics,
        )


@dataclass
class Passes:
    """Images that went through the teacher and through the student, those of this process."""

    teacher: int = 0
    student: int = 0


class Runner:
    """Calls ``network`` as the levers say.

    Compiled, it is used only where no hook has to see its inside; torch.compile chooses its convolutions itself. A
    network that has to have the usual layout, as its ``needs`` say, keeps torch's own kernels. Members of an ensemble
    are each treated as a network alone.
    """

    def __init__(
        self,
        network: nn.Module,
        levers: Levers,
        frozen: bool = False,
        what: str = "network",
        needs: Mapping[str, Needs] = MappingProxyType({}),
    ) -> None:
        self._network = network
        self._compiled: Callable[[Tensor], Tensor] | None = None
        if levers.compile:
            self._compiled = torch.compile(network, dynamic=False)
        self._layers: dict[str, QuickLayers] = {}
        for name, part in named_members(network, what):
            own = needs.get(name, Needs())
            self._layers[name] = QuickLayers(
                part,
                frozen=frozen,
                norms=levers.by_fused_norms and not own.contiguous,
                winograd=levers.by_winograd and not own.contiguous,
                direct=levers.by_direct_convolutions and not own.contiguous,
            )

    @contextmanager
    def with_kernels(self) -> Iterator[None]:
        """Around a whole step: a network that checkpoints its activations runs again in backward."""
        with ExitStack() as stack:
            for layers in self._layers.values():
                stack.enter_context(layers.used())
            yield

    def describe(self) -> dict[str, str]:
        """What computed the network's layers, by their kind; nothing where none ran."""
        described = {what: layers.describe() for what, layers in self._layers.items()}
        if len(described) == 1:
            return next(iter(described.values()))
        return {
            f"{what.partition(' ')[2]}'s {kind}": text
            for what, own in described.items()
            for kind, text in own.items()
        }

    def __call__(self, x: Tensor, hooked: bool = False) -> Tensor:
        return self._compiled(x) if self._compiled is not None and not hooked else self._network(x)


class Prober:
    """Runs the networks of ``trio`` in steps, as ``levers`` say.

    With ``fold_teacher`` a copy of the teacher with its batch norm folded answers in its place, where nobody asks for
    the statistics at those layers; ``folding`` says how that went. It follows no later change of the teacher.
    """

    def __init__(self, trio: Trio, levers: Levers = PLAIN) -> None:
        self.trio = trio
        self.passes = Passes()
        """All so far."""
        self._one_student_batch = levers.one_student_batch
        teacher, student, generator = trio.teacher, trio.student, trio.generator
        taps = trio.matching.teacher_taps
        self._deepest = taps.index(trio.matching.last_stage) if trio.matching.last_stage else None
        self._teacher_taps = Taps(teacher, taps)
        self._student_taps = Taps(student, trio.matching.student_taps)
        as_it_is = trio.teacher_is_sharded or trio.teacher_is_black_box
        folds = levers.fold_teacher and not as_it_is
        self.folding = _fold(teacher, trio.image_shape, taps) if folds else None
        self.quick_teacher = self.folding.network if self.folding else teacher
        self._quick_teacher_taps = Taps(self.quick_teacher, taps)
        self._autocast, self._teacher_autocast = levers.autocast, levers.of_teacher.autocast
        self.device = device_of(student)
        if trio.synchronized:
            levers = replace(levers, fused_norms=False)
        self._runners = {
            generator: Runner(generator, levers),
            student: Runner(student, levers, False, "student", trio.needs),
        }
        for network in {teacher, self.quick_teacher}:
            own = PLAIN if as_it_is and network is teacher else levers.of_teacher
            self._runners[network] = Runner(network, own, True, "teacher", trio.needs)

    @property
    def _one_batch(self) -> bool:
        """Whether images and what terms made of them go through the student as one batch."""
        wanted = self._one_student_batch
        return not self.trio.student_depends_on_batch if wanted is None else wanted

    @property
    def notices(self) -> list[str]:
        """What could not be folded, in a line."""
        folding = self.folding
        return [f"teacher's batch norm layers: {folding}"] if folding and folding.kept else []

    def describe_kernels(self) -> list[str]:
        """What computes the layers of each network that ran, a line each."""
        trio, lines = self.trio, []
        names = {trio.teacher: "teacher", trio.student: "student", trio.generator: "generator"}
        if self.quick_teacher is not trio.teacher:
            names[self.quick_teacher] = "folded teacher"
        for network, name in names.items():
            lines += [f"{name}'s {kind}: {text}" for kind, text in self._runners[network].describe().items()]
        return lines

    @contextmanager
    def stepping(self) -> Iterator[None]:
        """Within it layers run by the kernels of the levers, and batch norm layers see the batch they are to see."""
        with ExitStack() as stack:
            for runner in self._runners.values():
                stack.enter_context(runner.with_kernels())
            for norms in self.trio.synchronized:
                stack.enter_context(norms.used())
            yield

    def mixed_precision(self) -> torch.autocast:
        """In it networks compute in halves, if that was asked for, and losses in float32."""
        return self._computing_in(self._autocast)

    def _computing_in(self, dtype: torch.dtype | None) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None)

    def generate(self, noise: Tensor, by: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Images [B, C, H, W] of noise [B, latent_dim]; ``by`` another generator than the trio's."""
        with self.mixed_precision():
            return self._runners[self.trio.generator](noise) if by is None else by(noise)

    def asker(
        self, graph: bool, statistics: bool = False, hooked: bool = False
    ) -> Callable[[Tensor], Tensor]:
        """Asks the teacher for its logits. ``graph``: whether gradients flow to the images through it, as the
        generator's phase needs them and the student's does not. ``statistics``: whether its batch norm layers run.
        ``hooked``: whether something inside of it is read."""
        run = self._runners[self.trio.teacher if statistics else self.quick_teacher]

        def ask(images: Tensor) -> Tensor:
            self.passes.teacher += len(images)
            if self._autocast and not self._teacher_autocast:
                images = at_least_float32(images)
            with torch.set_grad_enabled(graph), self._computing_in(self._teacher_autocast):
                # Losses are computed from float32 (or float64), whatever the network computed in.
                return at_least_float32(run(images, hooked))

        return ask

    def look(self, images: Tensor, rows: Sequence[Weighted], graph: bool) -> TeacherView:
        """Shows ``images`` to the teacher, with the features and statistics that ``rows`` ask for."""
        with_statistics = reads_statistics(rows)
        tapped = reads_features(rows) or reads_last_stage(rows)
        ask = self.asker(graph, with_statistics, hooked=with_statistics or tapped)
        taps = self._teacher_taps if with_statistics else self._quick_teacher_taps
        with ExitStack() as stack:
            features = stack.enter_context(taps.record()) if tapped else []
            statistics = []
            if with_statistics:
                statistics = stack.enter_context(record_statistics(self.trio.teacher, reads_contrast(rows)))
            logits = ask(images)
        if self._teacher_autocast != self._autocast:  # the student computes in another type
            features = [at_least_float32(x) for x in features]
        return TeacherView(
            logits,
            ask,
            features[: len(self.trio.tap_pairs)],
            features[self._deepest] if tapped and self._deepest is not None else None,
            over_processes(statistics),
        )

    def probe(
        self,
        images: Tensor,
        view: TeacherView,
        rows: Sequence[Weighted],
        draws: Draws,
        progress: float = 0.0,
        labels: Tensor | None = None,
        contrast: tuple[Tensor, Tensor] | None = None,
        decoded: tuple[Tensor, Tensor] | None = None,
    ) -> list[Probe]:
        """Shows ``images``, which the teacher has seen, to the student too; a probe for each row with its draws.

        What terms make of the images follows as batches of their own, or as one with the images.
        """
        virtual = [row.term.virtual_images(images, drawn) for row, drawn in zip(rows, draws, strict=True)]
        further = [x for x in virtual if x is not None]
        together = self._one_batch and bool(further)
        shown = torch.cat([images, *further]) if together else images
        if further or reads_student(rows):
            answer, features = self._ask_student(shown, len(images) if reads_features(rows) else 0)
        else:
            answer, features = view.logits[:0], []
        if together:
            student, *answers = answer.split(len(images))
        else:
            student, answers = answer, [self._ask_student(x, 0)[0] for x in further]
        shared = Probe(
            images=images,
            student=student,
            teacher=view.logits,
            ask_teacher=view.ask,
            ask_student=self._ask_student_changed,
            student_features=features,
            teacher_features=view.features,
            last_stage=view.last_stage,
            statistics=view.statistics,
            progress=progress,
            labels=labels,
            contrast=contrast,
            decoded=decoded,
        )
        remaining = iter(answers)
        return [
            replace(
                shared,
                draws=drawn,
                virtual_images=x,
                virtual_student=None if x is None else next(remaining),
                module=self.trio.module_of(row.term),
            )
            for row, drawn, x in zip(rows, draws, virtual, strict=True)
        ]

    def _ask_student(self, images: Tensor, features_of: int) -> tuple[Tensor, list[Tensor]]:
        """Logits, and the features of the first ``features_of`` images through their connectors."""
        run = self._runners[self.trio.student]
        self.passes.student += len(images)
        with self.mixed_precision():
            if not features_of:
                return at_least_float32(run(images)), []
            with self._student_taps.record() as tapped:
                logits = at_least_float32(run(images, hooked=True))
            return logits, [
                connect(x[:features_of]) for connect, x in zip(self.trio.connectors, tapped, strict=True)
            ]

    def _ask_student_changed(self, images: Tensor, path: str, change: Callable[[Tensor], Tensor]) -> Tensor:
        """Logits, the output of the student's submodule ``path`` having gone through ``change``."""
        student = self.trio.student
        self.passes.student += len(images)
        hook = student.get_submodule(path).register_forward_hook(lambda _, __, output: change(output))
        try:
            with self.mixed_precision():
                return at_least_float32(self._runners[student](images, hooked=True))
        finally:
            hook.remove()


def _fold(teacher: nn.Module, image_shape: tuple[int, int, int], taps: Sequence[Tap]) -> Folded:
    """Each member of an ensemble by itself, so that one that cannot be folded keeps no other from it."""
    images = noise_images(teacher, image_shape, 4)
    watched = [tap.path for tap in taps if tap.call is None]
    if not isinstance(teacher, Ensemble):
        return fold_batch_norm(teacher, images, watched)
    members = []
    for index, member in enumerate(teacher.members):
        inside = path_of_member(index)
        own = [path.removeprefix(inside) for path in watched if path.startswith(inside)]
        members.append(fold_batch_norm(member, images, own))
    folded, kept = sum(member.folded for member in members), sum(member.kept for member in members)
    if not folded:
        return Folded(teacher, 0, kept, members[0].reason)
    return Folded(teacher.with_members([member.network for member in members]).eval(), folded, kept)


@contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """No gradients for the parameters of ``modules`` inside the block; gradients to their inputs still flow."""
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
