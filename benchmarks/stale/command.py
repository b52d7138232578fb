"""The command line of ``run.py stale``."""

from __future__ import annotations

import click


@click.command("stale")
def command() -> None:
    """List the committed results whose code has changed since, by benchmarks/results/origins.yaml and git.

    This is not an error: old figures stay valid for their revision.
    """
    from benchmarks.stale.origins import NoOrigin, lines, read

    try:
        found = lines(read())
    except NoOrigin as error:
        raise click.ClickException(str(error)) from error
    click.echo("\n".join(found) or "no result is older than its code")
