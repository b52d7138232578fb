"""The three networks of a run and what joins them: taps, connectors, and the probes that terms read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from dfad_fast.engine.exclusive import used_alone
from dfad_fast.engine.levers import PLAIN, Levers
from dfad_fast.engine.runner import Runner
from dfad_fast.errors import UsageError, unknown_name
from dfad_fast.models.generators.conditional import ConditionalGenerator
from dfad_fast.models.loading.programs import is_opaque
from dfad_fast.models.reading.batch_norm import LayerStatistics, over_processes, record_statistics
from dfad_fast.models.reading.check import (
    count_classes,
    depends_on_batch,
    device_of,
    example_images,
    image_dtype,
    noise_images,
)
from dfad_fast.models.reading.taps import Tap, Taps, find_taps, match_taps, named_taps
from dfad_fast.models.surgery.adapting import Needs
from dfad_fast.models.surgery.connectors import create_connector
from dfad_fast.models.surgery.convolutions import WinogradConvolutions
from dfad_fast.models.surgery.folding import Folded, fold_batch_norm
from dfad_fast.models.surgery.layout import fitted
from dfad_fast.models.surgery.sharding import is_sharded
from dfad_fast.models.surgery.sync_batch_norm import SynchronizedBatchNorms
from dfad_fast.models.surgery.wrappers import unwrapped
from dfad_fast.precision import at_least_float32
from dfad_fast.terms import (
    Probe,
    Term,
    Weighted,
    reads_features,
    reads_last_stage,
    reads_statistics,
    reads_student,
)

Draws = Sequence[tuple[Tensor, ...]]
"""The random numbers of a step: for each row of its table, those that its term drew."""


@dataclass(frozen=True)
class TeacherView:
    """What the teacher says to a batch of images."""

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


class Networks:
    """Teacher, student and generator, checked against each other.

    Raises UsageError where they do not fit: images that a network cannot take, answers that are no logits,
    different numbers of classes, named taps that cannot be matched. Taps that were found may match or not.

    During steps the networks run as ``levers`` say. With ``fold_teacher`` a copy of the teacher with its batch norm
    folded answers in its place, where nobody asks for the statistics at those layers; ``folding`` says how that
    went. It follows no later change of the teacher.

    ``teacher`` and ``student`` are the given ones, out of what was wrapped around them; or what answers for them where
    they need something around them, see dfad_fast.models.surgery.adapting, which ``needs`` tells.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        generator: nn.Module,
        image_shape: tuple[int, int, int],
        taps_teacher: Sequence[str] | None,
        taps_student: Sequence[str] | None,
        levers: Levers = PLAIN,
        sync_batch_norm: bool = False,
        batch_size: int = 2,
    ) -> None:
        self._image_shape = image_shape
        self.generator = generator
        teacher, student = unwrapped(teacher), unwrapped(student)
        _check_placement(teacher, student)
        self.classes = count_classes(teacher, image_shape, "teacher")
        student_classes = count_classes(student, image_shape, "student", modes=(True, False))
        if student_classes != self.classes:
            raise UsageError(
                f"the student answers with {student_classes} classes and the teacher with {self.classes}: "
                f"build the student with {self.classes} classes"
            )
        # A teacher that is sharded over processes, see dfad_fast.models.surgery.sharding, runs as it is.
        sharded = is_sharded(teacher)

        def kernels(network: nn.Module) -> AbstractContextManager[None]:
            return WinogradConvolutions(network).used() if levers.by_winograd else nullcontext()

        self.needs: dict[str, Needs] = {}
        if not sharded:
            teacher, self.needs["teacher"] = fitted(
                teacher, image_shape, "teacher", batch_size, kernels=kernels
            )
        student, self.needs["student"] = fitted(
            student, image_shape, "student", batch_size, trained=True, kernels=kernels
        )
        self.teacher = teacher
        self.student = student
        self._teacher_stages = _taps(teacher, image_shape, taps_teacher)
        self._student_stages = _taps(student, image_shape, taps_student)
        if (taps_teacher and is_opaque(teacher)) or (taps_student and is_opaque(student)):
            raise UsageError(self.describe_mismatch())
        if taps_teacher and taps_student and len(taps_teacher) != len(taps_student):
            raise UsageError(
                f"{len(taps_teacher)} taps are named for the teacher and {len(taps_student)} for the student: "
                "name as many for the one as for the other"
            )
        self.tap_pairs = match_taps(self._teacher_stages, self._student_stages)
        if len(self.tap_pairs) < len(taps_teacher or taps_student or ()):
            raise UsageError(self.describe_mismatch())
        with torch.device("cpu"):  # whatever the default is
            self.connectors = nn.ModuleList(create_connector(s, t) for t, s in self.tap_pairs)
        self.connectors.to(device_of(student), image_dtype(student)).to(memory_format=torch.channels_last)
        self.term_modules = nn.ModuleList()
        self._equipped: list[tuple[Term, nn.Module]] = []
        # Those of the pairs first, and the deepest of all, which need not have a match.
        teacher_taps = list(dict.fromkeys([*(t for t, _ in self.tap_pairs), *self._teacher_stages[-1:]]))
        self._deepest = teacher_taps.index(self._teacher_stages[-1]) if teacher_taps else None
        self._teacher_taps = Taps(teacher, teacher_taps)
        self._student_taps = Taps(student, [s for _, s in self.tap_pairs])
        self.folding = (
            _fold(teacher, image_shape, teacher_taps) if levers.fold_teacher and not sharded else None
        )
        self._quick_teacher = self.folding.network if self.folding else teacher
        self._quick_teacher_taps = Taps(self._quick_teacher, teacher_taps)
        self._autocast = levers.autocast
        self._device_type = device_of(student).type
        of_teacher, of_student = (
            replace(levers, winograd=False) if needs and needs.contiguous else levers
            for needs in (self.needs.get("teacher"), self.needs["student"])
        )
        self._runners = {generator: Runner(generator, levers), student: Runner(student, of_student)}
        for network in {teacher, self._quick_teacher}:
            self._runners[network] = Runner(
                network, PLAIN if sharded and network is teacher else of_teacher, frozen=True
            )
        self.student_depends_on_batch = depends_on_batch(student, image_shape)
        self.sync_batch_norm = sync_batch_norm
        self._synchronised: list[SynchronizedBatchNorms] = []
        self.synchronise(student, generator, self.connectors)

    @property
    def notices(self) -> list[str]:
        """What the networks needed around them, a line each."""
        lines = []
        for what, needs in self.needs.items():
            if needs.contiguous:
                lines.append(
                    f"the {what} does not answer the same in channels_last: it gets the usual layout, which is slower"
                )
            if needs.own_images:
                lines.append(f"the {what} works on its images in place: it gets copies")
            if needs.logits:
                lines.append(f"the {what} answers more than logits: those are taken out of its answer")
        return lines

    def describe_poor_match(self) -> str | None:
        """What to say where of several of the teacher's stages the student matches the first one alone."""
        if len(self._teacher_stages) < 2 or [t for t, _ in self.tap_pairs] != self._teacher_stages[:1]:
            return None
        ((teacher, student),) = self.tap_pairs
        return (
            f"features are compared at the first stage alone ({teacher} and {student}), which says little: name taps "
            "of equal spatial sizes with --taps-teacher and --taps-student (in Python taps_teacher= and taps_student=)"
        )

    @property
    def stages(self) -> list[tuple[int, ...]]:
        """Shapes of the features that are compared, [C, H, W] or [C] each."""
        return [teacher.shape for teacher, _ in self.tap_pairs]

    def check_student_stage(self, path: str) -> None:
        """Raises UsageError unless the student's submodule ``path`` runs once a forward pass and gives [B, ...]."""
        paths = [name for name, _ in self.student.named_modules() if name]
        if path not in paths:
            raise unknown_name("stage of the student", path, paths)
        images = example_images(self.student, self._image_shape)
        outputs: list[object] = []
        hook = self.student.get_submodule(path).register_forward_hook(
            lambda _, __, output: outputs.append(output)
        )
        try:
            with torch.no_grad():
                self.student.eval()(images)
        finally:
            hook.remove()
        if len(outputs) != 1:
            raise UsageError(
                f"the student's {path!r} runs {len(outputs)} times in a forward pass: name a stage that runs once"
            )
        if not isinstance(outputs[0], Tensor) or outputs[0].shape[:1] != images.shape[:1]:
            raise UsageError(
                f"the student's {path!r} gives no tensor with an entry for each image: name another stage"
            )

    def equip(self, rows: Sequence[Weighted]) -> None:
        """Makes what the terms of ``rows`` train beside the student: ``term_modules``, one for equal terms."""
        for row in rows:
            if self._module_of(row.term) is not None:
                continue
            with torch.device("cpu"):
                made = row.term.module(self.stages)
            if made is not None:
                made.to(device_of(self.student), image_dtype(self.student)).to(
                    memory_format=torch.channels_last
                )
                self.synchronise(made)
                self._equipped.append((row.term, made))
                self.term_modules.append(made)

    def _module_of(self, term: Term) -> nn.Module | None:
        return next((module for equipped, module in self._equipped if equipped == term), None)

    def synchronise(self, *networks: nn.Module) -> None:
        """Their batch norm layers too see the whole batch in a step, where that was asked for."""
        if self.sync_batch_norm:
            self._synchronised += [SynchronizedBatchNorms(network) for network in networks]

    @property
    def beside_student(self) -> list[nn.Module]:
        """What is trained with the student and thrown away after it."""
        return [self.connectors, self.term_modules]

    def read_by(self, rows: Sequence[Weighted]) -> list[nn.Module]:
        """What is trained by a student's step with these terms."""
        return [self.student, *([self.connectors] if reads_features(rows) else []), self.term_modules]

    @property
    def is_conditional(self) -> bool:
        return isinstance(self.generator, ConditionalGenerator)

    def labels_of(self, noise: Tensor) -> Tensor | None:
        """What the generator is told to make of ``noise``; None of one that is told nothing."""
        return self.generator.labels_of(noise) if isinstance(self.generator, ConditionalGenerator) else None

    @property
    def last_stage(self) -> Tap | None:
        """The teacher's deepest tap, whether or not it has a match; None where there is none."""
        return self._teacher_stages[-1] if self._teacher_stages else None

    def describe_mismatch(self) -> str:
        """What to say where stages that have to match do not."""
        for what, network in (("teacher", self.teacher), ("student", self.student)):
            if is_opaque(network):
                return (
                    f"the {what} is a program (TorchScript, torch.export, ONNX), whose features cannot be "
                    "read: choose a method or terms that read "
                    "none, such as dfad, or give the network that it was made from"
                )
        return (
            "the teacher's and the student's features do not match: "
            f"teacher {_listing(self._teacher_stages)}; student {_listing(self._student_stages)}: name taps of "
            "equal spatial sizes with --taps-teacher and --taps-student (in Python taps_teacher= and "
            "taps_student=), or choose terms that read no features"
        )

    def describe_taps(self) -> list[dict[str, str | list[int]]]:
        """What was tapped, a row per stage."""
        return [
            {
                "teacher": str(t),
                "student": str(s),
                "teacher_shape": list(t.shape),
                "student_shape": list(s.shape),
            }
            for t, s in self.tap_pairs
        ]

    def asker(
        self, graph: bool, statistics: bool = False, hooked: bool = False
    ) -> Callable[[Tensor], Tensor]:
        """Asks the teacher for its logits. ``graph``: whether gradients flow to the images through it, as the
        generator's phase needs them and the student's does not. ``statistics``: whether its batch norm layers run.
        ``hooked``: whether something inside of it is read."""
        run = self._runners[self.teacher if statistics else self._quick_teacher]

        def ask(images: Tensor) -> Tensor:
            with torch.set_grad_enabled(graph), self.mixed_precision():
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
            statistics = stack.enter_context(record_statistics(self.teacher)) if with_statistics else []
            logits = ask(images)
        return TeacherView(
            logits,
            ask,
            features[: len(self.tap_pairs)],
            features[self._deepest] if tapped and self._deepest is not None else None,
            over_processes(statistics),
        )

    def probe(
        self,
        images: Tensor,
        view: TeacherView,
        rows: Sequence[Weighted],
        draws: Draws,
        one_batch: bool = False,
        progress: float = 0.0,
        labels: Tensor | None = None,
    ) -> list[Probe]:
        """Shows ``images``, which the teacher has seen, to the student too; a probe for each row with its draws.

        What terms make of the images follows as batches of their own, or with ``one_batch`` as one with the images.
        """
        virtual = [row.term.virtual_images(images, drawn) for row, drawn in zip(rows, draws, strict=True)]
        further = [x for x in virtual if x is not None]
        together = one_batch and bool(further)
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
        )
        remaining = iter(answers)
        return [
            replace(
                shared,
                draws=drawn,
                virtual_images=x,
                virtual_student=None if x is None else next(remaining),
                module=self._module_of(row.term),
            )
            for row, drawn, x in zip(rows, draws, virtual, strict=True)
        ]

    def _ask_student(self, images: Tensor, features_of: int) -> tuple[Tensor, list[Tensor]]:
        """Logits, and the features of the first ``features_of`` images through their connectors."""
        with self.mixed_precision():
            if not features_of:
                return at_least_float32(self._runners[self.student](images)), []
            with self._student_taps.record() as tapped:
                logits = at_least_float32(self._runners[self.student](images, hooked=True))
            return logits, [
                connect(x[:features_of]) for connect, x in zip(self.connectors, tapped, strict=True)
            ]

    def _ask_student_changed(self, images: Tensor, path: str, change: Callable[[Tensor], Tensor]) -> Tensor:
        """Logits, the output of the student's submodule ``path`` having gone through ``change``."""

        hook = self.student.get_submodule(path).register_forward_hook(lambda _, __, output: change(output))
        try:
            with self.mixed_precision():
                return at_least_float32(self._runners[self.student](images, hooked=True))
        finally:
            hook.remove()

    def generate(self, noise: Tensor) -> Tensor:
        """Images [B, C, H, W] of noise [B, latent_dim]."""
        with self.mixed_precision():
            return self._runners[self.generator](noise)

    def set_modes(self, student: bool) -> None:
        """``student``: whether the student and what is trained beside it are in train mode."""
        self.teacher.eval()
        self.generator.train()
        self.student.train(student)
        for module in self.beside_student:
            module.train(student)

    @contextmanager
    def stepping(self) -> Iterator[None]:
        """Within it 3x3 convolutions run as the levers say, and batch norm layers see the batch they are to see."""
        with ExitStack() as stack:
            stack.enter_context(used_alone(self.teacher, self.student))
            for runner in self._runners.values():
                stack.enter_context(runner.convolving())
            for norms in self._synchronised:
                stack.enter_context(norms.used())
            yield

    def mixed_precision(self) -> torch.autocast:
        """In it networks compute in halves, if that was asked for, and losses in float32."""
        return torch.autocast(self._device_type, dtype=self._autocast, enabled=self._autocast is not None)


def _taps(network: nn.Module, image_shape: tuple[int, int, int], names: Sequence[str] | None) -> list[Tap]:
    images = example_images(network, image_shape)
    network.eval()
    if is_opaque(network):
        return []
    return named_taps(network, images, names) if names else find_taps(network, images)


def _fold(teacher: nn.Module, image_shape: tuple[int, int, int], taps: Sequence[Tap]) -> Folded:
    images = noise_images(teacher, image_shape, 4)
    return fold_batch_norm(teacher, images, watched=[tap.path for tap in taps if tap.call is None])


def _check_placement(teacher: nn.Module, student: nn.Module) -> None:
    if next(student.parameters(), None) is None:
        raise UsageError("the student has no parameters, so there is nothing to train: give another network")
    (device, dtype), (other, other_dtype) = (
        (device_of(network), image_dtype(network)) for network in (student, teacher)
    )
    if (other, other_dtype) != (device, dtype):
        raise UsageError(
            f"the teacher is {other_dtype} on {other} and the student {dtype} on {device}: "
            "bring both to one device and type with .to()"
        )


def _listing(taps: Sequence[Tap]) -> str:
    return ", ".join(f"{tap} {list(tap.shape)}" for tap in taps) or "none"


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
