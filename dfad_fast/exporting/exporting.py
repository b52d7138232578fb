"""An export: from a run's folder to checked files, with measurements."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dfad_fast.environment import device_name, versions
from dfad_fast.errors import RunError, UsageError, unknown_name
from dfad_fast.exporting.checking import Answers, answers_of, ask, write_checked
from dfad_fast.exporting.compressing import Compression, CompressionSettings, compress
from dfad_fast.exporting.formats import FORMATS, Format, Predict
from dfad_fast.exporting.measuring import BATCHES, latency
from dfad_fast.exporting.onnx_file import PACKAGES, read_onnx
from dfad_fast.exporting.quantizing import quantize
from dfad_fast.exporting.result import Export, Int8Failed, Variant
from dfad_fast.exporting.student import Student
from dfad_fast.importing import import_package
from dfad_fast.jobs.images import learned_images
from dfad_fast.jobs.trained_run import TrainedRun, load_run
from dfad_fast.runs.layout import AVERAGED, BEST, EXPORT_ENDINGS, EXPORT_RECORD, STUDENT
from dfad_fast.runs.whole_files import make_folder, write_whole

# Files are checked on other images than they are calibrated and tuned on.
_CHECK_SEED, _CALIBRATION_SEED, _TUNING_SEED = 0, 1, 2


@dataclass(frozen=True)
class _Made:
    """One variant, before it is measured."""

    name: str
    path: Path | None
    bytes: int
    predict: Predict
    logits: Tensor


def export(
    run: str | Path,
    format: str = "onnx",
    *,
    int8: bool = False,
    averaged: bool = False,
    best: bool = False,
    out: str | Path | None = None,
    overwrite: bool = False,
    dataset: str | None = None,
    data_dir: str | None = None,
    teachers: str | None = None,
    samples: int = 1000,
    calibration_images: int = 512,
    compression: CompressionSettings | None = None,
    tuning_images: int = 4096,
) -> Export:
    """Exports the student of the run in folder ``run``, finished or interrupted.

    A file is kept only if it can be read back and its logits match the student's at several batch sizes, on the run's
    test images or on generated ones. ``FILE.json`` next to it holds the returned result. Everything runs on the CPU
    with PyTorch's number of threads, and needs the run's teacher.

    Args:
        run: the run's folder.
        format: ``onnx``, a model for onnxruntime and similar; ``torch``, a program of torch.export; or ``safetensors``,
            the weights alone. The first two map any number of images [B, C, H, W] to logits [B, classes] without the
            student's code.
        int8: whether to also write an 8-bit ONNX model, see :func:`dfad_fast.exporting.quantizing.quantize`. Its
            difference from the student is measured but not limited.
        averaged: whether to export the moving average of the student.
        best: whether to export the best student of the run's evaluations instead of the last one.
        out: the file, by default in the run's folder. The 8-bit model is ``NAME_int8.onnx`` next to it.
        overwrite: whether to replace existing files.
        dataset: as for :func:`dfad_fast.jobs.trained_run.load_run`.
        data_dir: the same.
        teachers: the same.
        samples: maximum number of images on which the file is checked.
        calibration_images: number of generated images from which the 8-bit activations get their scales.
        compression: makes the student smaller first, see :func:`dfad_fast.exporting.compressing.compress`. The files
            are then checked against that student and named after it, such as ``student_pruned.onnx``.
        tuning_images: maximum number of images on which a compressed student is tuned: those of the run's bank, or
            generated ones if it has none.

    Returns:
        The exported variants and their measurements.

    Raises:
        UsageError: there is no such run, format or package, there are no images to check on, or a file exists already.
        RunError: the network cannot be exported, or the file does not match the student or cannot be written. The file
            is not kept. Int8Failed if this concerns only the 8-bit file.
    """
    numbers = {"samples": samples, "calibration-images": calibration_images, "tuning-images": tuning_images}
    kind = _check_request(format, int8, out, numbers)
    trained = load_run(
        run,
        dataset,
        data_dir,
        teachers,
        "cpu",
        real_images_needed=dataset is not None,
        averaged=averaged,
        best=best,
    )
    if int8 and not trained.makes_images:
        raise UsageError(f"{trained.folder} holds no generator to calibrate --int8 with: leave --int8 out")
    if compression and trained.networks.teacher_is_black_box:
        raise UsageError(
            "--compress fine-tunes the student on its teacher's answers, but a black box answers only during a run: "
            "leave --compress out"
        )
    name = Path(AVERAGED if averaged else BEST if best else STUDENT).stem
    if compression:
        name = f"{name}_{compression.how}"
    path = Path(out) if out else trained.folder / f"{name}{kind.ending}"
    int8_path = path.with_name(path.stem + EXPORT_ENDINGS["int8"])
    record = path.with_name(path.name + EXPORT_RECORD)
    _refuse_existing([path, *([int8_path] if int8 else []), record], overwrite)
    make_folder(path.parent)

    images, labels = _images(trained, samples)
    compressed = _compress(trained, compression, tuning_images, images, labels) if compression else None
    student = Student(trained, averaged, best, compression.how if compression else None)
    expected = answers_of(student.network, images, labels)
    size = sum(tensor.nbytes for tensor in student.network.state_dict().values())
    title = f"PyTorch student, {compression.how}" if compression else "PyTorch student"
    made = [_Made(title, None, size, student.network, expected.logits)]
    predict, logits = write_checked(
        path,
        lambda draft: kind.write(student, draft),
        lambda draft: kind.read(student, draft),
        expected,
        kind.tolerance,
    )
    made.append(_Made(format, path, path.stat().st_size, predict, logits))
    failure: RunError | None = None
    if int8:
        calibration = trained.generated(calibration_images, _CALIBRATION_SEED)
        try:
            predict, logits = write_checked(
                int8_path,
                lambda draft: quantize(path, calibration, draft),
                read_onnx,
                expected,
                math.inf,
                "leave --int8 out",
            )
            made.append(_Made("onnx, int8", int8_path, int8_path.stat().st_size, predict, logits))
        except RunError as error:
            failure = error

    result = Export(
        run=str(trained.folder),
        format=format,
        metadata=student.metadata(),
        images="real" if trained.test_set else "generated",
        dataset=trained.test_set.name if trained.test_set else None,
        no_test_set=trained.no_test_set,
        compared=len(expected.images),
        calibration_images=calibration_images if int8 and not failure else None,
        largest_logit=expected.largest,
        allowed_difference=kind.tolerance * expected.largest,
        variants=[_measure(variant, expected) for variant in made],
        compression=compressed,
        threads=torch.get_num_threads(),
        device=device_name(trained.device),
        versions={**versions(), **_onnx_versions(format)},
    )
    text = json.dumps(result.as_data(), indent=2, allow_nan=False) + "\n"
    write_whole(record, lambda draft: draft.write_text(text))
    if failure:
        raise Int8Failed(f"{failure}; {path} was written", result) from failure
    return result


def _compress(
    trained: TrainedRun,
    settings: CompressionSettings,
    count: int,
    images: Tensor,
    labels: Tensor | None,
) -> Compression:
    networks = trained.networks
    of_teacher = ask(networks.teacher, images)[: len(images)].argmax(1)

    def measure(student: torch.nn.Module) -> dict[str, float]:
        said = ask(student, images)[: len(images)].argmax(1)
        agreement = {"agreement": (said == of_teacher).double().mean().item()}
        if labels is None:
            return agreement
        return {**agreement, "accuracy": (said == labels).double().mean().item()}

    found, _ = learned_images(trained, count, _TUNING_SEED)
    shown, answers = (torch.cat(parts) for parts in zip(*found, strict=True))
    return compress(networks.student, shown.to(images), answers, settings, measure)


def _check_request(format: str, int8: bool, out: str | Path | None, numbers: dict[str, int]) -> Format:
    if format not in FORMATS:
        raise unknown_name("format", format, FORMATS)
    if int8 and format != "onnx":
        raise UsageError(f"--int8 is for --format onnx, got --format {format}: leave one of them out")
    for name, value in numbers.items():
        if value < 1:
            raise UsageError(f"--{name} must be at least 1, got {value}")
    kind = FORMATS[format]
    if out and Path(out).suffix != kind.suffix:
        raise UsageError(f"--out is a file NAME{kind.suffix} for --format {format}, got {out}")
    if format == "onnx":
        _onnx_versions(format)
    return kind


def _onnx_versions(format: str) -> dict[str, str]:
    """Raises UsageError if a package that the format needs is missing."""
    if format != "onnx":
        return {}
    return {name: import_package(name, install="dfad-fast[onnx]").__version__ for name in PACKAGES}


def _refuse_existing(paths: Sequence[Path], overwrite: bool) -> None:
    there = [str(path) for path in paths if path.exists()]
    if there and not overwrite:
        raise UsageError(
            f"there is {' and '.join(there)} already: choose another name with --out, or add --overwrite"
        )


def _images(run: TrainedRun, samples: int) -> tuple[Tensor, Tensor | None]:
    """Real images with labels, or generated ones without, in the student's precision."""
    like = next(run.networks.student.parameters())
    if run.test_set:
        images, labels = run.real(samples, _CHECK_SEED)
        return images.to(like), labels
    if not run.makes_images:
        raise UsageError(
            f"{run.folder} holds no generator, and there are no test images to check a file on "
            f"({run.no_test_set}): choose some with --dataset"
        )
    return run.generated(samples, _CHECK_SEED), None


def _measure(made: _Made, expected: Answers) -> Variant:
    return Variant(
        name=made.name,
        path=str(made.path) if made.path else None,
        bytes=made.bytes,
        max_difference=expected.difference(made.logits),
        agreement=expected.agreement(made.logits),
        accuracy=expected.accuracy(made.logits),
        latency={batch: latency(made.predict, expected.images, batch) for batch in BATCHES},
    )
