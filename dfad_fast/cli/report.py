"""``dfad-fast report``."""

from __future__ import annotations

from pathlib import Path

import click

from dfad_fast.cli.options import quiet_option
from dfad_fast.cli.output import open_console, say
from dfad_fast.errors import UsageError


@click.command()
@click.argument("run")
@click.option("--out", metavar="FILE", help="The page (default: report.html in RUN).")
@quiet_option
def report(run: str, out: str | None, quiet: bool) -> None:
    """Write everything that the folder RUN records about its run, finished or not, to one HTML page."""
    from dfad_fast.reporting.report_page.page import write_page
    from dfad_fast.runs.layout import folder_of
    from dfad_fast.runs.whole_files import make_folder

    if out:
        if Path(out).suffix != ".html":
            raise UsageError(f"--out must be a page, NAME.html, got {out}")
        make_folder(Path(out).parent)
    page = write_page(folder_of(run), Path(out) if out else None)
    say(open_console(quiet), f"The page is {page}.")
