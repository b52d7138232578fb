"""Shows images to the three networks: the teacher's answers, and the probes that terms read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
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
from dfad_fast.precision import at_least_float32, without_tensor_float32
from dfad_fast.terms import (
    Probe,
    Weighted,
    reads_attention,
    reads_contrast,
    reads_features,
    reads_last_stage,
    reads_statistics,
    reads_student,
)

Draws = Sequence[tuple[Tensor, ...]]
"""The random numbers of a step: what each row's term drew."""


@dataclass(frozen=True)
class TeacherView:
    """Logits [B, classes], and the features, statistics and tokens that the phase's terms read.

    ``ask`` returns the logits of further images, with or without a graph as in this view.
    """

    logits: Tensor
    ask: Callable[[Tensor], Tensor]
    features: list[Tensor]
    last_stage: Tensor | None
    statistics: list[LayerStatistics]
    attention: list[Tensor] = field(default_factory=list)

    def detached(self, ask: Callable[[Tensor], Tensor]) -> TeacherView:
        """The same for the student's phase: without a graph and the tokens, with ``ask`` for further images."""
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
    """How many images of this process went through the teacher and the student."""

    teacher: int = 0
    student: int = 0


class Runner:
    """Runs ``network`` as the levers say.

    The compiled network runs only if no hook reads inside it; torch.compile chooses its own convolutions. A network
    whose ``needs`` require the default layout keeps torch's own kernels. Each member of an ensemble is treated as a
    separate network.
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
        """Wraps a whole step, because a network that checkpoints its activations runs again in backward."""
        with ExitStack() as stack:
            for layers in self._layers.values():
                stack.enter_context(layers.used())
            yield

    def describe(self) -> dict[str, str]:
        """The kernels that computed the network's layers, by kind; empty if no layer ran."""
        described = {what: layers.describe() for what, layers in self._layers.items()}
        if len(described) == 1:
            return next(iter(described.values()))
        return {
            f"{what.partition(' ')[2]}'s {kind}": text
            for what, own in described.items()
            for kind, text in own.items()
        }

    def __call__(self, x: Tensor, hooked: bool = False) -> Tensor:
        """The network's answer to ``x``; with ``hooked`` not from compiled code, in which no hook runs."""
        return self._compiled(x) if self._compiled is not None and not hooked else self._network(x)


