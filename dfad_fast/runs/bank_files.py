"""The files of a bank in a run's folder: each is written once and read through a memory map."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from torch import Tensor

from dfad_fast.errors import RunError, in_one_line
from dfad_fast.memory import GIB
from dfad_fast.runs import layout
from dfad_fast.runs.lock import refuse_held
from dfad_fast.runs.settings import RunSettings
from dfad_fast.runs.whole_files import make_folder, write_tensors
from dfad_fast.sources.storage import NoStorage, Storage


def storage_for(settings: RunSettings) -> Storage:
    """Where a run keeps a bank that is too large for memory: in its folder, if it has one.

    In a run over several processes they only read there what a single process wrote before.
    """
    most = settings.bank_memory * GIB
    if settings.out is None:
        return NoStorage(most)
    return BankFiles(Path(settings.out), settings.keep_checkpoints, most)


class BankFiles:
    """A :class:`dfad_fast.sources.storage.Storage` in the folder ``bank`` of the run in ``run``.

    A removed file is deleted only after ``keep_checkpoints`` newer states were saved: until then a run that resumes
    from an older checkpoint needs it. ``memory`` is how many bytes a source keeps in its state before it uses files.
    """

    is_there = True

    def __init__(self, run: Path, keep_checkpoints: int, memory: float) -> None:
        self.memory = memory
        self._run = run
        self._keep = keep_checkpoints
        self._saved_since: dict[str, int] = {}
        """For each removed name, how often the run's state was saved since."""

    def keep(self, name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        # If the folder was removed, another run may use it now. It would load these images at its next resume.
        refuse_held(self._run)
        path = layout.bank_file(self._run, name)
        make_folder(path.parent)
        write_tensors(path, tensors)
        return self.read(name)

    def read(self, name: str) -> dict[str, Tensor]:
        from safetensors.torch import load_file

        path = layout.bank_file(self._run, name)
        try:
            tensors = load_file(path)
        except Exception as error:
            raise RunError(
                f"{path}, which belongs to the run's bank, cannot be read ({in_one_line(error)}): restore it, or "
                "start over with dfad-fast distill --overwrite"
            ) from error
        self._saved_since.pop(name, None)
        return tensors

    def names(self) -> Collection[str]:
        return [path.stem for path in layout.bank_files_in(self._run)]

    def whole_name(self, name: str) -> str:
        return name

    def remove(self, name: str) -> None:
        self._saved_since.setdefault(name, 0)

    def saved(self) -> None:
        for name in self._saved_since:
            self._saved_since[name] += 1
        for name in [name for name, count in self._saved_since.items() if count >= self._keep]:
            layout.bank_file(self._run, name).unlink(missing_ok=True)
            del self._saved_since[name]
