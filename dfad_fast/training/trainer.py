"""DFADTrainer: student and generator in alternation, against a frozen teacher."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from dfad_fast.allocator import pin_allocator
from dfad_fast.data.labelled_batches import Batches
from dfad_fast.distributed import processes
from dfad_fast.engine import preflight
from dfad_fast.engine.best import BestStudent
from dfad_fast.engine.choice import Terms, choose_method
from dfad_fast.engine.evaluation import TestSet
from dfad_fast.engine.exclusive import used_alone
from dfad_fast.engine.levers import Levers, choose_levers
from dfad_fast.engine.losses import Losses
from dfad_fast.engine.networks import Draws, Networks
from dfad_fast.engine.optimizers import Optimiser
from dfad_fast.engine.phases import Phases
from dfad_fast.engine.randomness import (
    differ_between_processes,
    global_state,
    restore_global_state,
    undisturbed,
)
from dfad_fast.engine.recipe import Recipe, choose_recipe
from dfad_fast.engine.states import load_state, state_of
from dfad_fast.engine.step import Iteration
from dfad_fast.environment import versions
from dfad_fast.errors import RunError, UsageError, in_one_line
from dfad_fast.methods import Method
from dfad_fast.models.generators.registry import check_generator, generate_batches, make_generator
from dfad_fast.models.reading.check import as_image_shape, count_classes, device_of, image_dtype
from dfad_fast.models.surgery.average import MovingAverage
from dfad_fast.models.surgery.sharding import is_sharded
from dfad_fast.models.surgery.wrappers import unwrapped
from dfad_fast.reporting import pictures
from dfad_fast.reporting.loggers import Loggers
from dfad_fast.runs import checkpoints, resuming, run_folder
from dfad_fast.runs.attempts import Attempts
from dfad_fast.runs.checkpoints import checksum
from dfad_fast.runs.run_folder import RunFolder
from dfad_fast.settings import declared, refuse_beyond
from dfad_fast.sources.replay import Rehearsal
from dfad_fast.terms import reads_student
from dfad_fast.training import outcome
from dfad_fast.training.fit import Fit, Progress
from dfad_fast.training.settings import RunSettings

T = TypeVar("T")

# Trainers made in several threads would seed it for each other.
_GLOBAL_GENERATOR = threading.Lock()


class DFADTrainer:
    """Distils ``teacher`` into ``student`` without data.

    One iteration is the method's student steps followed by its generator steps, each on fresh noise (``fast``: the
    generator's first, and the student's on its batch). The
    teacher stays frozen and in eval mode; neither network is changed otherwise, and features are read by hooks
    that exist only while a step runs.

    In a process of several (torch.distributed's default group, as torchrun starts them) it takes part in one run of
    all: each shows its part of every batch to the networks, gradients are averaged, the first one writes the folder.
    All make the trainer alike and call the same methods; weights are the first one's.

    Args:
        teacher: maps images [B, C, H, W] to logits [B, classes], or to a mapping, tuple or object that holds them.
            Any nn.Module, TorchScript too where the method reads no features. Wrappers (torch.compile, DataParallel,
            DistributedDataParallel, AveragedModel) are taken off.
        student: the same, with as many classes, on the same device. Trained in place.
        image_shape: (C, H, W) of the images that the teacher was trained on.
        method: a name (``dfad``, ``dfad-ar``, ``dfad-vi``, ``dfad-ar-vi``, ``dfad-ar-vi-bn``, ``zskt``, ``dafl``,
            ``dfq``), a Method, or ``auto``: ``dfad-ar-vi-bn`` for a teacher with batch norm layers, else
            ``dfad-ar``; without the activation regulariser where no features match.
        generator: ``dfad`` (the published one), ``auto`` (the same at a quarter or half of its width), ``zskt``,
            ``dafl``, ``dcgan`` (for images of 64 pixels and more), ``conditional`` (``auto`` told a class), or any
            nn.Module that maps noise
            [B, latent_dim] to images in the teacher's normalised input space.
        latent_dim: length of the noise vectors, drawn from N(0, I).
        batch_size: images per step, of all processes together.
        seed: fixes everything that the trainer draws: its generator's weights, noise, mixtures. (Dropout in a
            user's network draws from torch's global generator.)
        out: the run's folder; None keeps everything in memory. ``fit`` locks it, so that no other process or trainer
            writes to it meanwhile, and refuses where one did since this trainer was made, or since its last ``fit``.
        recipe: ``auto`` (the method's own; else ``sgd`` for a student with batch norm layers and ``adam`` for others),
            a name such as ``published``, or a Recipe.
        taps_teacher, taps_student: names of taps (see dfad_fast.models.reading.taps) instead of those found.
        overwrite: whether a folder that holds another run may be written over.
        resume: go on with the run that the folder holds, from its last checkpoint. The networks and settings
            must be what they were. A run that ended before its first checkpoint is begun again.
        image_mean, image_std: the normalisation of the teacher's images, one value per channel, for showing
            generated images in their true colours; without them each is shown from its darkest to its
            brightest value.
        sync_batch_norm: of several processes, whether student's and generator's batch norm layers see the whole batch,
            as with one process, or each process's part of it.
        accept_changes: whether to resume with other settings, or versions of this library, torch or numpy, than the
            run was started with: it then ends otherwise than it would have. The changes are noted in config.yaml.
        keep_checkpoints: how many are kept; ``resume`` takes the last one that is whole.
        checkpoint_seconds: between checkpoints during ``fit``, at least. The first one comes in the first 10
            seconds, or after the first iteration.
        checkpoint_iterations: a further checkpoint after each so many iterations.
        config: further settings to be recorded in the run's config.yaml.
        speed: ``exact`` (the published mathematics in float32), ``auto`` (the same in bfloat16 where the machine has
            fast matrix products in it), ``fast`` (fewer generated batches too), or Levers, one switch each; see
            dfad_fast.engine.levers.
        student_terms, generator_terms: the phase's objective instead of the method's: rows (Weighted), or text such as
            ``"l1 + 0.1*boundary(margin=0.5, schedule=linear)"``, see dfad_fast.terms.
        student_ema: decay per iteration, such as 0.99, of an exponential moving average of the student's weights, which
            is evaluated and saved beside the student (``averaged_student``); None for none.
        replay: batches from before that are kept; in each iteration the student takes one more step, on one of them.
        generator_ema: decay per iteration of a moving average of the generator; in each iteration the student takes
            one more step, on what that makes. See dfad_fast.sources.replay for both. The lever ``graph`` is
            off with them.
        log: where ``fit`` writes its records beside metrics.jsonl: ``csv``, ``tensorboard``, ``wandb``, ``mlflow``; see
            dfad_fast.reporting.loggers.

    Raises:
        UsageError: networks that do not fit each other or the image shape, unknown names, a folder that holds
            another run, a logger without ``out`` or whose package is missing.
    """

    @torch.inference_mode(False)
    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        image_shape: Sequence[int],
        method: str | Method = "auto",
        generator: str | nn.Module = "auto",
        latent_dim: int = 100,
        batch_size: int = 128,
        seed: int = 0,
        out: str | Path | None = None,
        *,
        recipe: str | Recipe = "auto",
        taps_teacher: Sequence[str] | None = None,
        taps_student: Sequence[str] | None = None,
        overwrite: bool = False,
        resume: bool = False,
        image_mean: Sequence[float] | None = None,
        image_std: Sequence[float] | None = None,
        config: dict[str, Any] | None = None,
        speed: str | Levers = "auto",
        student_terms: Terms | None = None,
        generator_terms: Terms | None = None,
        student_ema: float | None = None,
        replay: int = 0,
        generator_ema: float | None = None,
        sync_batch_norm: bool = False,
        accept_changes: bool = False,
        keep_checkpoints: int = 2,
        checkpoint_seconds: float = 60.0,
        checkpoint_iterations: int | None = None,
        log: Sequence[str] = (),
    ) -> None:
        shape = as_image_shape(image_shape)
        refuse_beyond(
            {
                "latent_dim": latent_dim,
                "batch_size": batch_size,
                "seed": seed,
                "keep_checkpoints": keep_checkpoints,
                "checkpoint_seconds": checkpoint_seconds,
                "checkpoint_iterations": checkpoint_iterations,
                "replay": replay,
            },
            declared(RunSettings),
        )
        self.image_shape = shape
        self.latent_dim = latent_dim
        self.batch_size = batch_size
        self.seed = seed
        teacher, student = unwrapped(teacher), unwrapped(student)
        preflight.refuse_unfit(teacher, student)
        self.device, self.dtype = device_of(student), image_dtype(student)
        own_batch = batch_size // processes.count()
        preflight.refuse_unaffordable(
            shape, own_batch, latent_dim, self.device, self.dtype, own_generator=isinstance(generator, str)
        )
        self.speed = choose_levers(speed, self.device)
        self._processes_before: list[int] = []
        self._begun_again = False
        if processes.count() > 1:
            self.speed = self._levers_of_several(batch_size, sync_batch_norm)
        if self.speed.pin_allocator:
            pin_allocator()
        self.iteration = 0
        self.stop_asked = False
        self.planned_iterations: int | None = None
        self._warm_up_iterations: int | None = None
        self._generated_batches = 0
        self.seconds = 0.0
        self.best_accuracy: float | None = None
        self.best = BestStudent()
        self.history: list[dict[str, Any]] = []

        # Networks made here draw from torch's global generator, and the user's from what they like.
        with _GLOBAL_GENERATOR, undisturbed(self.device), used_alone(teacher, student):
            torch.manual_seed(seed)
            classes = count_classes(teacher, shape, "teacher")
            with torch.device("cpu"):  # whatever the default is
                made = make_generator(generator, shape, latent_dim, classes, self.speed.fused_generator)
            made.to(self.device, self.dtype)
            self.networks = Networks(
                teacher,
                student,
                made,
                shape,
                taps_teacher,
                taps_student,
                self.speed,
                sync_batch_norm and processes.count() > 1,
                own_batch,
            )
            student = self.networks.student
            self.method = choose_method(method, self.networks, student_terms, generator_terms)
            self.networks.equip(self.method.rows)
            self.recipe = choose_recipe(recipe, student, self.method.recipe)
            self._noise = torch.Generator(self.device).manual_seed(seed)
            self._mixing = np.random.default_rng(seed)
            check_generator(made, self._draw_noise(2, self._held_out_noise()), shape)
            preflight.look_at_answers(
                self.networks.teacher, shape, own_batch, reads_student(self.method.generator)
            )
        self._sync_batch_norm = sync_batch_norm
        self._cures = {"student_ema": student_ema, "replay": replay, "generator_ema": generator_ema}
        self._meet(out=out is not None, resume=resume, overwrite=overwrite)
        rehearses = replay != 0 or generator_ema is not None
        self.rehearsal = Rehearsal(made, replay, generator_ema, seed) if rehearses else None
        if self.rehearsal and self.rehearsal.averaged_generator is not None:
            self.networks.synchronise(self.rehearsal.averaged_generator)
        self._without_graph = self.speed.graph and (rehearses or self.method.reads_progress)
        if self._without_graph:
            self.speed = replace(self.speed, graph=False)
        self._average = None if student_ema is None else MovingAverage(student, student_ema)
        trained = [p for module in (student, *self.networks.beside_student) for p in module.parameters()]
        scaled = self.speed.precision == "float16"
        self._student_optimiser = Optimiser(
            self.recipe.student(trained, self.speed.graph), self.device, scaled, self.method.clip_norm
        )
        self._generator_optimiser = Optimiser(
            self.recipe.generator(list(made.parameters()), self.speed.graph),
            self.device,
            scaled,
            self.method.clip_norm,
        )
        self._infinite_from_the_start = set(self._not_finite())
        self._phases = Phases(self._iterations_of, self.method, self._noise if self.speed.graph else None)
        self.losses: Losses | None = None
        """Where each step's losses go while ``fit`` runs."""
        self.answers: tuple[Tensor, Tensor] | None = None
        """The student's and the teacher's logits in the student's last step."""
        self.normalisation = pictures.normalisation(image_mean, image_std, shape[0])
        self.checkpoint_iterations = checkpoint_iterations
        self.loggers = Loggers(log)
        if self.loggers and out is None:
            raise UsageError(f"log={log!r} writes to a run's folder: give one, as out=")
        self.checkpoint_seconds = checkpoint_seconds
        self.out = None if out is None else Path(out)
        self.folder: RunFolder | None = None
        """Only the first process has one."""

        def open_folder() -> bool:
            """Whether the run in it is to be begun again."""
            assert out is not None
            again = resume and run_folder.has_saved_nothing(Path(out))
            self.folder = RunFolder(
                out,
                overwrite=overwrite or again,
                resume=resume and not again,
                keep_checkpoints=keep_checkpoints,
            )
            return again

        if out is not None:
            self._begun_again = processes.on_first(open_folder)
            if resume and not self._begun_again:
                self._go_on(accept_changes)
            else:
                self.on_folder(lambda folder: folder.write_config(self._config(config or {})))
            self.on_folder(RunFolder.end_writing)

    def _levers_of_several(self, batch_size: int, sync_batch_norm: bool) -> Levers:
        """What can be had with several processes. Raises UsageError where the batch has no equal parts."""
        if batch_size % processes.count() or batch_size < 2 * processes.count():
            raise UsageError(
                f"a batch of {batch_size} images cannot be shared by {processes.count()} processes: give a multiple of "
                f"{processes.count()}, and at least 2 for each"
            )
        if self.speed.compile and sync_batch_norm:
            raise UsageError("compile has not been tried with synchronised batch norm: choose one of them")
        return replace(self.speed, graph=False)

    def _meet(self, **facts: object) -> None:
        """All processes have the same task and begin with the same weights, and each draws for itself."""
        if processes.count() == 1:
            return
        processes.meet()
        teacher = self.networks.teacher
        trained = (self.networks.student, self.networks.generator, *self.networks.beside_student)
        processes.refuse_differences(
            {
                # Of a sharded one each process has a part of its own.
                "the teacher's weights": None if is_sharded(teacher) else checksum(teacher.state_dict()),
                "settings": repr(self._config({})),
                **facts,
                "networks": [
                    [str(module), [list(p.shape) for p in module.parameters()]] for module in trained
                ],
            }
        )
        processes.copy_from_first(*trained)
        differ_between_processes()

    def _go_on(self, accept_changes: bool) -> None:
        """From the last checkpoint, which the first process reads for all."""

        def read() -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
            assert self.folder is not None
            return (
                resuming.changes(self.folder, self._config({}), accept_changes),
                self.folder.read_config(),
                self.folder.read_checkpoint(),
            )

        changes, before, state = processes.on_first(read)
        self._load_checkpoint(state)
        self._processes_before = sorted({*resuming.processes_so_far(before), processes.count()})
        self.history = self.on_folder(lambda folder: folder.read_metrics(self.iteration)) or []
        self.on_folder(lambda folder: folder.cut_sheets(self.iteration))
        if processes.count() != resuming.processes_so_far(before)[-1]:
            changes["processes"] = processes.count()
        if changes:
            noted = [*before.get("changes", []), {"at_iteration": self.iteration, **changes}]
            self.on_folder(lambda folder: folder.write_config({**before, "changes": noted}))

    def on_folder(self, use: Callable[[RunFolder], T]) -> T | None:
        """What ``use`` returns of the run's folder, which the first process alone has; None where there is none."""
        return processes.on_first(lambda: use(self.folder) if self.folder else None)

    @property
    def notices(self) -> list[str]:
        """What a lever could not do here, a line each."""
        folding = self.networks.folding
        notices = list(self.networks.notices)
        if folding and folding.kept:
            notices.append(f"teacher's batch norm layers: {folding}")
        if self.method.reads_features and (poor := self.networks.describe_poor_match()):
            notices.append(poor)
        if self._begun_again:
            notices.append(f"{self.out} holds no checkpoint yet: the run is begun again")
        if self._without_graph:
            notices.append(
                "no CUDA graph: it is left off with replay, generator_ema and terms that change over a run"
            )
        if len(self._processes_before) > 1:
            notices.append(
                f"the run has had {' and '.join(map(str, self._processes_before))} processes: it does not end with the "
                "very bits that it would have ended with"
            )
        return notices

    @property
    def generated_images(self) -> int:
        """Images generated so far, in both phases."""
        return self._generated_batches * self.batch_size

    @property
    def averaged_student(self) -> nn.Module | None:
        """The moving average of the student, in eval mode, if one is kept."""
        return self._average.network if self._average else None

    @property
    def best_student(self) -> dict[str, Any] | None:
        """The state dictionary of the best student at an evaluation of ``fit`` so far; None before the first one.
        ``best.describe()`` says which and by what, :class:`BestStudent` how it is chosen."""
        return self.best.weights

    @property
    def images_per_iteration(self) -> int:
        """Images that an iteration generates after the warm-up."""
        return self._phases.at(0, warm_up_iterations=0).iteration.generated_batches * self.batch_size

    def iterations_for(self, images: int) -> int:
        """Iterations of a run that generates about so many images, the warm-up counted."""
        return self._phases.iterations_for(images / self.batch_size)

    def _iterations_of(self, method: Method) -> Iteration:
        return Iteration(
            self.networks,
            method,
            self._student_optimiser,
            self._generator_optimiser,
            self.speed,
            self.batch_size,
            self._draw_own_noise,
            self.rehearsal,
        )

    def step(self) -> dict[str, Tensor]:
        """One iteration. Returns the unweighted terms of its last student and generator step, on the device.

        Nothing is read back from the device, so a loss that is not finite is the caller's to notice. Learning
        rates and weights that change over a run follow ``planned_iterations``, which ``fit`` sets; they are
        constant where it is None, and stay at their last value after it.
        """
        planned = self.planned_iterations
        progress = min(1.0, self.iteration / planned) if planned else 0.0
        factor = self.recipe.rate_factor(progress)
        self._student_optimiser.set_rate(self.recipe.student_lr * factor)
        self._generator_optimiser.set_rate(self.recipe.generator_lr * factor)
        if self._warm_up_iterations is None:
            # Once: a plan that grows later does not make the generator's warm-up longer.
            self._warm_up_iterations = self._phases.warm_up_iterations(planned)
        phase = self._phases.at(self.iteration, self._warm_up_iterations)
        self.iteration += 1
        self._generated_batches += phase.iteration.generated_batches
        weights = {
            phase: [row.weight_at(progress) for row in rows]
            for phase, rows in (("student", self.method.student), ("generator", self.method.generator))
        }
        # The caller may have switched them off.
        with torch.inference_mode(False), torch.enable_grad():
            done = phase.run(self._draw_mixing(phase.iteration), weights, progress)
        self.answers = done.answers
        if self._average:
            self._average.update(self.networks.student, self.iteration - 1)
        if self.rehearsal:
            self.rehearsal.follow(self.networks.generator, self.iteration - 1)
        last: dict[str, Tensor] = {}
        for losses in done.losses:
            if self.losses:
                self.losses.add(self.iteration, losses)
            last.update(losses)
        return last

    def _draw_mixing(self, iteration: Iteration) -> list[Draws]:
        """The terms' random numbers for an iteration, on the device."""
        return [
            [tuple(self._to_device(x) for x in drawn) for drawn in rows]
            for rows in iteration.draw(self._mixing)
        ]

    def _to_device(self, drawn: np.ndarray) -> Tensor:
        floating = torch.float64 if self.dtype == torch.float64 else torch.float32
        x = torch.as_tensor(drawn, device="cpu", dtype=floating if drawn.dtype.kind == "f" else None)
        if self.device.type == "cuda":
            x = x.pin_memory()  # else the host would wait for the copy
        return x.to(self.device, non_blocking=True)

    def fit(
        self,
        iterations: int,
        evaluate: Batches | None = None,
        *,
        log_every: int | None = None,
        evaluate_every: int | None = None,
        progress: Progress | None = None,
    ) -> dict[str, Any]:
        """Runs ``iterations`` more iterations and returns the summary (which is summary.json, if there is a folder).

        The learning rates fall over ``planned_iterations``, which are those of this call where they are not set. A
        later call that goes beyond them stretches the schedule, so that the rates rise again: it warns.

        The folder also gets a sheet of generated images at the first evaluation and in each tenth of the run, and at
        the end, however that comes, the page report.html.

        Args:
            evaluate: labelled test batches (images [B, C, H, W], labels [B]), in the same order each time; see
                dfad_fast.data.labelled_batches for other forms. Reported, and used to choose ``best_student``,
                without which it is chosen on generated images: see :class:`dfad_fast.engine.best.BestStudent`.
            log_every: iterations between records of metrics (default: 100 records a run). There is one more
                before each checkpoint.
            evaluate_every: iterations between evaluations, a multiple of ``log_every`` (default: 4 times that).
            progress: gets every iteration and record.

        Raises:
            UsageError: a number of iterations that is not positive.
            RunError: a loss or weight that is not finite, or a step that raised, as a network or a term of one's own
                may. The networks and the folder keep the last good state. Or files of the run's end that cannot be
                written, see ``save``.
            Stopped: a KeyboardInterrupt, after Ctrl-C or SIGTERM, when the iteration in hand is done and all is
                saved. A second Ctrl-C does not wait for that and raises a plain KeyboardInterrupt.
        """
        # What it keeps of the state is trained on later.
        with torch.inference_mode(False), used_alone(self.networks.teacher, self.networks.student):
            return Fit(self, evaluate, log_every, evaluate_every, progress).run(iterations)

    def stop(self) -> None:
        """Ends ``fit`` after the iteration in hand, with everything saved: for what its ``progress`` calls."""
        self.stop_asked = True

    def state_of_all(self) -> dict[str, Any]:
        """``state_dict``, with what the other processes have of their own."""
        state = self.state_dict()
        if processes.count() > 1:
            state["global_rng"] = processes.collect(state["global_rng"])
            state["rehearsal"] = self.rehearsal.state_of_all() if self.rehearsal else {}
        return state

    def sample(self, count: int) -> Tensor:
        """``count`` generated images [count, C, H, W] from noise that no step draws, generator in train mode.

        The same in every process of a run over several.
        """
        return torch.cat(list(self.held_out_batches(count)))

    def held_out_batches(self, count: int) -> Iterator[Tensor]:
        """The images of ``sample``, of which only one batch is held at a time."""
        noise = self._held_out_noise()
        # Not the whole batch of a run over many processes, which no single one has room for.
        return generate_batches(
            self.networks.generator,
            count,
            self.batch_size // processes.count(),
            lambda size: self._draw_noise(size, noise),
        )

    def summary(self, test_set: TestSet | None = None) -> dict[str, Any]:
        """What came out, as plain values. Accuracies are fractions; None without test images.

        Warns where a figure could not be taken, and where the generator has collapsed."""
        return outcome.summarise(self, test_set)

    def save(
        self, test_set: TestSet | None = None, tell: Callable[[str], None] = lambda text: None
    ) -> dict[str, Any]:
        """Writes everything the run's folder should hold (if there is one) and returns the summary.

        The student's weights come first and each file is written by itself: one that cannot be costs no other. Figures,
        pictures or a page that cannot be made are named in a warning.

        Args:
            tell: is told how far it is.

        Raises:
            RunError: weights, checkpoint or summary cannot be written. All else was tried before.
        """
        attempts = Attempts()
        # First, since the rest takes a while in which a run that is stopped may be killed, and draws numbers.
        self.try_to_save_state(attempts)
        best = self.best.iteration
        summary = outcome.summarise(self, test_set, tell)
        if self.out:
            samples = outcome.try_to_label_samples(self)

            def write(folder: RunFolder) -> list[tuple[str, str]]:
                own = Attempts()
                if self.best.iteration != best:  # the evaluation at the end of a run that was stopped
                    own.attempt(run_folder.BEST, lambda: self._save_best(folder))
                own.attempt(run_folder.SUMMARY, lambda: folder.write_summary(summary))
                outcome.draw(self, folder, summary, samples)
                return own.failures

            attempts.failures += self.on_folder(write) or []
        if attempts.failures:
            assert self.out is not None
            raise RunError(
                f"not everything could be saved in {self.out}: {attempts}: make room there"
                + (f" and go on with dfad-fast resume {self.out}" if checkpoints.all_of(self.out) else "")
            )
        return summary

    def save_state(self) -> None:
        """Writes weights and checkpoint. Raises RunError for those that cannot be written, once all were tried."""
        attempts = Attempts()
        self.try_to_save_state(attempts)
        if attempts.failures:
            raise RunError(f"not everything could be saved in {self.out}: {attempts}")

    def try_to_save_state(self, attempts: Attempts) -> None:
        """The student's weights first, the checkpoint, which is the largest file, last."""
        if not self.out:
            return
        attempts.failures += self.on_folder(self._try_to_save_weights) or []
        if state := attempts.attempt(checkpoints.CHECKPOINT, self.state_of_all, together=True):

            def write(folder: RunFolder) -> list[tuple[str, str]]:
                own = Attempts()
                own.attempt(checkpoints.CHECKPOINT, lambda: folder.write_checkpoint(state))
                return own.failures

            attempts.failures += self.on_folder(write) or []

    def _try_to_save_weights(self, folder: RunFolder) -> list[tuple[str, str]]:
        """What could not be written, with the reasons."""
        own = Attempts()
        told = {"iteration": str(self.iteration)}
        files = {
            run_folder.STUDENT: self.networks.student,
            run_folder.AVERAGED: self.averaged_student,
            run_folder.GENERATOR: self.networks.generator,
        }
        for name, network in files.items():
            if network is not None:
                own.attempt(name, lambda: folder.write_weights(name, state_of(network), told))  # noqa: B023
        own.attempt(run_folder.BEST, lambda: self._save_best(folder))
        return own.failures

    def _save_best(self, folder: RunFolder) -> None:
        if self.best.weights is not None:
            # One entry, since the order of several would differ from file to file.
            told = {"iteration": str(self.best.iteration)}
            folder.write_weights(run_folder.BEST, self.best.weights, told)

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on: weights, optimisers, sources of randomness, position. Of several processes each
        has sources and old images of its own."""
        return {
            "weights": self.weights(),
            "student_optimizer": self._student_optimiser.state_dict(),
            "generator_optimizer": self._generator_optimiser.state_dict(),
            "noise": self._noise.get_state(),
            "mixing": self._mixing.bit_generator.state,
            "global_rng": global_state(self.device),
            "iteration": self.iteration,
            "planned_iterations": self.planned_iterations,
            "warm_up_iterations": self._warm_up_iterations,
            "generated_batches": self._generated_batches,
            "seconds": self.seconds,
            **self.best_so_far(),
            "rehearsal": self.rehearsal.state_dict() if self.rehearsal else {},
        }

    def best_so_far(self) -> dict[str, Any]:
        """The part of the state that evaluations change."""
        return {"best_accuracy": self.best_accuracy, "best_student": self.best.state_dict()}

    def snapshot(self) -> dict[str, Any]:
        """The state as it is now. Batches that are kept for replay, and what is kept of the best student, are not
        copied: nothing writes to them."""
        shared = [*(self.rehearsal.kept if self.rehearsal else []), *self.best.tensors]
        return copy.deepcopy(self.state_dict(), {id(tensor): tensor for tensor in shared})

    def _load_checkpoint(self, state: dict[str, Any]) -> None:
        try:
            self.load_state_dict(self._own_part(state))
        except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
            reason = in_one_line(error)
            raise UsageError(
                f"the checkpoint in {self.out} does not fit these networks and this device ({reason}): go on "
                "with what the run was started with, or start anew with dfad-fast distill"
            ) from error

    def _own_part(self, state: dict[str, Any]) -> dict[str, Any]:
        """Of the state that all processes saved together. One that the run had none of has its own sources of
        randomness."""
        sources = state["global_rng"]
        if isinstance(sources, list):
            sources = sources[processes.rank()] if processes.rank() < len(sources) else None
        elif not processes.is_first():
            sources = None
        rehearsal = self.rehearsal.own_part(state["rehearsal"]) if self.rehearsal else {}
        return {**state, "global_rng": sources, "rehearsal": rehearsal}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to where ``state_dict`` was taken, the global sources of randomness included."""
        self._phases.forget()
        self._load_weights(state["weights"])
        self._student_optimiser.load_state_dict(state["student_optimizer"])
        self._generator_optimiser.load_state_dict(state["generator_optimizer"])
        self._noise.set_state(state["noise"])
        self._mixing.bit_generator.state = state["mixing"]
        if state["global_rng"] is not None:
            restore_global_state(state["global_rng"], self.device)
        self.iteration = state["iteration"]
        self.planned_iterations = state["planned_iterations"]
        self._warm_up_iterations = state["warm_up_iterations"]
        self._generated_batches = state["generated_batches"]
        self.seconds = state["seconds"]
        self.best_accuracy = state["best_accuracy"]
        if "best_student" in state:  # not in checkpoints of older versions
            self.best.load_state_dict(state["best_student"], self.device)
        if self.rehearsal:
            self.rehearsal.load_state_dict(state["rehearsal"])

    def _trained(self) -> dict[str, nn.Module]:
        trained: dict[str, nn.Module] = {
            "student": self.networks.student,
            "generator": self.networks.generator,
            "connectors": self.networks.connectors,
        }
        if self.networks.term_modules:
            trained["term_modules"] = self.networks.term_modules
        if self.averaged_student is not None:
            trained["averaged_student"] = self.averaged_student
        return trained

    @property
    def rates(self) -> dict[str, float]:
        """The learning rates of the last step, by their names in records."""
        return {
            "student_lr": self._student_optimiser.rate,
            "generator_lr": self._generator_optimiser.rate,
        }

    def weights(self) -> dict[str, dict[str, Any]]:
        return {name: state_of(module) for name, module in self._trained().items()}

    def _load_weights(self, weights: dict[str, dict[str, Any]]) -> None:
        for name, module in self._trained().items():
            load_state(module, weights[name])

    def has_diverged(self) -> bool:
        """Whether a weight or statistic that was finite at first is NaN or infinite. Waits for the device."""
        return any(name not in self._infinite_from_the_start for name in self._not_finite())

    def _not_finite(self) -> Iterator[tuple[str, str]]:
        for name, state in self.weights().items():
            for key, value in state.items():
                if isinstance(value, Tensor) and not bool(value.isfinite().all()):
                    yield name, key

    def _held_out_noise(self) -> torch.Generator:
        # Not an offset of the seed: torch's CPU generator looks at its low 32 bits only.
        seed = int(np.random.SeedSequence([self.seed, 1]).generate_state(1)[0])
        return torch.Generator(self.device).manual_seed(seed)

    def _draw_own_noise(self, count: int) -> Tensor:
        """Noise for ``count`` of this process's images, in whole batches: its rows of what all draw alike."""
        noise = self._draw_noise(count * processes.count(), self._noise)
        batches = noise.view(-1, self.batch_size, self.latent_dim)
        return batches[:, processes.own_rows(self.batch_size)].reshape(count, self.latent_dim)

    def _draw_noise(self, count: int, source: torch.Generator) -> Tensor:
        return torch.randn(count, self.latent_dim, generator=source, device=self.device, dtype=self.dtype)

    def _config(self, further: dict[str, Any]) -> dict[str, Any]:
        return {
            **further,
            "method": self.method.name,
            "terms": self.method.describe(),
            "image_shape": list(self.image_shape),
            "latent_dim": self.latent_dim,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "recipe": asdict(self.recipe),
            "levers": asdict(self.speed),
            **self._cures,
            "taps": self.networks.describe_taps() if self.method.reads_features else [],
            "processes": processes.count(),
            "sync_batch_norm": self._sync_batch_norm,
            "versions": versions(),
        }
