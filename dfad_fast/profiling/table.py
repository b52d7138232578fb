"""The terminal output of a profile."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

from dfad_fast.profiling.flops import Ceiling
from dfad_fast.profiling.hooks import GENERATOR, STUDENT
from dfad_fast.profiling.profiling import PARTS, Part, Profile
from dfad_fast.wording import counted


def print_profile(console: Console, profile: Profile) -> None:
    """Prints a table of parts and phases, and one line for each other measurement."""
    console.print(_table(profile))
    for line in _lines(profile):
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def _table(profile: Profile) -> Table:
    table = Table(
        title=f"{profile.method}, batches of {profile.batch_size}; milliseconds",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("", no_wrap=True)
    for name in (
        f"student\nstep, x{profile.steps[STUDENT]:g}",
        f"generator\nstep, x{profile.steps[GENERATOR]:g}",
        "iteration",
        "%",
        "million\nmult-adds",
        "GFLOP/s",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    for name in PARTS:
        found = [part for part in profile.parts if part.part == name]
        if found:
            table.add_row(name, *_cells(profile, found))
    table.add_section()
    table.add_row("sum of the parts", *_cells(profile, profile.parts))
    without = _milliseconds(profile.seconds)
    table.add_row("without the hooks", "", "", without, "", "", _rate(profile.multiply_adds, profile.seconds))
    return table


def _cells(profile: Profile, parts: list[Part]) -> list[str]:
    seconds = sum(part.seconds for part in parts)
    work = [part.multiply_adds for part in parts]
    total = None if None in work else sum(n for n in work if n)
    return [
        *(_per_step(profile, parts, phase) for phase in (STUDENT, GENERATOR)),
        _milliseconds(seconds),
        f"{100 * seconds / profile.seconds_watched:.1f}",
        "?" if total is None else f"{total / 1e6:,.1f}" if total else "",
        _rate(total, seconds),
    ]


def _per_step(profile: Profile, parts: list[Part], phase: str) -> str:
    seconds = sum(part.seconds for part in parts if part.phase == phase)
    steps = profile.steps[phase]
    return _milliseconds(seconds / steps) if seconds and steps else ""


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:,.2f}"


def _rate(multiply_adds: int | None, seconds: float) -> str:
    return f"{2e-9 * multiply_adds / seconds:,.1f}" if multiply_adds else ""


def _lines(profile: Profile) -> list[str]:
    low, high = min(profile.seconds_rounds), max(profile.seconds_rounds)
    lines = [
        f"{profile.images_per_second:,.0f} generated images/s, {_milliseconds(profile.seconds)} ms per iteration "
        f"({_milliseconds(low)} to {_milliseconds(high)} over {counted(len(profile.seconds_rounds), 'round')}) on "
        f"{profile.device} with {counted(profile.threads, 'thread')}",
    ]
    rate = profile.flops_per_second
    for ceiling in _comparable(profile.ceilings):
        share = (
            f": {100 * rate / ceiling.flops_per_second:.0f} % of it, counting the published arithmetic"
            if rate
            else ""
        )
        lines.append(
            f"matrix products, {ceiling.dtype}, {ceiling.side}^3: {ceiling.flops_per_second / 1e9:,.1f} GFLOP/s{share}"
        )
    if profile.peak_resident_bytes is not None:
        lines.append(f"peak resident memory of the process: {profile.peak_resident_bytes / 2**20:,.0f} MiB")
    if profile.peak_device_bytes is not None:
        lines.append(f"peak memory allocated on the GPU: {profile.peak_device_bytes / 2**20:,.0f} MiB")
    if profile.page_faults is not None:
        lines.append(f"page faults: {profile.page_faults:,.0f} per iteration")
    if not any(profile.steps.values()):
        lines.append(
            "no hook ran in these steps, as in a replayed CUDA graph: their parts cannot be told apart"
        )
    lines += [f"lever {name}: {setting}" for name, setting in profile.levers.items()]
    return lines + profile.kernels


def _comparable(ceilings: list[Ceiling]) -> list[Ceiling]:
    """Leaves out the dtypes in which the machine has no fast matrix products.

    Training does not use them there, so their rates are no ceiling. The first, float32, always stays.
    """
    return [
        ceiling
        for ceiling in ceilings
        if ceiling.side == ceilings[0].side and ceiling.flops_per_second >= ceilings[0].flops_per_second
    ]
