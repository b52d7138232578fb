"""Nothing that is printed takes the terminal over, and nobody has to read it."""

import io
import os
import shlex
import sys

import pytest

from dfad_fast.reporting.console import Console
from dfad_fast.terminal import Stream, outliving_readers, printable, quoted

HOSTILE = "na\x1b]0;evil\x07me\x9b2J\u202e\udcff\x00"


def test_control_characters_are_spelled_out():
    assert printable(HOSTILE) == r"na\x1b]0;evil\x07me\x9b2J\u202e\udcff\x00"
    assert printable("tab\t line\n é 数 \u00a0") == "tab\t line\n é 数 \u00a0"


def test_a_console_prints_names_and_its_own_styles():
    from rich.table import Table
    from rich.text import Text

    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=80)
    table = Table(HOSTILE)
    table.add_row(f"[bold]{HOSTILE}[/bold]")
    table.add_row(Text(HOSTILE))
    console.print(table)
    console.print(HOSTILE, markup=False)
    assert "\x1b[1m" in out.getvalue()
    for character in ("\x1b]", "\x07", "\x9b", "\u202e", "\udcff", "\x00"):
        assert character not in out.getvalue()
    rows = [line for line in out.getvalue().splitlines() if line.startswith("│")]
    assert rows
    assert all(row.endswith("│") for row in rows)


@pytest.mark.parametrize("path", ["run", "a run", "it's", "$(touch x)", "-run"])
def test_a_path_is_one_word_of_a_command(path):
    assert os.path.normpath(shlex.split(quoted(path))[0]) == path
    assert not quoted(path).startswith("-")


def test_a_pipe_without_a_reader_is_noticed_and_raises_nothing():
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        stream = Stream(pipe)
        stream.write("no error")
        assert not stream.reader_left
        stream.flush()
        assert stream.reader_left
        assert not stream.isatty()
        stream.write("nor later")


def test_a_stream_that_was_closed_or_cannot_spell_a_character(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    with outliving_readers() as out:
        print("nowhere")
        assert sys.stdout is out
    out.close()
    assert sys.stdout is None
    ascii_only = io.TextIOWrapper(io.BytesIO(), "ascii")
    stream = Stream(ascii_only)
    stream.write("数 x")
    stream.flush()
    assert ascii_only.buffer.getvalue() == rb"\u6570 x"
