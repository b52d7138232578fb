"""``Distiller``: the state of a run, and the iteration that changes it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor, nn

from dfad_fast.distributed import collectives, processes
from dfad_fast.engine.best import BestStudent
from dfad_fast.engine.global_randomness import global_state, restore_global_state
from dfad_fast.engine.iteration import Result
from dfad_fast.engine.iterations import plan_iterations
from dfad_fast.engine.meeting import meet
from dfad_fast.engine.optimizers import optimizers_of
from dfad_fast.engine.planning import (
    can_be_captured,
    idle_levers,
    kind_of_source,
    older_images,
    state_of_source,
)
from dfad_fast.engine.settings import DistillerSettings
from dfad_fast.engine.setup import Setup, describe, set_up
from dfad_fast.engine.state import TrainState
from dfad_fast.engine.trained import Trained
from dfad_fast.engine.uncopied import Uncopied
from dfad_fast.models.black_box import BlackBoxTeacher, Queries
from dfad_fast.models.generators.sampling import sample_batches
from dfad_fast.models.reading.check import device_of
from dfad_fast.models.surgery.average import MovingAverage
from dfad_fast.networks.as_given import Layouts, modes_kept
from dfad_fast.networks.exclusive import used_alone
from dfad_fast.sources import ImageForm
from dfad_fast.sources.storage import NoStorage, Storage


class Distiller(Uncopied):
    """Teacher, student and generator of a run, and everything that changes during it.

    That is the weights, optimizers, sources of images and randomness, and the position (``state``). Opens no files and
    prints nothing. ``form`` describes the teacher's images. ``settings`` are those of :class:`dfad_fast.DFADTrainer`;
    ``facts`` are further values that all processes of a run must agree on. ``storage`` holds images that do not fit
    into memory. ``begun`` is for a run that is resumed: whether its student was initialized from the teacher, which is
    not repeated.

    Raises UsageError for networks that do not fit each other or the image shape, and for unknown names.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        form: ImageForm,
        settings: DistillerSettings,
        facts: Mapping[str, object] | None = None,
        storage: Storage | None = None,
        begun: bool | None = None,
    ) -> None:
        self.settings = settings
        self.storage = storage or NoStorage()
        self.form = form
        self.last: Result | None = None
        """The result of the last step."""
        self.ended: list[str] = []  # one line saying why nothing more can be learned, if so
        with torch.inference_mode(False), used_alone(teacher, student), modes_kept(teacher, student):
            self._layouts = Layouts(teacher, student)
            try:
                self._make(set_up(teacher, student, form, settings, begun), facts or {})
            finally:
                self._layouts.note()
                self._layouts.give_back()

    def _make(self, made: Setup, facts: Mapping[str, object]) -> None:
        settings = self.settings
        self.networks, self.prober, self.random = made.trio, made.prober, made.random
        self.method, self.recipe, self.levers = made.method, made.recipe, made.levers
        self.start = made.start
        """What the student was initialized from, in words; for a resumed run only whether it was the teacher."""
        self.student_start = made.start.as_data() if settings.student_init != "random" else {}
        """The same as the run recorded it, as plain values."""
        self.device = device_of(self.networks.student)
        self.state = TrainState()
        self.best = BestStudent(settings.best_by)
        meet(self.networks, self.describe(), facts)
        student = self.networks.student
        graph = self.levers.graph and can_be_captured(self.method, settings)
        self._left_off_graph = self.levers.graph and not graph
        self.levers = replace(self.levers, graph=graph)
        optimizers = optimizers_of(self.networks, self.recipe, self.levers, self.method.clip_norm)
        self.student_optimizer, self.generator_optimizer = optimizers
        self.source, self._schedule = plan_iterations(
            self.prober, self.method, self.levers, settings, self.form, self.random, optimizers, self.storage
        )
        self._layouts.when_moved = self._schedule.forget  # a captured iteration reads weights where they were
        ema = settings.student_ema
        self._average = None if ema is None else MovingAverage(student, ema)
        modules = {
            "student": student,
            "generator": self.networks.generator,
            "connectors": self.networks.connectors,
            "term_modules": self.networks.term_modules if self.networks.term_modules else None,
            "averaged_student": self.averaged_student,
        }
        self.trained = Trained({name: module for name, module in modules.items() if module is not None})

    def describe(self) -> dict[str, Any]:
        """The resolved settings as plain values: everything that determines the result except weights and versions."""
        return describe(
            self.settings,
            self.networks,
            self.method,
            self.recipe,
            self.levers,
            self.form,
            self.start.from_teacher,
        )

    @property
    def notices(self) -> list[str]:
        """What a lever could not do here, one line each."""
        notices = [*self.networks.notices, *self.prober.notices, *self.source.notices]
        if self.method.reads_features and (poor := self.networks.matching.describe_poor_match()):
            notices.append(poor)
        if idle := idle_levers(self.method, self.levers):
            notices.append(f"{' and '.join(idle)}: no effect, since the source makes its own batches")
        if self._left_off_graph:
            notices.append(
                "no CUDA graph: it is off with replay, generator_ema, terms that change over a run, and sources "
                "that draw on the host"
            )
        return notices

    @contextmanager
    def working(self) -> Iterator[None]:
        """Inside the block the user's networks have the memory layout of steps, afterwards their own again."""
        networks = self.networks
        both = networks.teacher, networks.student
        with used_alone(*both), modes_kept(*both, networks.generator), self._layouts.in_use():
            yield

    def step(self) -> Result:
        """Takes one iteration, and reads nothing back from the device.

        Outside of ``working`` the networks' weights stay in the layout of steps, for the next one.
        """
        both = self.networks.teacher, self.networks.student
        with used_alone(*both), modes_kept(*both):
            self._layouts.take()
            self.last = self._step()
            return self.last

    def _step(self) -> Result:
        state = self.state
        progress = state.progress
        recipe = self.recipe
        self.student_optimizer.set_rate(recipe.student_lr * recipe.rate_factor(progress))
        self.generator_optimizer.set_rate(recipe.generator_lr * recipe.generator_rate_factor(progress))
        if state.warm_up_iterations is None:
            # Only once: extending the plan later does not lengthen the generator's warm-up.
            state.warm_up_iterations = self._schedule.warm_up_iterations(state.planned_iterations)
        iteration = self._schedule.at(state.iteration, state.warm_up_iterations)
        state.iteration += 1
        weights = {
            phase: [row.weight_at(progress) for row in rows]
            for phase, rows in (("student", self.method.student), ("generator", self.method.generator))
        }
        # The caller may have disabled gradients.
        with torch.inference_mode(False), torch.enable_grad():
            draws = self.random.draw_for(iteration, progress)
            result = self._schedule.runner(iteration)(draws, weights, progress)
        state.generated_images += result.cost.generated_images
        state.teacher_passes += result.cost.teacher_passes
        state.student_passes += result.cost.student_passes
        if self.queries:
            state.queries = self.queries.reached
        if self._average:
            self._average.update(self.networks.student, state.iteration - 1)
        self.source.follow(state.iteration - 1)
        return result

    @property
    def queries(self) -> Queries | None:
        """The queries of a black-box teacher; None for any other."""
        return teacher.queries if isinstance(teacher := self.networks.teacher, BlackBoxTeacher) else None

    @property
    def images_per_iteration(self) -> int:
        """Images that an iteration generates after the warm-up."""
        return self._schedule.whole.generated_images

    def iterations_for(self, images: int) -> int:
        """Iterations of a run that generates about ``images`` images, including the warm-up."""
        return self._schedule.iterations_for(images)

    @property
    def averaged_student(self) -> nn.Module | None:
        """The moving average of the student, in eval mode, if one is kept."""
        return self._average.network if self._average else None

    @property
    def rates(self) -> dict[str, float]:
        """The learning rates of the last step, by name as in records."""
        return {"student_lr": self.student_optimizer.rate, "generator_lr": self.generator_optimizer.rate}

    def held_out_count(self, most: int) -> int:
        """How many different held-out images there are, at most ``most``."""
        return self.source.held_out_count(most)

    def held_out_batches(self, count: int) -> Iterator[Tensor]:
        """Yields ``count`` images that no step sees, one batch in memory at a time.

        They are the source's own, or generated in train mode from noise that no step draws; the same in every process.
        """
        # Not the whole batch of a run over many processes, which does not fit into a single one.
        size = self.settings.batch_size // processes.count()
        if (own := self.source.held_out(count, size)) is not None:
            return own
        noise = self.random.held_out()
        return sample_batches(
            self.networks.generator, count, size, lambda size: self.random.draw_noise(size, noise)
        )

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to continue the run; of several processes each has its own sources."""
        return {
            "weights": self.trained.weights(),
            "student_optimizer": self.student_optimizer.state_dict(),
            "generator_optimizer": self.generator_optimizer.state_dict(),
            **self.random.state_dict(),
            "global_rng": global_state(self.device),
            **asdict(self.state),
            "best_student": self.best.state_dict(),
            "student_start": self.student_start,
            "source": self.source.state_dict(),
            "source_spec": kind_of_source(self.method.source_spec),
            "older_images": older_images(self.settings),
        }

    def state_of_all(self) -> dict[str, Any]:
        """``state_dict``, including the other processes' own sources."""
        state = self.state_dict()
        if processes.count() > 1:
            state["global_rng"] = collectives.collect(state["global_rng"])
            state["source"] = self.source.state_of_all()
        return state

    def own_part(self, state: dict[str, Any]) -> dict[str, Any]:
        """This process's part of the state of all. A process that was not there keeps its sources of randomness."""
        sources = state["global_rng"]
        if isinstance(sources, list):
            sources = sources[processes.rank()] if processes.rank() < len(sources) else None
        elif not processes.is_first():
            sources = None
        source = self.source.own_part(state_of_source(state, self.settings, self.method.source_spec))
        return {**state, "global_rng": sources, "source": source}

    def evaluated(self) -> dict[str, Any]:
        """The part of the state that evaluations change."""
        return {"best_accuracy": self.state.best_accuracy, "best_student": self.best.state_dict()}

    def snapshot(self) -> dict[str, Any]:
        """A copy of the current state. Tensors that nothing writes to, such as replayed batches, are not copied."""
        shared = [*self.source.unchanging, *self.best.tensors]
        return copy.deepcopy(self.state_dict(), {id(tensor): tensor for tensor in shared})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the state from ``state_dict``, including the global sources of randomness.

        Raises UsageError if a black-box teacher's journal of queries does not reach that state.
        """
        if self.queries:
            self.queries.go_back(state.get("queries", 0))
        self._schedule.forget()
        self.trained.load(state["weights"])
        self.student_optimizer.load_state_dict(state["student_optimizer"])
        self.generator_optimizer.load_state_dict(state["generator_optimizer"])
        self.random.load_state_dict(state)
        if state["global_rng"] is not None:
            restore_global_state(state["global_rng"], self.device)
        for name, value in asdict(TrainState()).items():
            setattr(self.state, name, state.get(name, value))  # older checkpoints lack some counts
        if "best_student" in state:  # not in checkpoints of older versions
            self.best.load_state_dict(state["best_student"], self.device)
        self.student_start = state.get("student_start", {})
        self.source.load_state_dict(state_of_source(state, self.settings, self.method.source_spec))
