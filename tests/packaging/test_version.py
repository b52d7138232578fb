"""What names the version beside ``dfad_fast/version.py`` agrees with it."""

import re
from pathlib import Path

import yaml

from dfad_fast.version import __version__

ROOT = Path(__file__).parents[2]
RELEASES = re.findall(
    r"^## \[(\d.*)\] - (\d{4}-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
)


def test_the_newest_release_of_the_changelog_is_this_version():
    assert RELEASES[0][0] == __version__


def test_the_citation_names_this_release():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (citation["version"], str(citation["date-released"])) == RELEASES[0]
