"""The running source of a bank."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dfad_fast.distributed import differentiable, processes
from dfad_fast.models.reading.check import image_dtype
from dfad_fast.networks.probing import TeacherView
from dfad_fast.sources.banking.opening import Keeping, open_store
from dfad_fast.sources.banking.segments import Places
from dfad_fast.sources.source import Batch, Plan, Source, Turn, Workbench
from dfad_fast.sources.spec import SourceSpec
from dfad_fast.sources.storage import Part
from dfad_fast.terms import Weighted

_NOTES = 64
"""How many steps' difficulties stay on the device until they are read together."""


@dataclass(frozen=True)
class Filling:
    """``new`` batches of ``of`` per iteration; the student waits until the bank holds ``least`` images."""

    of: SourceSpec
    new: int
    least: int


class BankSource(Source):
    """The running bank, see :class:`dfad_fast.sources.bank.Bank`.

    Every process keeps all images, draws the same ones for the whole batch and shows its own rows.
    """

    def __init__(self, filling: Filling, keeping: Keeping, bench: Workbench, plan: Plan) -> None:
        super().__init__(bench, plan)
        self._filling = filling
        self._dtype = image_dtype(bench.prober.trio.student)
        self._notices = _what_is_asked(plan.student)
        asked = any(_looks_inside(row) for row in plan.student)
        kept = replace(keeping, views=0) if asked else keeping
        self._by_difficulty = kept.keep == "hardest"
        self._store, notices = open_store(kept, bench, self._dtype, self._ask)
        self._notices += notices
        self._inner_bench = _Unasked.of(bench)
        # Each is a separate batch, whatever the levers say, and the teacher does not run on it for the student.
        inner = replace(plan, student=(), student_steps=max(1, filling.new), batches=None)
        self._of = filling.of.make(self._inner_bench, inner)
        self._shown: Places | None = None
        self._notes: list[tuple[Places, Tensor]] = []

    @property
    def _is_filling(self) -> bool:
        sealed = self._store.sealed
        return not sealed.has_been_full and sealed.count < self._filling.least

    @property
    def _makes_images(self) -> bool:
        return bool(self._filling.new) or self._is_filling

    @property
    def own_steps(self) -> int:
        return self._of.own_steps if self._makes_images else 0

    @property
    def generated_images(self) -> int:
        self._share_size()
        return self._of.generated_images if self._filling.new else 0

    @property
    def notices(self) -> list[str]:
        return [*self._notices, *self._of.notices]

    @property
    def networks(self) -> list[nn.Module]:
        return self._of.networks

    def draw(self, rng: np.random.Generator, progress: float) -> list[list[tuple[np.ndarray, ...]]]:
        if not self._makes_images:
            return []
        self._share_size()
        return self._of.draw(rng, progress)

    def _share_size(self) -> None:
        bench, inner = self._bench, self._inner_bench
        inner.batch_size, inner.own_batch_size = bench.batch_size, bench.own_batch_size

    def batches(self, turn: Turn) -> Iterator[Batch]:
        if self._is_filling:
            self._fill(turn)
        elif self._filling.new:
            self._add(turn)
        if not self._is_filling:
            for _ in range(self._plan.student_steps):
                yield self._next()

    @property
    def _at_once(self) -> int:
        """While it fills: as many batches as the student has steps, unless the source takes its own steps for them."""
        return 1 if self._of.own_steps else max(1, self._plan.student_steps // self._of.student_steps)

    @property
    def waiting(self) -> int:
        if not self._is_filling:
            return 0
        each = self._at_once * self._of.student_steps * self._bench.batch_size
        filling = -(-self._store.missing(self._filling.least) // each)
        return self._of.waiting + filling - 1  # the last of them makes batches

    def stop_waiting(self) -> None:
        self._of.stop_waiting()
        self._filling = replace(self._filling, least=1)
        self._store.seal()

    def _fill(self, turn: Turn) -> None:
        for _ in range(self._at_once):
            self._add(turn)
            if not self._is_filling:
                break

    def _add(self, turn: Turn) -> None:
        self._read_notes()  # before other images take their places
        last = None
        for batch in self._of.batches(turn):
            if batch is not last:  # steps may share one
                self._bench.prober.trio.set_modes(student=True)
                self._store.add(differentiable.gather(batch.images.detach()))
            last = batch

    def _next(self) -> Batch:
        size, device = self._bench.batch_size, self._bench.device
        self._shown, view = self._store.draw(size)
        shown = self._store.show(self._shown, view, processes.own_rows(size), device, self._dtype)
        if shown.logits is None:
            return self._bench.see(shown.images, self._plan.student)
        ask = self._bench.prober.asker(graph=False)
        return Batch(shown.images, TeacherView(shown.logits, ask, [], None, []))

    def _ask(self, images: Tensor) -> Tensor:
        """The teacher's logits for images that all processes hold; each process runs the teacher on its part."""
        count = processes.count()
        missing = -len(images) % count
        whole = torch.cat([images, images[-1:].expand(missing, -1, -1, -1)]) if missing else images
        own = self._bench.prober.asker(graph=False)(whole[processes.own_rows(len(whole))])
        return differentiable.gather(own)[: len(images)]

    def learned(self, batch: Batch, answers: Tensor) -> None:
        if self._by_difficulty and self._shown is not None:
            self._notes.append((self._shown, (answers.float() - batch.view.logits.float()).abs().mean(1)))
            if len(self._notes) == _NOTES:
                self._read_notes()

    def _read_notes(self) -> None:
        for places, difficulty in self._notes:
            self._store.note(places, differentiable.gather(difficulty).cpu().numpy())
        self._notes = []

    @property
    def held_out_limit(self) -> int | None:
        return self._of.held_out_limit

    def held_out(self, count: int, batch_size: int) -> Iterator[Tensor] | None:
        return self._of.held_out(count, batch_size)

    def recall(self, state: dict[str, Any]) -> None:
        self._of.recall(state["source"])

    def follow(self, iteration: int) -> None:
        self._of.follow(iteration)

    def state_dict(self) -> dict[str, Any]:
        self._read_notes()
        return {"bank": self._store.state_dict(), "source": self._of.state_dict()}

    def state_of_all(self) -> dict[str, Any]:
        """The bank is the same in all processes."""
        return {**self.state_dict(), "source": self._of.state_of_all()}

    def own_part(self, state: dict[str, Any]) -> dict[str, Any]:
        return {**state, "source": self._of.own_part(state["source"])}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._notes, self._shown = [], None
        self._store.load_state_dict(state["bank"])
        self._of.load_state_dict(state["source"])

    @property
    def unchanging(self) -> list[Tensor]:
        return [*self._store.unchanging, *self._of.unchanging]


class _Unasked(Workbench):
    """A workbench for a source whose images go into a bank: the teacher runs on them when they are sealed."""

    @staticmethod
    def of(bench: Workbench) -> _Unasked:
        own = {field.name: getattr(bench, field.name) for field in fields(bench)}
        return _Unasked(**{**own, "storage": Part(bench.storage, "of")})

    def see(self, images: Tensor, rows: Any, phase: str = "student") -> Batch:
        none = images.new_empty(len(images), 0)
        return Batch(images, TeacherView(none, self.prober.asker(graph=False), [], None, []), phase)


def _looks_inside(row: Weighted) -> bool:
    term = row.term
    return term.reads_features or term.reads_last_stage or term.reads_statistics


def _what_is_asked(rows: tuple[Weighted, ...]) -> list[str]:
    """The student's terms that run the teacher although its answers are stored, one line each."""
    inside = " and ".join(dict.fromkeys(row.term.name for row in rows if _looks_inside(row)))
    further = " and ".join(dict.fromkeys(row.term.name for row in rows if row.term.asks_teacher))
    notices = []
    if inside:
        verb = "read" if " and " in inside else "reads"
        notices.append(
            f"{inside} {verb} the teacher's hidden layers, which a bank does not keep: the teacher runs in each step"
        )
    if further:
        verb = "ask" if " and " in further else "asks"
        notices.append(f"{further} {verb} the teacher about images that are not in the bank, in each step")
    return notices
