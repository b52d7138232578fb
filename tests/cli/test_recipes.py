"""The recipes of published pairs are understood, and begin."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

from dfad_fast.models.zoo.registry import create_network
from tests.data.test_mnist import write as write_mnist

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))
SHAPES = {"cifar10": (3, 32, 32), "cifar100": (3, 32, 32), "mnist": (1, 28, 28)}
# Small networks of one family, in place of a recipe's.
SMALL = ("resnet10-w16", "resnet10-w8")


def test_there_are_recipes():
    assert len(RECIPES) == 4


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_begins(dfad_fast, tmp_path, monkeypatch, recipe):
    settings = yaml.safe_load(recipe.read_text())["distill"]
    shape = tuple(settings.get("image_shape") or SHAPES[settings["dataset"]])
    classes = settings.get("classes") or {"cifar100": 100}.get(settings["dataset"], 10)
    with torch.device("meta"):
        for which in ("teacher", "student"):
            create_network(settings[which], shape, classes)
    weights = create_network(SMALL[0], shape, classes).state_dict()
    save_file({name: value.clone() for name, value in weights.items()}, tmp_path / "teacher.safetensors")
    arguments = ["--config", recipe, "--teacher", SMALL[0], "--teacher-weights", "teacher.safetensors"]
    if "dataset" in settings:
        arguments += ["--data-dir", "."]
        write_mnist(tmp_path)
        images = np.zeros((8, 3, 32, 32), np.uint8)
        np.savez(tmp_path / f"{settings['dataset']}.npz", images=images, labels=np.arange(8))
    for module in ("engine.evaluating", "runs.summarizing"):
        monkeypatch.setattr(f"dfad_fast.{module}.HELD_OUT_IMAGES", 16)
    done = dfad_fast(
        "distill", *arguments, "--student", SMALL[1], "--iterations", 1, "--batch-size", 4, "--out", "run"
    )
    assert done.code == 0, done.err
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert (summary["method"], summary["iterations"]) == (settings["method"], 1)
