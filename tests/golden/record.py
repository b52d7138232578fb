"""Records the digests of this machine type: ``python -m tests.golden.record [--overwrite]``."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tests.golden.cases import CASES
from tests.golden.runs import Digests, machine_type, run, run_in_two

DIGESTS = Path(__file__).with_name("digests.json")
COMMAND = "python -m tests.golden.record"


def recorded() -> dict[str, dict[str, dict[str, Digests]]]:
    """By machine type, then by the number of processes, then by case."""
    return json.loads(DIGESTS.read_text()) if DIGESTS.exists() else {}


def main() -> None:
    parser = argparse.ArgumentParser(prog=COMMAND, description="Records the digests of this machine type.")
    parser.add_argument("--overwrite", action="store_true", help="replace those that are on record")
    overwrite = parser.parse_args().overwrite
    everything, machine = recorded(), machine_type()
    if machine in everything and not overwrite:
        sys.exit(f"{machine} is on record: replace its digests with --overwrite")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        one = {case: run(CASES[case], folder / "one" / case) for case in CASES}
        (folder / "two").mkdir()
        everything[machine] = {"1": one, "2": run_in_two(folder / "two")}
    DIGESTS.write_text(json.dumps(everything, indent=1) + "\n")
    print(f"recorded {len(one)} runs in one process and {len(everything[machine]['2'])} in two on {machine}")


if __name__ == "__main__":
    main()
