"""DFADTrainer: student and generator in alternation, against a frozen teacher."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from dfad_fast.errors import RunError, UsageError
from dfad_fast.methods import Method
from dfad_fast.models.check import as_image_shape
from dfad_fast.training import outcome, pictures, run_folder
from dfad_fast.training.allocator import pin_allocator
from dfad_fast.training.average import MovingAverage
from dfad_fast.training.choice import Terms, choose_method
from dfad_fast.training.environment import versions
from dfad_fast.training.evaluation import Batches, TestSet
from dfad_fast.training.generators import check_generator, generate, make_generator
from dfad_fast.training.interrupt import StopOnSignal
from dfad_fast.training.levers import Levers, choose_levers
from dfad_fast.training.losses import Losses, NotFinite
from dfad_fast.training.networks import Draws, Networks
from dfad_fast.training.optimisers import Optimiser
from dfad_fast.training.phases import Phases
from dfad_fast.training.recipe import Recipe, choose_recipe
from dfad_fast.training.run_folder import RunFolder
from dfad_fast.training.step import Iteration

_CHECKPOINT_SECONDS = 60.0


class Stopped(KeyboardInterrupt):
    """A run was stopped by Ctrl-C or SIGTERM, after everything was saved."""


class Progress(Protocol):
    """What ``fit`` tells of a run while it lasts."""

    def advance(self, iteration: int) -> None:
        """One more iteration is done. Called often: must be cheap."""

    def log(self, record: dict[str, Any]) -> None:
        """A record of metrics.jsonl was written."""


class DFADTrainer:
    """Distils ``teacher`` into ``student`` without data.

    One iteration is the method's student steps followed by its generator steps, each on fresh noise (``fast``: the
    generator's first, and the student's on its batch). The
    teacher stays frozen and in eval mode; neither network is changed otherwise, and features are read by hooks
    that exist only while a step runs.

    Args:
        teacher: maps images [B, C, H, W] to logits [B, classes]. Any nn.Module.
        student: the same, with as many classes, on the same device. Trained in place.
        image_shape: (C, H, W) of the images that the teacher was trained on.
        method: a name (``dfad``, ``dfad-ar``, ``dfad-vi``, ``dfad-ar-vi``, ``dfad-ar-vi-bn``, ``zskt``, ``dafl``,
            ``dfq``), a Method, or ``auto``: ``dfad-ar-vi-bn`` for a teacher with batch norm layers, else
            ``dfad-ar-vi``.
        generator: ``dfad`` (the published one), ``auto`` (the same at a quarter or half of its width), ``zskt``,
            ``dafl``, ``dcgan`` (for images of 64 pixels and more), or any nn.Module that maps noise
            [B, latent_dim] to images in the teacher's normalised input space.
        latent_dim: length of the noise vectors, drawn from N(0, I).
        batch_size: images per step.
        seed: fixes everything that the trainer draws: its generator's weights, noise, mixtures. (Dropout in a
            user's network draws from torch's global generator.)
        out: the run's folder; None keeps everything in memory.
        recipe: ``auto`` (the method's own; else ``sgd`` for a student with batch norm layers and ``adam`` for others),
            a name such as ``published``, or a Recipe.
        taps_teacher, taps_student: names of taps (see dfad_fast.models.taps) instead of those found.
        overwrite: whether a folder that holds another run may be written over.
        resume: go on with the run that the folder holds, from its last checkpoint. The networks and settings
            must be what they were.
        image_mean, image_std: the normalisation of the teacher's images, one value per channel, for showing
            generated images in their true colours; without them each is shown from its darkest to its
            brightest value.
        config: further settings to be recorded in the run's config.yaml.
        speed: ``exact`` (the published mathematics in float32), ``auto`` (the same in bfloat16 where the machine has
            fast matrix products in it), ``fast`` (fewer generated batches too), or Levers, one switch each; see
            dfad_fast.training.levers.
        student_terms, generator_terms: the phase's objective instead of the method's: rows (Weighted), or text such as
            ``"l1 + 0.1*boundary(margin=0.5, schedule=linear)"``, see dfad_fast.terms.
        student_ema: decay per iteration, such as 0.99, of an exponential moving average of the student's weights, which
            is evaluated and saved beside the student (``averaged_student``); None for none.

    Raises:
        UsageError: networks that do not fit each other or the image shape, unknown names, a folder that holds
            another run.
    """

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
    ) -> None:
        shape = as_image_shape(image_shape)
        for name, value, least in (
            ("latent_dim", latent_dim, 1),
            ("batch_size", batch_size, 2),
            ("seed", seed, 0),
        ):
            if value < least:
                raise UsageError(f"{name} must be at least {least}, got {value}")
        self.image_shape = shape
        self.latent_dim = latent_dim
        self.batch_size = batch_size
        self.seed = seed
        parameter = next(student.parameters(), torch.empty(0))
        self.device, self.dtype = parameter.device, parameter.dtype
        self.speed = choose_levers(speed, self.device)
        if self.speed.pin_allocator:
            pin_allocator()
        self.iteration = 0
        self.planned_iterations: int | None = None
        self._warm_up_iterations: int | None = None
        self._generated_batches = 0
        self.seconds = 0.0
        self.best_accuracy: float | None = None
        self.history: list[dict[str, Any]] = []

        # Networks made here draw from torch's global generator, which is put back as it was.
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(seed)
            made = make_generator(generator, shape, latent_dim, self.speed.fused_generator)
            made.to(self.device, self.dtype)
            self.networks = Networks(
                teacher,
                student,
                made,
                shape,
                taps_teacher,
                taps_student,
                self.speed,
            )
            self.method = choose_method(method, self.networks, student_terms, generator_terms)
            self.recipe = choose_recipe(recipe, student, self.method.recipe)
            self._noise = torch.Generator(self.device).manual_seed(seed)
            self._mixing = np.random.default_rng(seed)
            check_generator(made, self._draw_noise(2, self._held_out_noise()), shape)

        self._average = None if student_ema is None else MovingAverage(student, student_ema)
        trained = [*student.parameters(), *self.networks.connectors.parameters()]
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
        self._phases = Phases(self._iterations_of, self.method, self._noise if self.speed.graph else None)
        self._losses: Losses | None = None
        self._answers: tuple[Tensor, Tensor] | None = None
        self._last_good = copy.deepcopy(self.state_dict())
        self.normalisation = pictures.normalisation(image_mean, image_std, shape[0])
        self._folder = RunFolder(out, overwrite=overwrite, resume=resume) if out is not None else None
        if self._folder and resume:
            self._load_checkpoint(self._folder)
            self.history = self._folder.read_metrics(self.iteration)
        elif self._folder:
            self._folder.write_config(self._config(config or {}))

    @property
    def notices(self) -> list[str]:
        """What a lever could not do here, a line each."""
        folding = self.networks.folding
        return [f"teacher's batch norm layers: {folding}"] if folding and folding.kept else []

    @property
    def generated_images(self) -> int:
        """Images generated so far, in both phases."""
        return self._generated_batches * self.batch_size

    @property
    def averaged_student(self) -> nn.Module | None:
        """The moving average of the student, in eval mode, if one is kept."""
        return self._average.network if self._average else None

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
            lambda count: self._draw_noise(count, self._noise),
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
        done = phase.run(self._draw_mixing(phase.iteration), weights)
        self._answers = done.answers
        if self._average:
            self._average.update(self.networks.student, self.iteration - 1)
        last: dict[str, Tensor] = {}
        for losses in done.losses:
            if self._losses:
                self._losses.add(self.iteration, losses)
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
        x = torch.as_tensor(drawn, dtype=floating if drawn.dtype.kind == "f" else None)
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

        Args:
            evaluate: labelled test batches (images, labels), in the same order each time. Only reported.
            log_every: iterations between records of metrics (default: 100 records a run). There is one more
                before each checkpoint, once a minute.
            evaluate_every: iterations between evaluations, a multiple of ``log_every`` (default: 4 times that).
            progress: is told of every iteration and record.

        Raises:
            UsageError: a number of iterations that is not positive.
            RunError: a loss or weight that is not finite. The networks and the folder keep the last good state.
            Stopped: a KeyboardInterrupt, after Ctrl-C or SIGTERM, when the iteration in hand is done and all is
                saved. A second Ctrl-C does not wait for that and raises a plain KeyboardInterrupt.
        """
        if iterations <= 0:
            raise UsageError(f"iterations must be at least 1, got {iterations}")
        target = self.iteration + iterations
        if self.planned_iterations is None or self.planned_iterations < target:
            self.planned_iterations = target
        log_every = log_every or max(1, self.planned_iterations // 100)
        evaluate_every = evaluate_every or 4 * log_every
        self._losses = Losses()
        with StopOnSignal() as stop:
            test_set = TestSet(self.networks.teacher, evaluate) if evaluate is not None else None
            saved_at = time.monotonic()
            while self.iteration < target and not stop.requested:
                started = time.perf_counter()
                self.step()
                self.seconds += time.perf_counter() - started
                checkpoint_due = time.monotonic() - saved_at > _CHECKPOINT_SECONDS
                last = self.iteration == target or stop.requested
                if last or checkpoint_due or self.iteration % log_every == 0:
                    evaluated_on = test_set if last or self.iteration % evaluate_every == 0 else None
                    self._record(self._losses, evaluated_on, progress)
                if progress:
                    progress.advance(self.iteration)
                if checkpoint_due:
                    if self._folder:
                        self._folder.write_checkpoint(self.state_dict())
                    saved_at = time.monotonic()
            stopped = self.iteration < target
            if not self._losses.empty:  # nothing unchecked is saved
                self._record(self._losses, test_set, progress)
            summary = self.save(test_set)
            self._losses = None
        if stopped:
            raise Stopped
        return summary

    def _record(self, collected: Losses, test_set: TestSet | None, progress: Progress | None) -> None:
        started = time.perf_counter()
        record = self._checked_record(collected)
        self.seconds += time.perf_counter() - started
        record["seconds"] = round(self.seconds, 3)
        if test_set:
            scores = test_set.scores(self.networks.student)
            record["student_accuracy"] = scores.student_accuracy
            record["agreement"] = scores.agreement
            self.best_accuracy = max(scores.student_accuracy, self.best_accuracy or 0.0)
            if self.averaged_student is not None:
                record["averaged_accuracy"] = test_set.scores(self.averaged_student).student_accuracy
        self.history.append(record)
        if self._folder:
            self._folder.append_metrics(record)
        if progress:
            progress.log(record)

    def _checked_record(self, collected: Losses) -> dict[str, Any]:
        """The metrics since the last record. The only place of a run that waits for the device."""
        losses, bad = collected.take()
        weights = self._weights()
        if bad is None and not all(
            bool(value.isfinite().all()) for state in weights.values() for value in state.values()
        ):
            bad = NotFinite("a weight", self.iteration)
        if bad is not None:
            self._give_up(bad)
        self._last_good = copy.deepcopy(self.state_dict())
        return {
            "iteration": self.iteration,
            "generated_images": self.generated_images,
            **losses,
            **self._batch_agreement(),
        }

    def _batch_agreement(self) -> dict[str, float]:
        """On the last batch that the student learnt from; nothing where it has learnt from none."""
        if self._answers is None:
            return {}
        student, teacher = self._answers
        return {"agreement_batch": (student.argmax(1) == teacher.argmax(1)).float().mean().item()}

    def _give_up(self, bad: NotFinite) -> None:
        self.load_state_dict(self._last_good)
        kept = f"everything is back at the last good state, iteration {self.iteration}"
        if self._folder:
            self._folder.write_checkpoint(self.state_dict())
            self._save_weights()
            kept += f", saved in {self._folder.path}"
        raise RunError(
            f"{bad.name} is not finite at iteration {bad.iteration}; {kept}: lower the learning rates "
            "(--student-lr, --generator-lr; in Python, recipe=) or choose another method; a teacher that "
            "answers NaN or inf shows at iteration 1"
        )

    def sample(self, count: int) -> Tensor:
        """``count`` generated images [count, C, H, W] from noise that no step draws, generator in train mode."""
        noise = self._held_out_noise()
        return generate(
            self.networks.generator, count, self.batch_size, lambda size: self._draw_noise(size, noise)
        )

    def summary(self, test_set: TestSet | None = None) -> dict[str, Any]:
        """What came out, as plain values. Accuracies are fractions; None without test images."""
        return outcome.summarise(self, test_set)

    def save(self, test_set: TestSet | None = None) -> dict[str, Any]:
        """Writes everything the run's folder should hold (if there is one) and returns the summary."""
        summary = self.summary(test_set)
        if self._folder:
            self._folder.write_checkpoint(self.state_dict())
            self._save_weights()
            self._folder.write_summary(summary)
            outcome.draw(self, self._folder, summary)
        return summary

    def _save_weights(self) -> None:
        assert self._folder is not None
        self._folder.write_weights(run_folder.STUDENT, self.networks.student.state_dict())
        self._folder.write_weights(run_folder.GENERATOR, self.networks.generator.state_dict())
        if self.averaged_student is not None:
            self._folder.write_weights(run_folder.AVERAGED, self.averaged_student.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on: weights, optimisers, sources of randomness, position."""
        return {
            "weights": self._weights(),
            "student_optimizer": self._student_optimiser.state_dict(),
            "generator_optimizer": self._generator_optimiser.state_dict(),
            "noise": self._noise.get_state(),
            "mixing": self._mixing.bit_generator.state,
            "global_rng": [torch.get_rng_state(), *self._cuda_rng()],
            "iteration": self.iteration,
            "planned_iterations": self.planned_iterations,
            "warm_up_iterations": self._warm_up_iterations,
            "generated_batches": self._generated_batches,
            "seconds": self.seconds,
            "best_accuracy": self.best_accuracy,
        }

    def _load_checkpoint(self, folder: RunFolder) -> None:
        state = folder.read_checkpoint()
        try:
            self.load_state_dict(state)
        except (RuntimeError, KeyError, ValueError, TypeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UsageError(
                f"the checkpoint in {folder.path} does not fit these networks and this device ({reason}): go on "
                "with what the run was started with, or start anew with dfad-fast distill"
            ) from error

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to where ``state_dict`` was taken, torch's global generator included."""
        self._phases.forget()
        self._load_weights(state["weights"])
        self._student_optimiser.load_state_dict(state["student_optimizer"])
        self._generator_optimiser.load_state_dict(state["generator_optimizer"])
        self._noise.set_state(state["noise"])
        self._mixing.bit_generator.state = state["mixing"]
        torch.set_rng_state(state["global_rng"][0])
        for cuda_state in state["global_rng"][1:]:
            torch.cuda.set_rng_state(cuda_state, self.device)
        self.iteration = state["iteration"]
        self.planned_iterations = state["planned_iterations"]
        self._warm_up_iterations = state["warm_up_iterations"]
        self._generated_batches = state["generated_batches"]
        self.seconds = state["seconds"]
        self.best_accuracy = state["best_accuracy"]

    def _cuda_rng(self) -> list[Tensor]:
        return [torch.cuda.get_rng_state(self.device)] if self.device.type == "cuda" else []

    def _trained(self) -> dict[str, nn.Module]:
        trained: dict[str, nn.Module] = {
            "student": self.networks.student,
            "generator": self.networks.generator,
            "connectors": self.networks.connectors,
        }
        if self.averaged_student is not None:
            trained["averaged_student"] = self.averaged_student
        return trained

    def _weights(self) -> dict[str, dict[str, Tensor]]:
        return {
            name: {key: value.detach() for key, value in module.state_dict().items()}
            for name, module in self._trained().items()
        }

    def _load_weights(self, weights: dict[str, dict[str, Tensor]]) -> None:
        for name, module in self._trained().items():
            module.load_state_dict(weights[name])

    def _held_out_noise(self) -> torch.Generator:
        # Not an offset of the seed: torch's CPU generator looks at its low 32 bits only.
        seed = int(np.random.SeedSequence([self.seed, 1]).generate_state(1)[0])
        return torch.Generator(self.device).manual_seed(seed)

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
            "taps": self.networks.describe_taps() if self.method.reads_features else [],
            "versions": versions(),
        }
