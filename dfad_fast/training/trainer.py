"""DFADTrainer: trains student and generator in turns against a frozen teacher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dfad_fast.data.labeled_batches import Batches
from dfad_fast.engine.best import BestStudent
from dfad_fast.engine.distiller import Distiller
from dfad_fast.engine.evaluation import TestSet
from dfad_fast.engine.settings import DistillerSettings
from dfad_fast.engine.starting import undone_on_failure
from dfad_fast.engine.uncopied import Uncopied
from dfad_fast.errors import UsageError
from dfad_fast.models.ensemble import as_networks
from dfad_fast.models.reading.check import as_image_shape
from dfad_fast.networks.as_given import modes_kept
from dfad_fast.networks.trio import Trio
from dfad_fast.reporting.drawings import Drawings
from dfad_fast.reporting.loggers import Loggers
from dfad_fast.runs.bank_files import storage_for
from dfad_fast.runs.events import Callback
from dfad_fast.runs.folder import as_folder
from dfad_fast.runs.opening import begun_before, measured_before, open_run
from dfad_fast.runs.queries_file import queries_noted
from dfad_fast.runs.recovery import Recovery
from dfad_fast.runs.settings import RunSettings
from dfad_fast.runs.summarizing import summarize
from dfad_fast.settings import COUNT, declared, described, refuse_beyond, refuse_no_number, values
from dfad_fast.sources import ImageForm
from dfad_fast.training.listeners import Progress, listeners_of
from dfad_fast.training.loop import Loop
from dfad_fast.training.saving import Saver
from dfad_fast.training.timetable import make_timetable


class Stopped(KeyboardInterrupt):
    """A run was stopped by Ctrl-C or SIGTERM after everything was saved."""


@dataclass(eq=False, repr=False)
class _Networks:
    teacher: nn.Module | Sequence[nn.Module]
    student: nn.Module
    image_shape: Sequence[int]
    _: KW_ONLY
    image_mean: Sequence[float] | None = None
    image_std: Sequence[float] | None = None


@dataclass(eq=False, repr=False)
class DFADTrainer(Uncopied, RunSettings, _Networks):
    """Distills ``teacher`` into ``student`` without data.

    One iteration is the method's student steps followed by its generator steps, each on fresh noise. With ``fast`` the
    generator's steps come first, and the student's steps use their batch.

    Only the student's weights and running statistics change: each call restores the modes, flags and memory layout of
    both networks. The exception is ``step``, which leaves convolution weights in channels_last for the next step, until
    ``fit``, ``save`` or ``summary``. Hooks exist only while a step runs.

    The processes of torch.distributed's default group, as started by torchrun, share one run: each runs its part of
    every batch through the networks, gradients are averaged, and the first process writes the folder. All create the
    same trainer and call the same methods; the initial weights come from the first process.

    Args:
        teacher: maps images [B, C, H, W] to logits [B, classes], or to a mapping, tuple or object that holds them.
            Any nn.Module (TorchScript too, if the method reads no features), a :class:`dfad_fast.BlackBoxTeacher`, or
            several: the mean of their logits, or a :class:`dfad_fast.Ensemble`. Removes wrappers such as DataParallel.
        student: the same, with as many classes, on the same device. Trained in place.
        image_shape: (C, H, W) of the images that the teacher was trained on.
        image_mean, image_std: the normalization of the teacher's images, one value per channel. Used to show generated
            images in their true colors (otherwise each is scaled from its darkest to its brightest value), and by
            sources whose images do not come from a generator.
        overwrite: whether to replace another run in the folder.
        resume: resume the run in the folder from its last checkpoint. Networks and settings must be the same as
            before. A run that ended before its first checkpoint is restarted.
        accept_changes: whether to resume with different settings or versions of this library, torch or numpy. The
            result then differs from an uninterrupted run. The changes are recorded in config.yaml.
        config: further settings to record in the run's config.yaml.
        {settings}

    Raises:
        UsageError: networks that do not fit each other or the image shape, unknown names, a folder that holds
            another run, a logger without ``out`` or whose package is missing.
    """

    _: KW_ONLY
    overwrite: bool = False
    resume: bool = False
    accept_changes: bool = False
    config: dict[str, Any] | None = None

    @torch.inference_mode(False)
    def __post_init__(self) -> None:
        refuse_beyond(values(self, RunSettings), declared(RunSettings))
        facts = {"out": self.out is not None, "resume": self.resume, "overwrite": self.overwrite}
        form = ImageForm(as_image_shape(self.image_shape), self.image_mean, self.image_std)
        self.out = as_folder(self.out)
        self.speed = measured_before(self.out, self.resume, self.speed)
        settings = DistillerSettings(**values(self, DistillerSettings))
        begun = begun_before(self.out, self.resume, self.student_init)
        networks = self.teacher, self.student = as_networks(self.teacher, self.student)
        journal = self.teacher, self.out, self.resume
        with undone_on_failure(self.student, self.student_init), queries_noted(*journal):
            made = self.distiller = Distiller(*networks, form, settings, facts, storage_for(self), begun)
            # The resolved settings.
            self.method, self.recipe, self.speed = made.method, made.recipe, made.levers
            self.normalization = form.normalization
            self.loggers = Loggers(self.log)
            if self.loggers and self.out is None:
                raise UsageError(f"log={self.log!r} writes to a run's folder: give one with out=")
            there = self.overwrite, self.resume, self.accept_changes  # how to treat an existing run
            opened = open_run(made, self.out, self.keep_checkpoints, *there, self.config or {})
        self.writer, self._further_notices = opened.writer, opened.notices
        self.history = opened.history
        """The records of metrics.jsonl."""
        self._saver = Saver(self.distiller, self.writer, self.history, self.normalization)
        self._loop: Loop | None = None

    @property
    def networks(self) -> Trio:
        """The networks as steps call them, with the modules trained beside the student."""
        return self.distiller.networks

    @property
    def iteration(self) -> int:
        """Iterations so far."""
        return self.distiller.state.iteration

    @property
    def planned_iterations(self) -> int | None:
        """The iterations over which learning rates and weights decay; ``fit`` sets it if it is None."""
        return self.distiller.state.planned_iterations

    @planned_iterations.setter
    def planned_iterations(self, iterations: int | None) -> None:
        self.distiller.state.planned_iterations = iterations

    @property
    def generated_images(self) -> int:
        """Images generated so far, in both phases."""
        return self.distiller.state.generated_images

    @property
    def images_per_iteration(self) -> int:
        """Images that an iteration generates after the warm-up."""
        return self.distiller.images_per_iteration

    def iterations_for(self, images: int) -> int:
        """Iterations of a run that generates about ``images`` images, including the warm-up."""
        return self.distiller.iterations_for(images)

    @property
    def averaged_student(self) -> nn.Module | None:
        """The moving average of the student, in eval mode, if one is kept."""
        return self.distiller.averaged_student

    @property
    def best(self) -> BestStudent:
        """The best student at an evaluation so far, and how it was chosen."""
        return self.distiller.best

    @property
    def best_student(self) -> dict[str, Any] | None:
        """Weights of the best student so far at an evaluation of ``fit``, or None; ``best`` says how it is chosen."""
        return self.best.weights

    @property
    def rates(self) -> dict[str, float]:
        """The learning rates of the last step, by name as in records."""
        return self.distiller.rates

    @property
    def notices(self) -> list[str]:
        """What a lever could not do here, and remarks about a resumed run, one line each."""
        return [*self.distiller.notices, *self._further_notices]

    def step(self) -> dict[str, Tensor]:
        """One iteration. Returns the unweighted terms of its last student and generator step, on the device.

        Reads nothing back from the device, so the caller has to check that losses are finite. Learning rates and
        weights that change over a run follow ``planned_iterations``, which ``fit`` sets. They are constant if it is
        None, and keep their last value after it.
        """
        last: dict[str, Tensor] = {}
        for losses in self.distiller.step().losses:
            last.update(losses)
        return last

    def fit(
        self,
        iterations: int,
        evaluate: Batches | None = None,
        *,
        log_every: int | None = None,
        evaluate_every: int | None = None,
        progress: Progress | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> dict[str, Any]:
        """Runs ``iterations`` more iterations and returns the summary (which is summary.json, if there is a folder).

        The learning rates decay over ``planned_iterations``, by default those of this call. A later call that goes
        beyond them stretches the schedule, so that the rates rise again, and warns.

        The folder also gets a sheet of generated images at the first evaluation and in each tenth of the run, and the
        page report.html at the end, however the run ends.

        Args:
            iterations: how many more.
            evaluate: labeled test batches (images [B, C, H, W], labels [B]), in the same order each time; see
                dfad_fast.data.labeled_batches for other forms. Scores on them are reported and choose ``best_student``,
                unless ``best_by`` is agreement; without them it is chosen on generated images.
            log_every: iterations between records of metrics (default: 100 records per run). There is one more
                before each checkpoint.
            evaluate_every: iterations between evaluations, a multiple of ``log_every`` (default: 4 times that).
            progress: receives every iteration and record.
            callbacks: receive more events: see :class:`dfad_fast.runs.events.Callback`.

        Raises:
            UsageError: a number of iterations that is not positive, or ``best_by`` accuracy without ``evaluate``.
            RunError: a loss or weight is not finite, or a step raised, for example in a network or a custom term. The
                networks and the folder keep the last good state. Also if final files cannot be written, see ``save``.
            Stopped: a KeyboardInterrupt, after Ctrl-C, SIGTERM or a KeyboardInterrupt of your code, once all is saved
                (after a network's, up to the last record). SystemExit is raised again. A second Ctrl-C does not wait.
        """
        # The kept state is trained later, so it must not contain inference tensors.
        with torch.inference_mode(False), self.distiller.working():
            refuse_no_number("iterations", iterations, whole=True)
            COUNT.refuse("iterations", iterations)
            if evaluate is None:
                self.distiller.best.refuse_untested()
            recovery = Recovery(self.distiller, self.writer, self._saver.save_state)
            listeners = listeners_of(self.writer, self.loggers, progress, callbacks)
            timetable = make_timetable(
                self.distiller, self, iterations, log_every, evaluate_every, evaluate is not None
            )
            self._loop = Loop(
                self.distiller,
                self.step,
                self.writer,
                recovery,
                timetable,
                self.history,
                listeners,
                self.normalization,
            )
            try:
                summary = self._loop.run(evaluate, lambda test_set: self._saver.save(test_set, listeners))
                cut_short, raised = self._loop.cut_short, self._loop.interruption.raised
            finally:
                self._loop = None
        if cut_short:
            raise Stopped from raised
        return summary

    def stop(self) -> None:
        """Ends ``fit`` after the current iteration and saves everything. For use in callbacks."""
        if self._loop:
            self._loop.stop_asked = True

    def sample(self, count: int) -> Tensor:
        """``count`` generated images [count, C, H, W] from noise that no step draws, with the generator in train mode.

        Every process of a run gets the same images.
        """
        with modes_kept(self.networks.generator):
            return torch.cat(list(self.distiller.held_out_batches(count)))

    def summary(self, test_set: TestSet | None = None) -> dict[str, Any]:
        """The results as plain values. Accuracies are fractions; None without test images.

        Warns if a figure could not be measured or the generator has collapsed."""
        with self.distiller.working():
            return summarize(self.distiller, test_set, self.history).as_data()

    def save(self, test_set: TestSet | None = None) -> dict[str, Any]:
        """Writes everything that belongs in the run's folder (if there is one) and returns the summary.

        The student's weights come first. Each file is written separately, so that one failure does not prevent the
        others. A warning names figures, pictures or a page that cannot be made.

        Raises:
            RunError: weights, checkpoint or summary cannot be written. Everything else is tried first.
        """
        folder = self.writer.folder
        with self.distiller.working():
            return self._saver.save(test_set, [Drawings(folder, self.loggers)] if folder else [])

    def save_state(self) -> None:
        """Writes weights and checkpoint. Tries all of them, then raises RunError for those that cannot be written."""
        self._saver.save_state()

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to continue: weights, optimizers, sources of images and randomness, position."""
        return self.distiller.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the state from ``state_dict``, including the global sources of randomness."""
        self.distiller.load_state_dict(state)


DFADTrainer.__doc__ = (DFADTrainer.__doc__ or "").replace("        {settings}", described(RunSettings))
