"""From the command line to an exit code: errors, warnings and signals on the way."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from dfad_fast.cli.group import COMMANDS, app, load_command
from dfad_fast.cli.running import Interrupted
from dfad_fast.cli.threads import wait_briefly
from dfad_fast.errors import ConfigError, DFADFastError, DFADFastWarning
from dfad_fast.interrupt import ending_signals
from dfad_fast.settings import as_option
from dfad_fast.terminal import outliving_readers, printable


def main() -> None:
    """Runs the command line. Exit codes: 0 done, 1 the run failed, 2 the request was wrong, 130 interrupted."""
    wait_briefly()
    warnings.showwarning = _show_warning
    with outliving_readers(), _signals_raising():
        code = _main()
    sys.exit(code)


def _main() -> int:
    try:
        return app.main(standalone_mode=False) or 0
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message())
        return 2
    except ConfigError as error:
        return _complain(str(error), error.exit_code)
    except DFADFastError as error:
        return _complain(_with_options(str(error)), error.exit_code)
    except click.ClickException as error:
        context = error.ctx if isinstance(error, click.UsageError) else None
        command = context.command_path if context else "dfad-fast"
        return _complain(f"{error.format_message()} (see {command} --help)", error.exit_code)
    except (_Ended, KeyboardInterrupt, click.Abort):
        return _complain("interrupted before everything was saved", Interrupted.exit_code)
    finally:
        if _is_one_of_several():
            from dfad_fast.distributed import processes

            processes.leave()


def _with_options(message: str) -> str:
    """``message`` with Python names of settings replaced by their command-line options."""
    names = {param.name for command in COMMANDS for param in load_command(command).params if param.name}
    underscored = "|".join(sorted(name for name in names if "_" in name))
    message = re.sub(
        rf"(?<![\w/.'\"])({underscored})(=True)?(?![\w/.'\"])", lambda found: as_option(found[1]), message
    )
    return re.sub(rf"^({'|'.join(sorted(names))})(?= must be )", lambda found: as_option(found[1]), message)


class _Ended(BaseException):
    """Raised by a signal if there is nothing to save. Not an Exception, so that interrupted code does not catch it."""


@contextmanager
def _signals_raising() -> Iterator[None]:
    """Makes signals that ask this process to end act like Ctrl-C, instead of ending it at once without a message.

    A process of several may be waiting for another one, when no handler runs. It then ends at once, as torchrun
    expects.
    """

    def end(_number: int, _frame: Any) -> None:
        raise _Ended

    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {
            number: signal.signal(number, end) for number in ending_signals() if number != signal.SIGINT
        }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any, **__: Any
) -> None:
    """Prints this package's warnings without the place in the code."""
    if issubclass(category, DFADFastWarning):
        _complain(_with_options(str(message)), 0)
    else:
        sys.stderr.write(printable(warnings.formatwarning(message, category, filename, lineno)))


def _is_one_of_several() -> bool:
    """Whether torchrun started this process together with others."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def _complain(message: str, code: int) -> int:
    process = f" (process {os.environ.get('RANK', '?')})" if _is_one_of_several() else ""
    # In a single write, so that lines from several processes do not mix.
    sys.stderr.write(printable(f"dfad-fast{process}: {' '.join(message.split())}\n"))
    return code
