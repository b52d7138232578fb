"""Where each file of a run is in its folder."""

from __future__ import annotations

import os
import re
from pathlib import Path

CONFIG = "config.yaml"
METRICS = "metrics.jsonl"
METRICS_TABLE = "metrics.csv"
SUMMARY = "summary.json"
STUDENT = "student.safetensors"
AVERAGED = "student_averaged.safetensors"
BEST = "student_best.safetensors"
GENERATOR = "generator.safetensors"
CHECKPOINT = "checkpoint.pt"
SAMPLES = "samples.png"
SHEETS = "samples"
"""A folder: the sheets of generated images."""
BANK = "bank"
"""A folder: the images of a bank that is too large for memory."""
CURVES = "curves.png"
TRACEBACK = "traceback.txt"
REPORT = "report.html"
INSPECTION = "inspect.json"
INSPECTION_PICTURE = "inspect.png"
LOGS = "log"
"""A folder: the output of loggers, each in its own subfolder."""
LOG_FOLDERS = ("tensorboard", "wandb", "mlflow")
QUERIES = "queries.jsonl"
"""The journal of a black-box teacher. It is kept when a run is restarted before its first checkpoint."""
LOCK = "run.lock"
EXPORT_ENDINGS = {
    "onnx": ".onnx",
    "int8": "_int8.onnx",
    "torch": ".pt2",
    "safetensors": "_export.safetensors",
}
EXPORT_RECORD = ".json"
"""Suffix of the file with the measurements of an exported file."""

FILES = (
    *(CONFIG, METRICS, SUMMARY, STUDENT, AVERAGED, BEST, GENERATOR, CHECKPOINT, SAMPLES, CURVES),
    *(TRACEBACK, INSPECTION, INSPECTION_PICTURE, METRICS_TABLE, REPORT, QUERIES),
    *(
        f"{Path(weights).stem}{compressed}{ending}{record}"
        for weights in (STUDENT, AVERAGED, BEST)
        for compressed in ("", "_pruned", "_binary", "_ternary")
        for ending in EXPORT_ENDINGS.values()
        for record in ("", EXPORT_RECORD)
    ),
)
"""The files that identify a run in a folder and are removed with it. Beside them are older checkpoints, sheets, a bank,
logs and the lock."""


def folder_of(run: str | Path) -> Path:
    """The folder of a run, given the folder or a file in it, with ``~`` as the home folder."""
    path = Path(os.path.expanduser(run))
    return path.parent if os.path.isfile(path) else path


def checkpoint_name(age: int) -> str:
    """The file of the checkpoint that was written ``age`` before the last one."""
    return f"checkpoint-{age}.pt" if age else CHECKPOINT


def checkpoint_age(path: Path) -> int:
    """How many checkpoints were written after it; -1 for a file that is not a checkpoint."""
    if path.name == CHECKPOINT:
        return 0
    number = path.stem.removeprefix("checkpoint-")
    return int(number) if number.isdecimal() and path.name == checkpoint_name(int(number)) else -1


def checkpoints_in(folder: Path) -> list[Path]:
    """The existing checkpoints, newest first."""
    ages = {checkpoint_age(path): path for path in folder.glob("checkpoint*.pt")}
    return [path for age, path in sorted(ages.items()) if age >= 0]


def sheet_file(folder: Path, iteration: int) -> Path:
    """The path of that iteration's sheet, which may not exist."""
    return folder / SHEETS / f"{iteration:06d}.png"


def sheet_iteration(path: Path) -> int:
    """The iteration of a sheet; -1 for a file that is not a sheet."""
    digits = path.stem.isdecimal() and path.stem.isascii()
    return int(path.stem) if digits and path == sheet_file(path.parent.parent, int(path.stem)) else -1


def sheets_in(folder: Path) -> list[Path]:
    """The existing sheets, oldest first."""
    paths = [path for path in (folder / SHEETS).glob("*.png") if sheet_iteration(path) >= 0]
    return sorted(paths, key=sheet_iteration)


_SEGMENT_NAME = r"([a-z0-9-]+-)?\d{8}"
_ADDED_BY_MKSTEMP = "[a-z0-9_]{8}"


def bank_file(folder: Path, name: str) -> Path:
    """The path of a bank's segment, such as 00000012 or b-00000012, which may not exist."""
    return folder / BANK / f"{name}.safetensors"


def bank_files_in(folder: Path) -> list[Path]:
    """The existing segments. Ignores other files beside them."""
    return _in_bank(folder, _SEGMENT_NAME)


def torn_bank_files_in(folder: Path) -> list[Path]:
    """Temporary files of segments that a killed run was writing."""
    return _in_bank(folder, rf"\.{_SEGMENT_NAME}-{_ADDED_BY_MKSTEMP}")


def _in_bank(folder: Path, pattern: str) -> list[Path]:
    paths = (folder / BANK).glob("*.safetensors")
    return sorted(path for path in paths if re.fullmatch(pattern, path.stem))
