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
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [[], False]
