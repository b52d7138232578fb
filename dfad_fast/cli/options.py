"""Options shared by several commands, and options created from the settings of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, get_args

import click

from dfad_fast.cli.threads import THREADS
from dfad_fast.settings import SEED, Limits, Setting, as_option

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

_RECORDED_TEACHERS = "dfad_fast.recorded_teachers"


class CommaSeparated(click.ParamType):
    """``3,32,32`` as a tuple of values."""

    def __init__(self, kind: Callable[[str], Any], name: str) -> None:
        self._kind = kind
        self.name = name

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        """The values of the text, which fails if one is none of the kind."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(self._kind(part.strip()) for part in str(value).split(","))
        except ValueError:
            self.fail(f"expected {self.name} separated by commas, got {value!r}", param, ctx)


_TYPES: dict[Any, click.ParamType] = {
    tuple[float, ...]: CommaSeparated(float, "numbers"),
    tuple[int, ...]: CommaSeparated(int, "integers"),
    tuple[str, ...]: CommaSeparated(str, "names"),
}


def within(limits: Limits) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """A callback that refuses numbers outside ``limits``."""

    def refuse(_ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        limits.refuse(as_option(param.name or ""), value)
        return value

    return refuse


seed_option = click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    callback=within(SEED),
    help="Seed of all random numbers.",
)

quiet_option = click.option("--quiet", is_flag=True, help="Print only errors and warnings.")


def threads_option(help: str = "CPU threads (default: all cores).") -> Decorator:
    """The option ``--threads``, with ``help`` as its text."""
    return click.option("--threads", type=int, callback=within(THREADS), help=help)


best_option = click.option(
    "--best", is_flag=True, help="The best student at the run's evaluations, instead of the last one."
)


def images_option(name: str, default: int, help: str) -> Decorator:
    """An option for a number of images that are processed together."""
    limits = within(Limits(most=10**6))
    return click.option(name, type=int, default=default, show_default=True, callback=limits, help=help)


def data_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options for where the data and the teacher of a run are now."""
    for name, help in (
        ("--teachers", "Folder of teachers trained here (default: the run's)."),
        ("--data-dir", "Folder with the dataset's files (default: the run's)."),
        ("--dataset", "Test images to use: a dataset, a folder of classes, or an .npz (default: the run's)."),
    ):
        command = click.option(name, help=help)(command)
    return command


def setting_options(declarations: Mapping[str, Setting]) -> Decorator:
    """Options for these settings, in their order."""

    def with_options(command: Callable[..., Any]) -> Callable[..., Any]:
        for name, own in reversed(list(declarations.items())):
            command = _option(name, own)(command)
        return command

    return with_options


def _option(name: str, own: Setting) -> Decorator:
    return click.option(
        as_option(name),
        type=get_args(own.kind)[0] if own.multiple else _TYPES.get(own.kind, own.kind),
        multiple=own.multiple,
        is_flag=own.kind is bool,
        default=None if own.multiple else own.default,
        show_default=own.kind is not bool and own.default not in (None, ()),
        metavar=own.metavar,
        help=own.help,
    )


def _use_config(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    if value is None:
        return
    from dfad_fast.jobs.config import read_config

    settings = read_config(value)
    # A config.yaml from someone else must not decide where to write.
    settings.pop("out", None)
    ctx.meta[_RECORDED_TEACHERS] = settings.pop("teachers", None)
    ctx.default_map = {key: setting for key, setting in settings.items() if setting is not None}


config_option = click.option(
    "--config",
    is_eager=True,
    expose_value=False,
    callback=_use_config,
    help="Take settings from a run's folder or its config.yaml; options given here override them.",
)


def recorded_teachers() -> str | None:
    """The folder of teachers in ``--config``. It is not used as a default, since nothing may be written there."""
    recorded: str | None = click.get_current_context().meta.get(_RECORDED_TEACHERS)
    return recorded
