"""Every setting of ``dfad-fast distill``, named like its option: those of a run, and those that name its parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dfad_fast.engine.settings import STUDENT_INIT
from dfad_fast.runs.settings import RunSettings
from dfad_fast.settings import BATCH, COUNT, EPOCHS, SEED, Limits, Setting, declared, setting

LENGTHS = ("iterations", "images", "minutes")
"""The settings for the length of a run. At most one of them is given."""


@dataclass(kw_only=True)
class DistillSettings(RunSettings):
    """The settings of ``dfad-fast distill``. Saved in the run's config.yaml."""

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
        "The teacher's weights: .safetensors, or a torch.save file with a state_dict anywhere in it; KEY, such as "
        "checkpoint.ema, selects one if several fit. If given several times, each is a member of an ensemble.",
        multiple=True,
        metavar="FILE[::KEY]",
    )
    teacher_url: str | None = setting(
        None,
        "URL of a server that is the teacher, as a black box: it takes images and returns its answers. Needs --classes "
        "and --image-shape, or --dataset.",
        metavar="URL",
    )
    teacher_answers: str | None = setting(
        None,
        "Treat the teacher as a black box that returns logits, probabilities or labels. The default with --teacher-url "
        "is auto: detected from the first answers.",
        metavar="auto|logits|probabilities|labels",
    )
    query_budget: int | None = setting(
        None,
        "Maximum number of images sent to a black-box teacher; the run ends when they are used up.",
        limits=COUNT,
        changes_result=False,
        profiled=False,
    )
    query_batch: int = setting(256, "Maximum images per request to a black-box teacher.", limits=COUNT)
    query_timeout: float = setting(
        30.0,
        "Seconds to wait for a server's answer.",
        limits=Limits(above=0, most=10**6),
        changes_result=False,
        profiled=False,
    )
    query_retries: int = setting(
        4,
        "How often to retry a request without a whole answer, after 0.5, 1, 2 ... seconds, at most 60.",
        limits=Limits(0, 20),
        changes_result=False,
        profiled=False,
    )
    teacher_epochs: int | None = setting(
        None, "Epochs for a teacher trained here.", limits=EPOCHS, profiled=False
    )
    teacher_seed: int = setting(0, "Seed of a teacher trained here.", limits=SEED, profiled=False)
    teacher_count: int = setting(
        1,
        "Number of teachers trained here, with consecutive seeds, for an ensemble.",
        limits=Limits(1, 100),
    )
    ensemble_mean: str = setting(
        "logits",
        "How to average the answers of several teachers: as logits or as probabilities.",
        metavar="logits|probabilities",
    )
    ensemble_weights: tuple[float, ...] | None = setting(
        None, "Weight of each of several teachers (default: all equal)."
    )
    teachers: str = setting(
        "runs/teachers", "Folder of teachers trained here.", changes_result=False, profiled=False
    )
    student: str | None = setting(None, "The same for the student, except programs.")
    image_shape: tuple[int, ...] | None = setting(None, "CHANNELS,HEIGHT,WIDTH of the teacher's images.")
    classes: int | None = setting(
        None, "Number of classes, for a teacher given by the name of a network.", limits=Limits(2, 10**7)
    )
    mean: tuple[float, ...] | None = setting(
        None, "Mean per channel that the teacher's images were normalized with."
    )
    std: tuple[float, ...] | None = setting(
        None, "Deviation per channel that the teacher's images were normalized with."
    )
    evaluate: str | None = setting(
        None,
        "Test images to evaluate the student on, never used for training: a dataset's name, a folder with a subfolder "
        "for each class, or an .npz with images and labels.",
        changes_result=False,
        profiled=False,
    )
    plugin: tuple[str, ...] | None = setting(
        None,
        "Code with your own terms, sources and methods, which is executed; may be given several times.",
        multiple=True,
        metavar="FILE.py|MODULE",
    )
    batch_per_process: int | None = setting(
        None,
        "Images per step of each process, instead of --batch-size: more processes make larger batches.",
        limits=BATCH,
        after="batch_size",
        profiled=False,
    )
    iterations: int | None = setting(
        None,
        "Number of iterations, each with the method's student steps and generator steps.",
        limits=COUNT,
        after="batch_per_process",
        profiled=False,
    )
    images: int | None = setting(
        None,
        "Images to generate, instead of --iterations: methods generate different numbers per iteration.",
        limits=COUNT,
        after="iterations",
        profiled=False,
    )
    minutes: float | None = setting(
        None,
        "Approximate minutes to train, instead of --iterations: some iterations are timed first, including filling a "
        "bank, and config.yaml records the resulting number.",
        limits=Limits(above=0, most=10**6),
        after="images",
        profiled=False,
    )
    lever: tuple[str, ...] | None = setting(
        None,
        "One switch of the step, overrides --speed: precision=bfloat16, student_batches=1, winograd=off ...",
        multiple=True,
        metavar="NAME=VALUE",
        after="speed",
    )
    process_timeout: float = setting(
        600.0,
        "With several processes: seconds without a response from one of them after which the run ends.",
        limits=Limits(above=0, most=10**8),
        after="sync_batch_norm",
        changes_result=False,
        profiled=False,
    )
    device: str = setting("auto", "auto, cpu, cuda, cuda:1 ...", after="seed", changes_result=False)
    # In Python the student belongs to the user and is not changed by default; here it is newly built.
    student_init: str = setting(
        "auto", STUDENT_INIT, metavar="auto|teacher|random", after="recipe", resolved=True
    )
    # In Python None means no folder; here it means the default folder.
    out: str | None = setting(
        None,
        "The run's folder (default: runs/DATASET-METHOD-seedSEED).",
        after="seed",
        changes_result=False,
        profiled=False,
    )


def distill_settings() -> dict[str, Setting]:
    """The declarations in the order of the options: first networks and data, then the settings of a run."""
    declarations = declared(DistillSettings)
    names = dict.fromkeys((*DistillSettings.__annotations__, *declarations))
    order = [name for name in names if declarations[name].after is None]
    for name, own in declarations.items():
        if own.after is not None:
            order.insert(order.index(own.after) + 1, name)
    return {name: declarations[name] for name in order}


def as_plain(settings: DistillSettings) -> dict[str, Any]:
    """The settings by name, in the order of :func:`distill_settings`."""
    return {name: getattr(settings, name) for name in distill_settings()}
