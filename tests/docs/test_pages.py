"""What the documentation tells a reader to type is what the code takes."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
import yaml

from dfad_fast.cli.group import app
from dfad_fast.errors import UsageError

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
_BLOCK = re.compile(r"^( *)```(\w+)[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
_NOT_RUN = re.compile(r"<!-- not run: .+ -->\s*\Z")
_PROGRAM = re.compile(r"(?:torchrun .*?-m dfad_fast|python -m dfad_fast|dfad-fast) ")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    text: str
    line: int
    run: bool


def blocks(page):
    text = page.read_text()
    for found in _BLOCK.finditer(text):
        indent, language, body = found.groups()
        dedented = "\n".join(line.removeprefix(indent) for line in body.splitlines())
        before = text[: found.start()]
        yield Block(language, dedented, before.count("\n") + 2, not _NOT_RUN.search(before))


def commands(page):
    """The command lines of ``dfad-fast`` in a page, without the program's name."""
    for block in blocks(page):
        if block.language not in ("sh", "bash", "shell"):
            continue
        for line in block.text.replace("\\\n", " ").splitlines():
            if found := _PROGRAM.match(line.strip().removeprefix("$ ")):
                yield shlex.split(line.strip().removeprefix("$ ")[found.end() :], comments=True)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_command_of_a_page_is_understood(page):
    for arguments in commands(page):
        with app.make_context("dfad-fast", list(arguments), resilient_parsing=False) as context:
            name, command, rest = app.resolve_command(context, [*context._protected_args, *context.args])
            try:
                command.make_context(name, rest, parent=context, resilient_parsing="..." in rest)
            except click.exceptions.Exit:  # --help
                pass
            except (click.UsageError, UsageError) as error:
                # A file of the reader's.
                if not re.search("does not exist|cannot read|holds no run", str(error)):
                    pytest.fail(f"{' '.join(arguments)}: {error}")


def _runs_python(page):
    return any(block.language == "python" and block.run for block in blocks(page))


@pytest.mark.parametrize("page", [page for page in PAGES if _runs_python(page)], ids=lambda page: page.stem)
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "page"}
    for block in blocks(page):
        if block.language == "python" and block.run:
            short = re.sub(r"\b(iterations)=[\d_]+", r"\1=2", block.text)
            # At its own line of the page, so that a traceback names it.
            code = compile("\n" * (block.line - 1) + short, str(page), "exec", dont_inherit=True)
            exec(code, namespace)


def _linked(page):
    text = re.sub(_BLOCK, "", page.read_text())
    for target in re.findall(r"\]\(([^)\s]+)\)|<img src=\"([^\"]+)\"", text):
        link = target[0] or target[1]
        if not re.match(r"[a-z]+:", link) and not link.startswith("#"):
            yield link.partition("#")[0]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_link_leads_to_a_file(page):
    missing = [link for link in _linked(page) if not (page.parent / link).exists()]
    assert missing == []


def test_every_page_is_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text().replace("!!python/name:", "")

    def files(entry):
        if isinstance(entry, str):
            yield entry
        elif isinstance(entry, dict):
            for value in entry.values():
                yield from files(value)
        else:
            for part in entry:
                yield from files(part)

    in_navigation = sorted(files(yaml.safe_load(text)["nav"]))
    assert in_navigation == sorted(str(page.relative_to(DOCS)) for page in PAGES if DOCS in page.parents)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_a_page_is_plain_american_english(page):
    prose = re.sub(_BLOCK, "", page.read_text())
    prose = re.sub(r"`[^`]*`", "", prose)
    banned = (
        r"\b[Oo]ptimis(?!ti)|\b[Nn]ormalis|\b[Ii]nitialis|\b[Ss]ynchronis|\b[Mm]inimis|\b[Mm]aximis|\blabelled\b|"
        r"\bgone on with\b|\bwhat came of\b|\bbe their\b|\bis warned of\b|\b[Ll]ikewise\b|\bin vain\b|\bis had\b|"
        r"\bby so much\b|\banew\b|\bas it comes\b|\btells? of\b|(?<=[.!?] )Of\b|^Of\b"
    )
    found = [line for line in prose.splitlines() if re.search(banned, line)]
    assert found == []


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
