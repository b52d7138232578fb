import platform
import subprocess
import sys

import pytest

# Page faults of the tenth time that 256 MiB are allocated, written and freed, in a fresh process.
SCRIPT = """
import resource, sys, torch
from dfad_fast.allocator import pin_allocator
if sys.argv[1] == "pinned":
    assert pin_allocator() and pin_allocator()
for _ in range(10):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    x = torch.empty(2**26)
    x.fill_(1.0)
    del x
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults)
"""


def faults(how):
    command = [sys.executable, "-c", SCRIPT, how]
    return int(subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_what_a_step_frees_is_there_for_the_next():
    assert faults("default") > 100
    assert faults("pinned") < 10


def test_elsewhere_it_says_no(monkeypatch):
    from dfad_fast.allocator import pin_allocator

    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert pin_allocator.__wrapped__() is False
