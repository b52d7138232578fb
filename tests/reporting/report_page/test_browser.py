"""The page in a real browser: its script runs, without errors, and does what it is there for."""

import re
import shutil
import subprocess

import pytest

from dfad_fast.reporting.report_page.page import write_page

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
)  # fmt: skip

# Points at the middle of the first chart, then switches its first line off.
_USE = """
const plot = document.querySelector(".plot > svg"), box = plot.getBoundingClientRect();
plot.dispatchEvent(new PointerEvent("pointermove", { clientX: box.left + box.width / 2, clientY: box.top + 50 }));
document.documentElement.dataset.pointed = document.querySelector(".pointer").innerText.replace(/\\s+/g, " ");
document.querySelector(".legend button").click();
document.documentElement.dataset.wide = document.documentElement.scrollWidth > innerWidth ? "yes" : "no";
"""


@pytest.fixture
def chromium(tmp_path):
    """Runs the browser on a page and returns what it prints."""
    program = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if program is None:
        pytest.skip(f"none of {', '.join(_NAMES)} is installed")

    def run(page, *options):
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        command = [program, *_FLAGS, profile, *options, page.as_uri()]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout

    return run


def test_the_script_runs_without_errors_and_a_picture_comes_out(chromium, finished, tmp_path):
    from PIL import Image

    page = write_page(finished)
    picture = tmp_path / "page.png"
    dom = chromium(page, f"--screenshot={picture}", "--window-size=390,900", "--dump-dom")
    root = re.search("<html[^>]*>", dom).group()
    assert 'data-ready="yes"' in root
    assert "data-error" not in root
    with Image.open(picture) as shown:
        assert shown.size == (390, 900)
        assert len(shown.convert("RGB").getcolors(1 << 20)) > 50


def test_the_pointer_shows_values_and_the_legend_hides_a_line(chromium, finished):
    page = write_page(finished)
    text = page.read_text(encoding="utf-8")
    # Only the page's own script may run, as the policy says; this is a page with another one and without the policy.
    text = re.sub('<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    page.write_text(text.replace("</body>", f"<script>{_USE}</script></body>"), encoding="utf-8")
    root = re.search("<html[^>]*>", dom := chromium(page, "--window-size=390,900", "--dump-dom")).group()
    assert re.search("data-pointed=\"iteration [34], (144|192) images student's accuracy [0-9.]+ %", root), (
        root
    )
    assert "data-error" not in root
    assert 'data-wide="no"' in root
    assert 'class="line line-0  off"' in dom or 'class="line line-0 off"' in dom
    assert dom.count('<button type="button" aria-pressed="false"') == 1


def test_a_strange_script_does_not_run(chromium, finished):
    page = write_page(finished)
    text = page.read_text(encoding="utf-8")
    strange = "<script>document.documentElement.dataset.strange = 1</script>"
    page.write_text(text.replace("</body>", f"{strange}</body>"), encoding="utf-8")
    root = re.search("<html[^>]*>", chromium(page, "--dump-dom")).group()
    assert 'data-ready="yes"' in root
    assert "data-strange" not in root
