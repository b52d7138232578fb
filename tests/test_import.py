import json
import subprocess
import sys

LATE = [
    "triton",
    "torch._dynamo",
    "matplotlib",
    "rich",
    "sklearn",
    "PIL",
    "safetensors",
    "click",
    "jinja2",
    "tensorboard",
]


def printed_by(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_importing_the_trainer_is_light_and_starts_no_cuda():
    code = f"""
import json, sys
import torch
before = set(sys.modules)
import dfad_fast
from dfad_fast import DFADTrainer, use_backend
import dfad_fast.ops, dfad_fast.nn
print(json.dumps([[m for m in {LATE!r} if m in set(sys.modules) - before], torch.cuda.is_initialized()]))
"""
    assert printed_by(code) == [[], False]


def test_importing_the_package_imports_nothing_else():
    code = """
import json, sys
before = {m.partition(".")[0] for m in sys.modules} | {*sys.stdlib_module_names}
import dfad_fast
loaded = sorted(m for m in sys.modules if m.partition(".")[0] not in before)
print(json.dumps(loaded))
"""
    assert printed_by(code) == ["dfad_fast", "dfad_fast.version"]


def test_every_public_name_is_what_its_module_calls_so():
    import dfad_fast

    assert set(dfad_fast._HOMES) == set(dfad_fast.__all__) - {"__version__"}
    for name in dfad_fast._HOMES:
        assert getattr(dfad_fast, name).__name__ == name
    assert set(dfad_fast.__all__) <= set(dir(dfad_fast))
    assert not hasattr(dfad_fast, "nothing")
