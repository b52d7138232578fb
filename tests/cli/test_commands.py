import logging
import re
import subprocess
import sys
from pathlib import Path

import click

from dfad_fast import cli
from dfad_fast.cli.group import COMMANDS, load_command
from dfad_fast.cli.output import open_console


def test_every_command_has_a_file_of_its_name():
    files = {path.stem for path in Path(cli.__file__).parent.glob("*.py")}
    assert set(COMMANDS) <= files
    assert all(load_command(name).name == name for name in COMMANDS)


def test_a_list_of_commands_is_quick():
    code = (
        "import sys; from dfad_fast import cli; from dfad_fast.cli.group import app; app.main(['--help'], "
        "standalone_mode=False); print(sorted({'torch', 'numpy', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert all(f"\n  {name} " in done.stdout for name in COMMANDS)


def test_a_slip_in_a_command_is_answered_with_the_nearest(dfad_fast):
    done = dfad_fast("distil", "--dataset", "digits")
    assert done.code == 2
    assert done.err.startswith("dfad-fast: unknown command 'distil': did you mean 'distill'")


def test_a_wrong_option_leads_to_the_help_of_its_command(dfad_fast):
    done = dfad_fast("compare", "--no-such-option")
    assert done.code == 2
    assert "No such option" in done.err
    assert re.search(r"\(see .*compare --help\)$", done.err)


def test_what_the_package_logs_is_printed_as_it_is_while_a_command_runs(capsys):
    log = logging.getLogger("dfad_fast.somewhere")
    with click.Context(click.Command("command")):
        open_console()
        log.info("a [bold]\x1b name" + " and more" * 20)
        log.debug("no matter")
    log.info("after it")
    assert capsys.readouterr() == ("a [bold]\\x1b name" + " and more" * 20 + "\n", "")


def test_nothing_is_printed_in_quiet_or_beside_the_first_process(capsys, monkeypatch):
    for quiet, rank in ((True, "0"), (False, "1")):
        monkeypatch.setenv("RANK", rank)
        with click.Context(click.Command("command")):
            open_console(quiet)
            logging.getLogger("dfad_fast.somewhere").info("told")
    assert capsys.readouterr() == ("", "")


def test_a_home_folder_is_one_behind_an_option_too(dfad_fast, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    done = dfad_fast("report", "~/run", "--out=~/page.html")
    assert done.code == 2
    assert f"{tmp_path / 'home/run'}" in done.err
    assert "~" not in done.err
