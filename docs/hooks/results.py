"""Takes the committed results that a page shows or links to into the site.

A page says ``../../benchmarks/results/ops/speedup.png``, which is right where the repository is looked at, and lies
outside of what mkdocs builds.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

_LINK = re.compile(r"(?:\.\./)+benchmarks/results/?([\w./-]*)")
_FOLDER = "measured"


def _results(config: MkDocsConfig) -> Path:
    return Path(config.docs_dir).parent / "benchmarks/results"


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    for path in sorted(_results(config).rglob("*")):
        if path.is_file():
            uri = f"{_FOLDER}/{path.relative_to(_results(config)).as_posix()}"
            files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, **_: Any) -> str:
    up = "../" * page.file.src_uri.count("/")

    def moved(found: re.Match[str]) -> str:
        path = _results(config) / found[1]
        if not path.is_file():
            raise PluginError(f"{page.file.src_uri} links to {found[0]}, which is no file")
        return f"{up}{_FOLDER}/{path.relative_to(_results(config)).as_posix()}"

    return _LINK.sub(moved, markdown)
