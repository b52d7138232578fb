"""Where each file of a run lies in its folder."""

from __future__ import annotations

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
"""A folder: what loggers write, each in a folder of its own."""
LOG_FOLDERS = ("tensorboard", "wandb", "mlflow")
QUERIES = "queries.jsonl"
"""The journal of a black-box teacher. It outlives a run that is begun again before its first checkpoint."""
LOCK = "run.lock"
EXPORT_ENDINGS = {
    "onnx": ".onnx",
    "int8": "_int8.onnx",
    "torch": ".pt2",
    "safetensors": "_export.safetensors",
}
EXPORT_RECORD = ".json"
"""What is measured of an exported file stands in one with this after its name."""

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
"""Those by which a run is known in a folder, and which go with it. Beside them lie older checkpoints, sheets, a bank,
logs and the lock."""


def folder_of(run: str | Path) -> Path:
    """The folder of a run that is named by it, or by a file in it."""
    return Path(run).parent if Path(run).is_file() else Path(run)


def checkpoint_name(age: int) -> str:
    """The file of the checkpoint that was written ``age`` before the last one."""
    return f"checkpoint-{age}.pt" if age else CHECKPOINT


def checkpoint_age(path: Path) -> int:
    """How many were written after it; -1 of a file that is none of ours."""
    if path.name == CHECKPOINT:
        return 0
    number = path.stem.removeprefix("checkpoint-")
    return int(number) if number.isdecimal() and path.name == checkpoint_name(int(number)) else -1


def checkpoints_in(folder: Path) -> list[Path]:
    """Those that are there, the last one first."""
    ages = {checkpoint_age(path): path for path in folder.glob("checkpoint*.pt")}
    return [path for age, path in sorted(ages.items()) if age >= 0]


def sheet_file(folder: Path, iteration: int) -> Path:
    """The sheet of that iteration, there or not."""
    return folder / SHEETS / f"{iteration:06d}.png"


def sheet_iteration(path: Path) -> int:
    """-1 of a file that is none of ours."""
    digits = path.stem.isdecimal() and path.stem.isascii()
    return int(path.stem) if digits and path == sheet_file(path.parent.parent, int(path.stem)) else -1


def sheets_in(folder: Path) -> list[Path]:
    """Those that are there, the first one first."""
    paths = [path for path in (folder / SHEETS).glob("*.png") if sheet_iteration(path) >= 0]
    return sorted(paths, key=sheet_iteration)


_SEGMENT_NAME = r"([a-z0-9-]+-)?\d{8}"
_ADDED_BY_MKSTEMP = "[a-z0-9_]{8}"


def bank_file(folder: Path, name: str) -> Path:
    """A segment of a bank by its name, such as 00000012 or b-00000012, there or not."""
    return folder / BANK / f"{name}.safetensors"


def bank_files_in(folder: Path) -> list[Path]:
    """Those that are there. What else lies beside them is none of ours."""
    return _in_bank(folder, _SEGMENT_NAME)


def torn_bank_files_in(folder: Path) -> list[Path]:
    """What is left of those in whose midst a run was killed."""
    return _in_bank(folder, rf"\.{_SEGMENT_NAME}-{_ADDED_BY_MKSTEMP}")


def _in_bank(folder: Path, pattern: str) -> list[Path]:
    paths = (folder / BANK).glob("*.safetensors")
    return sorted(path for path in paths if re.fullmatch(pattern, path.stem))
