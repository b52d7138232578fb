"""The iterations of a run: what each consists of, and when it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from dfad_fast.distributed import processes
from dfad_fast.engine.iteration import Iteration
from dfad_fast.engine.planning import plan_for, with_older_images
from dfad_fast.engine.random_numbers import RandomNumbers
from dfad_fast.engine.schedule import Schedule
from dfad_fast.engine.settings import DistillerSettings
from dfad_fast.methods import Method
from dfad_fast.networks.levers import PLAIN, Levers
from dfad_fast.networks.optimizers import ScaledOptimizer
from dfad_fast.networks.probing import Prober
from dfad_fast.networks.trio import Trio
from dfad_fast.sources import GeneratorsBatch, ImageForm, Source, Workbench
from dfad_fast.sources.storage import Storage


def plan_iterations(
    prober: Prober,
    method: Method,
    levers: Levers,
    settings: DistillerSettings,
    form: ImageForm,
    random: RandomNumbers,
    optimizers: Sequence[ScaledOptimizer],
    storage: Storage,
) -> tuple[Source, Schedule]:
    """The source and the schedule of a run; ``optimizers`` are the student's and the generator's."""
    of_student, of_generator = optimizers
    bench = Workbench(
        prober,
        of_generator,
        random.draw_own_noise,
        settings.batch_size,
        settings.batch_size // processes.count(),
        form,
        settings.seed,
        storage,
    )
    source = method.source_spec.make(bench, plan_for(method, levers))
    if method.student_steps:
        source = with_older_images(source, method, bench, settings)
    whole = Iteration(prober, method, source, of_student, settings.batch_size)
    warm_up = None
    if method.warm_up:
        # Whatever the student learns from later, the warm-up is for the run's generator.
        alone = replace(method, student_steps=0, batches=GeneratorsBatch())
        generator = alone.source_spec.make(bench, plan_for(alone, levers))
        warm_up = Iteration(prober, alone, generator, of_student, settings.batch_size)
    noise = random.noise if levers.graph else None
    return source, Schedule(whole, warm_up, method.warm_up, noise, optimizers)


def source_at_rest(networks: Trio, method: Method, form: ImageForm, batch_size: int, seed: int) -> Source:
    """The source of a finished run, for images that no step saw."""

    def no_noise(own: int, whole: int) -> Tensor:
        raise AssertionError("a source at rest makes no batches")

    bench = Workbench(Prober(networks), None, no_noise, batch_size, batch_size, form, seed)
    return method.source_spec.make(bench, plan_for(method, PLAIN))
