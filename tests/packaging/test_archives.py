"""What the source archive and a wheel hold, and what an installed wheel says, without compiling anything."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
import torch

from dfad_fast import backends
from dfad_fast.version import __version__

ROOT = Path(__file__).parents[2]
PARTS = ("LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.py", "csrc", "dfad_fast", "kernels")
KERNELS = {path.name for path in (ROOT / "kernels").glob("*.py")}
EXTENSION = f"_C{sysconfig.get_config_var('EXT_SUFFIX')}"
BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"


def python(*arguments, folder, **environment):
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(
        command, cwd=folder, env=inherited | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


def build(what, folder, out):
    done = python("-c", BUILD, what, out, folder=folder, DFAD_FAST_BUILD="0")
    assert "Package would be ignored" not in done.stderr + done.stdout
    return out / done.stdout.splitlines()[-1]


# What setup.py would do to torch's build beside a GPU and a toolkit.
ARCHITECTURES = """
import os, runpy, setuptools, torch
setuptools.setup = lambda **_: None
torch.cuda.is_available = lambda: True
for tagged, wanted in (("0", ""), ("1", ""), ("1", "7.5")):
    os.environ |= {"DFAD_FAST_TAG_TORCH": tagged, "TORCH_CUDA_ARCH_LIST": wanted}
    builds_cuda = runpy.run_path("setup.py")["builds_cuda"]
    builds_cuda.__globals__["cannot_build_cuda"] = lambda home: ""
    assert builds_cuda(False)
    print(repr(os.environ["TORCH_CUDA_ARCH_LIST"]))
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the sources, in which an extension lies that an editable install built."""
    folder = tmp_path_factory.mktemp("checkout")
    ignore = shutil.ignore_patterns("*.so", "_build_info.json", "__pycache__")
    for name in PARTS:
        copy = (
            shutil.copy if (ROOT / name).is_file() else lambda *paths: shutil.copytree(*paths, ignore=ignore)
        )
        copy(ROOT / name, folder / name)
    (folder / "dfad_fast" / EXTENSION).write_bytes(b"an extension")
    (folder / "dfad_fast/_build_info.json").write_text('{"built": true}')
    return folder


@pytest.fixture(scope="module")
def sdist(checkout):
    return build("build_sdist", checkout, checkout.parent)


@pytest.fixture(scope="module")
def unpacked(sdist, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder)
    return folder / sdist.name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def wheel(unpacked):
    """Built from the source archive alone."""
    return build("build_wheel", unpacked, unpacked.parent)


@pytest.fixture
def installed(wheel, tmp_path):
    """The wheel's files, as pip lays them."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    # An editable install answers for modules that a package of the same name lacks; this stands in its way.
    (tmp_path / "dfad_fast" / "_C.py").write_text("raise ModuleNotFoundError('no _C here')")
    return tmp_path


def test_no_file_of_the_repository_is_a_link():
    assert [name for name in PARTS if any(path.is_symlink() for path in (ROOT / name).rglob("*"))] == []


def test_the_source_archive_is_whole(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        f"csrc/{path.relative_to(ROOT / 'csrc').as_posix()}" for path in (ROOT / "csrc").rglob("*.*")
    } <= names
    assert {f"kernels/{name}" for name in KERNELS} <= names
    assert "dfad_fast/kernels/__init__.py" in names
    assert not names & {"dfad_fast/_build_info.json", f"dfad_fast/{EXTENSION}"}


def test_a_wheel_holds_the_kernels_in_the_package(wheel):
    assert wheel.name == f"dfad_fast-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        info = json.loads(archive.read("dfad_fast/_build_info.json"))
        first = archive.read("dfad_fast/kernels/__init__.py").decode()
    assert {name.rpartition("/")[2] for name in names if name.startswith("dfad_fast/kernels/")} == KERNELS
    assert first == (ROOT / "kernels/__init__.py").read_text()
    assert {name.partition("/")[0] for name in names} == {"dfad_fast", f"dfad_fast-{__version__}.dist-info"}
    assert {f"dfad_fast/reporting/report_page/page.{kind}" for kind in ("html", "css", "js")} <= names
    assert info == {"built": False, "skipped": True, "reason": "DFAD_FAST_BUILD=0"}


def test_the_kernels_of_an_installed_wheel_are_its_own(installed):
    pytest.importorskip("triton")
    code = "import dfad_fast.kernels.l1 as l1; print(l1.__file__)"
    printed = python("-c", code, folder=installed, PYTHONPATH=str(installed)).stdout.strip()
    assert Path(printed) == installed / "dfad_fast/kernels/l1.py"


def test_a_wheel_without_kernels_says_how_to_get_them(installed):
    done = python("-m", "dfad_fast.info", "--json", folder=installed, PYTHONPATH=str(installed))
    reason = json.loads(done.stdout)["extension"]["reason"]
    assert "it is not in this package: install a wheel for torch" in reason
    assert "or build it with pip install --no-build-isolation" in reason
    assert "DFAD_FAST_BUILD" not in reason


def test_where_there_are_no_kernels_nobody_is_told_to_build_them(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert (
        backends._not_built({"built": False, "reason": "no OpenMP"}) == "there is none for macOS and Windows"
    )


def test_a_wheel_beside_another_torch_falls_back_and_says_how_to_get_on(installed):
    text = json.dumps({"built": True, "torch": "2.3.1"})
    (installed / "dfad_fast/_build_info.json").write_text(text)
    done = python("-m", "dfad_fast.info", "--json", folder=installed, PYTHONPATH=str(installed))
    report = json.loads(done.stdout)
    assert report["dfad_fast"] == __version__
    assert set(report["ops"]["l1_discrepancy"]["cpu"].values()) >= {"reference"}
    reason = report["extension"]["reason"]
    assert f"it was built for torch 2.3.1, you have {torch.__version__}: reinstall with pip" in reason
    assert "SOURCES" in reason
    assert "Traceback" not in done.stderr


def test_a_wheel_that_is_handed_on_fits_more_than_the_gpu_of_its_builder(unpacked):
    switches = {"DFAD_FAST_BUILD": "0", "FORCE_CUDA": ""}
    assert python("-c", ARCHITECTURES, folder=unpacked, **switches).stdout.split() == [
        "''",
        "'8.0;9.0+PTX'",
        "'7.5'",
    ]


@pytest.mark.skipif(
    backends.extension is None, reason="no extension was built, perhaps for want of a compiler"
)
def test_a_wheel_that_is_handed_on_names_its_torch(unpacked, tmp_path):
    wishes = {"DFAD_FAST_TAG_TORCH": "1", "FORCE_CUDA": "0", "DFAD_FAST_REQUIRE_EXTENSION": "1"}
    python("setup.py", "egg_info", "--egg-base", tmp_path, folder=unpacked, **wishes)
    metadata = Parser().parsestr((tmp_path / "dfad_fast.egg-info/PKG-INFO").read_text())
    assert metadata["Version"] == f"{__version__}+torch{torch.__version__.partition('+')[0]}"