class Prober:
    """Runs the networks of ``trio`` in each step, as ``levers`` say.

    With ``fold_teacher`` a copy of the teacher with folded batch norm answers in its place, unless a term reads the
    statistics at those layers; ``folding`` reports the result. Later changes to the teacher do not reach the copy.
    """

    def __init__(self, trio: Trio, levers: Levers = PLAIN) -> None:
        self.trio = trio
        self.passes = Passes()
        """The totals so far."""
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
        """Whether images and the terms' mixtures of them go through the student as one batch."""
        wanted = self._one_student_batch
        return not self.trio.student_depends_on_batch if wanted is None else wanted

    @property
    def notices(self) -> list[str]:
        """One line that names what could not be folded, if anything."""
        folding = self.folding
        return [f"teacher's batch norm layers: {folding}"] if folding and folding.kept else []

    def describe_kernels(self) -> list[str]:
        """The kernels that compute each network's layers, one line each."""
        trio, lines = self.trio, []
        names = {trio.teacher: "teacher", trio.student: "student", trio.generator: "generator"}
        if self.quick_teacher is not trio.teacher:
            names[self.quick_teacher] = "folded teacher"
        for network, name in names.items():
            lines += [f"{name}'s {kind}: {text}" for kind, text in self._runners[network].describe().items()]
        return lines

    @contextmanager
    def stepping(self) -> Iterator[None]:
        """Inside the block, layers use the levers' kernels, and synchronized batch norm sees the whole batch."""
        with ExitStack() as stack:
            for runner in self._runners.values():
                stack.enter_context(runner.with_kernels())
            for norms in self.trio.synchronized:
                stack.enter_context(norms.used())
            yield

    def mixed_precision(self) -> torch.autocast:
        """Inside it networks compute in half precision, if requested, and losses in float32."""
        return self._computing_in(self._autocast)

    @property
    def narrower(self) -> torch.dtype | None:
        """What the teacher, or else the other networks, compute in where that is not their own type."""
        return self._teacher_autocast or self._autocast

    @contextmanager
    def in_float32(self) -> Iterator[None]:
        """Within it no network computes in halves or in TensorFloat-32, whatever the levers say."""
        before = self._autocast, self._teacher_autocast
        self._autocast = self._teacher_autocast = None
        try:
            with without_tensor_float32():
                yield
        finally:
            self._autocast, self._teacher_autocast = before

    def _computing_in(self, dtype: torch.dtype | None) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None)

    def generate(self, noise: Tensor, by: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Images [B, C, H, W] from noise [B, latent_dim], by the trio's generator or by ``by``."""
        with self.mixed_precision():
            return self._runners[self.trio.generator](noise) if by is None else by(noise)

    def asker(
        self, graph: bool, unfolded: bool = False, hooked: bool = False, of: nn.Module | None = None
    ) -> Callable[[Tensor], Tensor]:
        """Returns a function that runs the teacher and returns its logits.

        ``graph``: whether gradients flow through it to the images, which the generator's phase needs and the student's
        does not. ``unfolded``: whether its batch norm layers run. ``hooked``: whether hooks read inside it. ``of``: the
        only member of an ensemble to run.
        """
        run = self._runners[self.trio.teacher if unfolded else self.quick_teacher]

        def ask(images: Tensor) -> Tensor:
            self.passes.teacher += len(images)
            if self._autocast and not self._teacher_autocast:
                images = at_least_float32(images)
            with torch.set_grad_enabled(graph), self._computing_in(self._teacher_autocast):
                # Losses are computed from float32 (or float64), whatever type the network used.
                return at_least_float32(run(images, hooked) if of is None else of(images))

        return ask

    def look(self, images: Tensor, rows: Sequence[Weighted], graph: bool) -> TeacherView:
        """Runs the teacher on ``images`` and keeps the features, statistics and tokens that ``rows`` read."""
        with_statistics, with_attention = reads_statistics(rows), reads_attention(rows)
        tapped, unfolded = reads_features(rows) or reads_last_stage(rows), with_statistics or with_attention
        ask = self.asker(graph, unfolded, hooked=unfolded or tapped)
        taps = self._teacher_taps if unfolded else self._quick_teacher_taps
        with ExitStack() as stack:
            features = stack.enter_context(taps.record()) if tapped else []
            attention: list[Tensor] = []
            if with_attention:
                tokens = Taps(self.trio.teacher, self.trio.attention)
                attention = stack.enter_context(tokens.record())
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
            attention,
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
        """Runs the student on ``images``, which the teacher has seen; returns a probe for each row with its draws.

        The terms' mixtures of the images follow as separate batches, or in one batch with the images.
        """
        modules = [self.trio.module_of(row.term) for row in rows]
        draws = [
            row.term.prepare(images, drawn, module)
            for row, drawn, module in zip(rows, draws, modules, strict=True)
        ]
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
            attention=view.attention,
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
                module=module,
            )
            for module, drawn, x in zip(modules, draws, virtual, strict=True)
        ]

    def _ask_student(self, images: Tensor, features_of: int) -> tuple[Tensor, list[Tensor]]:
        """Logits, and the connectors' output for the first ``features_of`` images."""
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
        """Logits, with the output of the student's submodule ``path`` replaced by ``change`` of it."""
        student = self.trio.student
        self.passes.student += len(images)
        hook = student.get_submodule(path).register_forward_hook(lambda _, __, output: change(output))
        try:
            with self.mixed_precision():
                return at_least_float32(self._runners[student](images, hooked=True))
        finally:
            hook.remove()


def _fold(teacher: nn.Module, image_shape: tuple[int, int, int], taps: Sequence[Tap]) -> Folded:
    """Folds each member of an ensemble separately, so that one that cannot be folded does not block the others."""
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
    """Inside the block the parameters of ``modules`` get no gradients; gradients still flow to their inputs."""
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
