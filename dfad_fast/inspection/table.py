"""What a person sees of an inspection on the terminal."""

from __future__ import annotations

import math

from rich import box
from rich.console import Console
from rich.table import Table

from dfad_fast.inspection.inspecting import Inspection
from dfad_fast.wording import counted, percent


def print_inspection(console: Console, inspection: Inspection) -> None:
    """A table of the networks, one of their stages, and what could not be measured."""
    console.print(title(inspection), highlight=False, soft_wrap=True, markup=False)
    console.print(_networks(inspection))
    if inspection.stages:
        console.print(_stages(inspection))
    for line in inspection.missing:
        console.print(f"not measured: {line}", highlight=False, soft_wrap=True, markup=False)


def title(inspection: Inspection) -> str:
    """Which run, how far it got, and what it was looked at with."""
    if inspection.iteration is None:
        reached = "at an unknown iteration"
    elif inspection.planned_iterations and inspection.iteration < inspection.planned_iterations:
        reached = f"interrupted at iteration {inspection.iteration} of {inspection.planned_iterations}"
    else:
        reached = f"finished, {counted(inspection.iteration, 'iteration')}"
    best = ""
    if inspection.best_iteration is not None:
        best = f"; its best student, of iteration {inspection.best_iteration}"
    return f"{inspection.run}: {inspection.method}, seed {inspection.run_seed}, {reached}{best}"


def compared_images(inspection: Inspection) -> str:
    """Such as "450 digits test images"."""
    kind = f"{inspection.dataset} test" if inspection.images == "real" else "generated"
    return counted(inspection.compared, f"{kind} image")


def _networks(inspection: Inspection) -> Table:
    table = _table("", "teacher", "student")
    if inspection.teacher and inspection.student:
        both = (inspection.teacher, inspection.student)
        bins = inspection.teacher.calibration.bins
        table.add_row(
            f"accuracy, {inspection.labeled} {inspection.dataset} test images",
            *(percent(network.accuracy) for network in both),
        )
        table.add_row(
            f"expected calibration error, {bins} bins",
            *(percent(network.calibration.error) for network in both),
        )
        table.add_section()
    table.add_row(f"agreement, {compared_images(inspection)}", "", percent(inspection.agreement))
    lines = inspection.lines
    if lines.pairs:
        table.add_row(
            f"agreement on {lines.pairs} lines between them, mean", "", percent(lines.mean_agreement)
        )
        table.add_row("agreement on these lines, where it is lowest", "", percent(min(lines.agreement)))
        table.add_row("L1 distance of the logits on these lines, mean", "", f"{lines.mean_l1:.4f}")
    if inspection.balance:
        table.add_section()
        counts = inspection.balance.counts
        table.add_row(
            f"classes of {inspection.generated} generated images, entropy (1: even)",
            f"{inspection.balance.entropy:.4f}",
            "",
        )
        table.add_row(
            "their rarest and their most frequent class",
            f"{percent(min(counts) / sum(counts))}, {percent(max(counts) / sum(counts))}",
            "",
        )
    return table


def _stages(inspection: Inspection) -> Table:
    table = _table("teacher's stage", "linear CKA", "sign agreement")
    table.add_column("student's stage")
    for stage in inspection.stages:
        signs = "not measured" if stage.sign_agreement is None else percent(stage.sign_agreement)
        cka = "not defined" if math.isnan(stage.cka) else f"{stage.cka:.4f}"
        table.add_row(stage.teacher, cka, signs, stage.student)
    return table


def _table(first: str, *further: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column(first)
    for name in further:
        table.add_column(name, justify="right", no_wrap=True)
    return table
