"""``run.py convolutions`` on a few images of a small network."""

import json

import pytest
import torch
from click.testing import CliRunner

from benchmarks import run
from benchmarks.convolutions import races
from benchmarks.convolutions.layers import Layer, layers_of
from dfad_fast import backends
from dfad_fast.models.surgery.quick_layers import QuickLayers


@pytest.mark.skipif(backends.extension is None, reason="no extension was built")
def test_each_layer_has_its_row_and_what_is_chosen_is_among_what_was_timed(tmp_path, monkeypatch):
    monkeypatch.setattr(races, "BATCH", 2)
    options = ("--networks", "resnet8-w32", "--rounds", "1", "--out", str(tmp_path))
    done = CliRunner().invoke(run.main, ["convolutions", *options])
    assert done.exit_code == 0, done.output
    rows = json.loads((tmp_path / "convolutions.json").read_text())["layers"]
    assert [row["name"] for row in rows] == [str(layer) for layer in layers_of(["resnet8-w32"])]
    for way in (way for row in rows for way in row["ways"].values()):
        assert way["chosen"] in way["seconds"]
        assert all(0 < seconds < 60 for seconds in way["seconds"].values())
    text = (tmp_path / "convolutions.md").read_text()
    assert text in done.output
    assert text.count("**") == 2 * 4 * len(rows)


def test_a_layer_is_told_once_with_what_can_compute_it():
    layers = layers_of(["resnet8-w32"])
    assert len(set(layers)) == len(layers)
    assert Layer(1, 8, 32, 3, 1) in layers
    assert Layer(8, 8, 8, 3, 1).algorithms == ("torch", "direct", "tiled", "winograd")
    assert Layer(3, 8, 8, 3, 1).algorithms == ("torch", "direct", "tiled")
    assert Layer(8, 8, 256, 3, 1).algorithms == ("torch", "winograd")
    assert Layer(8, 8, 8, 3, 2).algorithms == Layer(8, 8, 8, 1, 1).algorithms == ("torch", "direct")


@pytest.mark.skipif(backends.extension is None, reason="no extension was built")
def test_what_the_trainer_takes_is_what_the_table_says():
    layer = Layer(8, 8, 8, 3, 1).made()
    quick = QuickLayers(layer)
    with quick.used(), torch.no_grad():
        layer(torch.zeros(1, 8, 8, 8))
    assert races._chosen(Layer(8, 8, 8, 3, 1), layer, backward=False) == "tiled"
    assert quick.describe() == {"convolutions": "1 tiled"}
