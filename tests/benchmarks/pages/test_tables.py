"""The tables of docs/results/speed.md are those of the committed result files."""

import pytest
from click.testing import CliRunner

from benchmarks import run
from benchmarks.measuring.machine import ROOT
from benchmarks.measuring.results import Unreadable, load
from benchmarks.pages.tables import TABLES, fill

RESULTS = ROOT / "benchmarks/results"
PAGE = ROOT / "docs/results/speed.md"
TEXT = PAGE.read_text()


def test_the_tables_are_what_the_files_say():
    assert fill(TEXT, RESULTS) == TEXT, "run: python benchmarks/run.py pages"


@pytest.mark.parametrize("kind", TABLES)
def test_every_table_has_its_place(kind):
    assert TEXT.count(f"<!-- {kind} -->\n") == 1
    assert TEXT.index("<!-- end -->", TEXT.index(f"<!-- {kind} -->")) > 0


@pytest.mark.parametrize("kind", TABLES)
def test_what_a_table_links_to_is_there(kind):
    file = RESULTS / kind / f"{kind}.json"
    if not file.exists():
        pytest.skip(f"{file.name} was not measured yet")
    for link in TABLES[kind](load(file)).split("](")[1:]:
        assert (PAGE.parent / link.partition(")")[0]).is_file()


def test_only_what_stands_between_the_marks_changes(tmp_path):
    text = "before\n<!-- ops -->\nold\n<!-- end -->\nbetween\n<!-- train -->\nkept\n<!-- end -->\nafter\n"
    text = text.replace("between", "<!-- step -->\n<!-- end -->")
    filled = fill(text, RESULTS)
    assert filled.startswith("before\n<!-- ops -->\n| ms | dfad_fast |")
    assert "old" not in filled
    assert filled.endswith("after\n")
    assert fill(text, tmp_path) == text
    with pytest.raises(Unreadable, match="no line <!-- ops -->"):
        fill("no marks", RESULTS)
    (tmp_path / "ops").mkdir()
    (tmp_path / "ops/ops.json").write_text("{}")
    (tmp_path / "page.md").write_text(text)
    told = CliRunner().invoke(
        run.main, ["pages", "--results", str(tmp_path), "--file", str(tmp_path / "page.md")]
    )
    assert told.exit_code == 1
    assert "holds no results" in told.output
    assert (tmp_path / "page.md").read_text() == text
