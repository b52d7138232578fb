"""Every setting of ``dfad-fast distill``, by the name of its option: those of a run, and those that name its parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dfad_fast.engine.settings import STUDENT_INIT
from dfad_fast.runs.settings import RunSettings
from dfad_fast.settings import BATCH, COUNT, EPOCHS, SEED, Limits, Setting, declared, setting

LENGTHS = ("iterations", "images", "minutes")
"""The settings that say how long a run is, of which one is given."""


@dataclass(kw_only=True)
class DistillSettings(RunSettings):
    """What ``dfad-fast distill`` is told. Saved in the run's config.yaml."""

    dataset: str | None = setting(
        None, "Train (or take the cached) teacher of this dataset, and evaluate on its test images."
    )
    data_dir: str | None = setting(None, "Folder with the dataset's files.", changes_result=False)
    teacher: str | None = setting(
        None,
        "pkg.module:factory, file.py:factory, timm:NAME, torchvision:NAME, hf:FOLDER, a network's name, or a program: "
        "FILE.pt of TorchScript, FILE.pt2 of torch.export, FILE.onnx.",
    )
    teacher_weights: tuple[str, ...] | None = setting(
        None,
        "The teacher's weights: .safetensors, or a file of torch.save with a state_dict anywhere in it; KEY, such as "
        "checkpoint.ema, says which where several fit. Given several times, each is a member of an ensemble.",
        multiple=True,
        metavar="FILE[::KEY]",
    )
    teacher_url: str | None = setting(
        None,
        "Instead of a network: an address that answers images, as a black box. Needs --classes and --image-shape, or "
        "--dataset.",
        metavar="URL",
    )
    teacher_answers: str | None = setting(
        None,
        "Take the teacher as a black box that answers logits, probabilities or labels; with --teacher-url auto, by the "
        "first answers, where it is left out.",
        metavar="auto|logits|probabilities|labels",
    )
    query_budget: int | None = setting(
        None,
        "The most images that a black-box teacher is sent; the run ends when they are used up.",
        limits=COUNT,
        changes_result=False,
        profiled=False,
    )
    query_batch: int = setting(256, "The most images in one request to a black-box teacher.", limits=COUNT)
    query_timeout: float = setting(
        30.0,
        "Seconds to wait for a server's answer.",
        limits=Limits(above=0, most=10**6),
        changes_result=False,
        profiled=False,
    )
    query_retries: int = setting(
        4,
        "How often a request without a whole answer is repeated, after 0.5, 1, 2 ... seconds, at most 60.",
        limits=Limits(0, 20),
        changes_result=False,
        profiled=False,
    )
    teacher_epochs: int | None = setting(
        None, "Epochs for a teacher that is trained here.", limits=EPOCHS, profiled=False
    )
    teacher_seed: int = setting(0, "Seed of a teacher that is trained here.", limits=SEED, profiled=False)
    teacher_count: int = setting(
        1,
        "Teachers that are trained here, each with the seed after the one before, for an ensemble.",
        limits=Limits(1, 100),
    )
    ensemble_mean: str = setting(
        "logits",
        "What several teachers' answers are averaged as: logits, or probabilities.",
        metavar="logits|probabilities",
    )
    ensemble_weights: tuple[float, ...] | None = setting(
        None, "How much each of several teachers counts (default: all the same)."
    )
    teachers: str = setting(
        "runs/teachers", "Folder of teachers trained here.", changes_result=False, profiled=False
    )
    student: str | None = setting(None, "The same for the student, which is no program.")
    image_shape: tuple[int, ...] | None = setting(None, "CHANNELS,HEIGHT,WIDTH of the teacher's images.")
    classes: int | None = setting(
        None, "Number of classes, for a teacher given by a network's name.", limits=Limits(2, 10**7)
    )
    mean: tuple[float, ...] | None = setting(
        None, "Mean per channel that the teacher's images were normalized with."
    )
    std: tuple[float, ...] | None = setting(
        None, "Deviation per channel that the teacher's images were normalized with."
    )
    evaluate: str | None = setting(
        None,
        "Dataset whose test images the student is reported on. Never trained on.",
        changes_result=False,
        profiled=False,
    )
    plugin: tuple[str, ...] | None = setting(
        None,
        "Code with terms, sources and methods of your own, which is run; may be given several times.",
        multiple=True,
        metavar="FILE.py|MODULE",
    )
    batch_per_process: int | None = setting(
        None,
        "The same for each process, instead: more processes, larger batches.",
        limits=BATCH,
        after="batch_size",
        profiled=False,
    )
    iterations: int | None = setting(
        None,
        "Iterations: the method's student steps and generator steps.",
        limits=COUNT,
        after="batch_per_process",
        profiled=False,
    )
    images: int | None = setting(
        None,
        "Images to generate, instead of --iterations: methods differ in how many an iteration takes.",
        limits=COUNT,
        after="iterations",
        profiled=False,
    )
    minutes: float | None = setting(
        None,
        "Minutes to train for, about, instead: some iterations are timed first, a bank being filled for it too, and "
        "config.yaml records how many it takes.",
        limits=Limits(above=0, most=10**6),
        after="images",
        profiled=False,
    )
    lever: tuple[str, ...] | None = setting(
        None,
        "One switch of the step, over --speed: precision=bfloat16, student_batches=1, winograd=off ...",
        multiple=True,
        metavar="NAME=VALUE",
        after="speed",
    )
    process_timeout: float = setting(
        600.0,
        "Seconds after which a process of several that does not answer ends the run.",
        limits=Limits(above=0, most=10**8),
        after="sync_batch_norm",
        changes_result=False,
        profiled=False,
    )
    device: str = setting("auto", "auto, cpu, cuda, cuda:1 ...", after="seed", changes_result=False)
    # In Python the student may be anybody's, and stays as it is handed in; here it is built anew.
    student_init: str = setting(
        "auto", STUDENT_INIT, metavar="auto|teacher|random", after="recipe", resolved=True
    )
    # In Python no folder is None; here it has a name of its own.
    out: str | None = setting(
        None,
        "The run's folder (default: runs/DATASET-METHOD-seedSEED).",
        after="seed",
        changes_result=False,
        profiled=False,
    )


def distill_settings() -> dict[str, Setting]:
    """The declarations in the order of the options: what names networks and data, then what a run is told."""
    declarations = declared(DistillSettings)
    names = dict.fromkeys((*DistillSettings.__annotations__, *declarations))
    order = [name for name in names if declarations[name].after is None]
    for name, own in declarations.items():
        if own.after is not None:
            order.insert(order.index(own.after) + 1, name)
    return {name: declarations[name] for name in order}


def as_plain(settings: DistillSettings) -> dict[str, Any]:
    """The settings by name, in that order."""
    return {name: getattr(settings, name) for name in distill_settings()}
