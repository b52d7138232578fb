"""The commands of ``dfad-fast``, each imported when it is used."""

from __future__ import annotations

import os
import re
from importlib import import_module

import click

from dfad_fast.errors import unknown_name
from dfad_fast.version import __version__

_HOME = re.compile(r"(^|^--[\w-]+=)~(?=/)")
# Each name is both a module and the function in it.
COMMANDS = (
    "compare",
    "distill",
    "export",
    "images",
    "inspect",
    "profile",
    "record",
    "report",
    "resume",
    "teacher",
)


class Commands(click.Group):
    """A group that imports its commands lazily."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does, with ``~`` as the home folder after ``--option=`` too, where most shells leave it."""
        home = os.path.expanduser("~")
        return super().parse_args(ctx, [_HOME.sub(lambda found: found[1] + home, one) for one in args])

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports the command, None if there is no such command."""
        return load_command(cmd_name) if cmd_name in COMMANDS else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, but the error for an unknown command names the nearest one."""
        if args[0] not in COMMANDS and not args[0].startswith("-") and not ctx.resilient_parsing:
            raise unknown_name("command", args[0], COMMANDS)
        return super().resolve_command(ctx, args)


def load_command(name: str) -> click.Command:
    """Imports the command ``name`` from the module of that name."""
    command: click.Command = getattr(import_module(f"dfad_fast.cli.{name}"), name)
    return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__)
def app() -> None:
    """Data-free knowledge distillation: a small student of a trained classifier, without its data."""
