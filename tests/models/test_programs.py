import sys

import pytest
import torch
from torch import nn
from torch.export import Dim

from dfad_fast.errors import UsageError
from dfad_fast.models import Program, is_program, load_program, runs_code
from dfad_fast.models.zoo.resnet_plain import PlainResNet

SHAPE = (3, 8, 8)
BATCH = ({0: Dim("batch")},)


@pytest.fixture(scope="module")
def network():
    """A residual network with slices, padding, batch norm with lived-in statistics, and dropout."""
    torch.manual_seed(0)
    made = nn.Sequential(PlainResNet(SHAPE, 8, blocks=1), nn.Dropout(), nn.Linear(8, 4))
    with torch.no_grad():
        made.train()(torch.randn(16, *SHAPE) * 1.5 + 0.3)
    return made.eval()


def script(network, path):
    torch.jit.save(torch.jit.script(network), path)


def script_in_training(network, path):
    torch.jit.save(torch.jit.script(network.train()), path)
    network.eval()


def freeze(network, path):
    torch.jit.save(torch.jit.freeze(torch.jit.script(network)), path)


def trace(network, path):
    torch.jit.save(torch.jit.trace(network, torch.randn(2, *SHAPE)), path)


def export(network, path):
    torch.export.save(torch.export.export(network, (torch.randn(2, *SHAPE),), dynamic_shapes=BATCH), path)


def onnx(network, path, **settings):
    settings = settings or {"dynamic_shapes": BATCH}
    torch.onnx.export(network.eval(), (torch.randn(2, *SHAPE),), path, dynamo=True, verbose=False, **settings)


WRITERS = [
    (script, "a.pt"),
    (script_in_training, "a.pt"),
    (freeze, "a.pth"),
    (trace, "a.ts"),
    (export, "a.pt2"),
    (export, "a.pt"),
    (onnx, "a.onnx"),
]


@pytest.mark.parametrize(("write", "name"), WRITERS, ids=lambda x: getattr(x, "__name__", x))
def test_a_programs_answers_and_input_gradients_are_the_networks(tmp_path, network, write, name):
    if write is onnx:
        pytest.importorskip("onnx2fx")
        pytest.importorskip("onnxruntime")
    write(network, tmp_path / name)
    program = load_program(tmp_path / name, SHAPE)
    assert isinstance(program, Program)
    program.train()  # changes nothing
    for batch in (1, 5):
        images = torch.randn(batch, *SHAPE)
        results = []
        for each in (network, program):
            x = images.clone().requires_grad_()
            answer = each(x)
            results.append([answer, *torch.autograd.grad(answer.square().sum(), x)])
        torch.testing.assert_close(results[1], results[0], rtol=1e-3, atol=1e-4)
    assert not any(p.requires_grad for p in program.parameters())


def damaged(path):
    path.write_bytes(b"PK\x03\x04 nonsense" * 20)


def cut(path):
    script(nn.Linear(2, 2), path)
    path.write_bytes(path.read_bytes()[:-300])


def state(path):
    torch.save(nn.Linear(2, 2).state_dict(), path)


def fixed(path):
    linear = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    torch.export.save(torch.export.export(linear, (torch.randn(3, *SHAPE),)), path)


def two(path):
    class Sum(nn.Module):
        def forward(self, a, b):
            return a + b

    torch.export.save(torch.export.export(Sum(), (torch.ones(2), torch.ones(2))), path)


def fixed_onnx(path):
    pytest.importorskip("onnx2fx")
    onnx(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), path, input_names=["x"])


def quantized_onnx(path):
    onnx_package = pytest.importorskip("onnx")
    pytest.importorskip("onnx2fx")
    helper, float_, int8 = onnx_package.helper, onnx_package.TensorProto.FLOAT, onnx_package.TensorProto.INT8
    graph = helper.make_graph(
        [helper.make_node("QuantizeLinear", ["x", "scale"], ["y"])],
        "rounds",
        [helper.make_tensor_value_info("x", float_, ["b", *SHAPE])],
        [helper.make_tensor_value_info("y", int8, ["b", *SHAPE])],
        [helper.make_tensor("scale", float_, [], [0.1])],
    )
    onnx_package.save(helper.make_model(graph), path)


@pytest.mark.parametrize(
    ("write", "name", "message"),
    [
        (quantized_onnx, "a.onnx", r"a.onnx is quantized \(QuantizeLinear\), and no gradient passes"),
        (lambda _: None, "gone.pt2", "no file .*gone.pt2: expected a program of TorchScript"),
        (damaged, "a.pt", "a.pt is not a program of TorchScript or torch.export, or is damaged"),
        (damaged, "a.onnx", "a.onnx could not be loaded as a network: "),
        (cut, "a.pt", "a.pt is not a program of TorchScript or torch.export, or is damaged"),
        (state, "a.pt", "a.pt is not a program .*if it holds weights, pass it as --teacher-weights"),
        (fixed, "a.pt2", "a.pt2 takes exactly 3 images at once: export it for any batch size"),
        (fixed_onnx, "a.onnx", "a.onnx takes exactly 2 images at once: export it for any batch size"),
        (two, "a.pt2", "a.pt2 takes 2 inputs: expected one"),
    ],
)
def test_files_that_are_no_program_for_images_are_refused_in_one_line(tmp_path, write, name, message):
    write(tmp_path / name)
    with pytest.raises(UsageError, match=message) as caught:
        load_program(tmp_path / name, SHAPE)
    assert "\n" not in str(caught.value)


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.onnx").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "onnx2fx", None)
    with pytest.raises(UsageError, match=r"onnx2fx is not installed .*pip install dfad-fast\[onnx\]"):
        load_program(tmp_path / "a.onnx", SHAPE)


def test_a_conversion_that_answers_otherwise_is_refused(tmp_path, network, monkeypatch):
    onnx2fx = pytest.importorskip("onnx2fx")
    pytest.importorskip("onnxruntime")
    onnx(network, tmp_path / "a.onnx")
    wrong = nn.Sequential(network, nn.Softmax(1))
    monkeypatch.setattr(onnx2fx, "convert", lambda _: wrong)
    monkeypatch.setattr(onnx2fx, "make_trainable", lambda converted: converted)
    with pytest.raises(UsageError, match="gives different answers after its conversion than in onnxruntime"):
        load_program(tmp_path / "a.onnx", SHAPE)


def test_programs_are_told_by_their_files_names():
    assert [
        name
        for name in ("a.pt", "b/c.pt2", "d.onnx", "resnet20", "own.py:net", "hf:a", "timm:x.in1k")
        if is_program(name)
    ] == ["a.pt", "b/c.pt2", "d.onnx"]
    assert runs_code("a.pt")
    assert not runs_code("a.onnx")
