import onnx
import pytest
import torch
from torch import nn

from dfad_fast.errors import RunError
from dfad_fast.exporting.onnx_file import read_onnx
from dfad_fast.exporting.quantizing import quantize


class Residual(nn.Module):
    """With a batch norm after a convolution, and one that no convolution precedes."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.before = nn.BatchNorm2d(8)

    def forward(self, x):
        return torch.relu(self.before(x + torch.relu(self.norm(self.conv(x)))))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A network in eval mode, its ONNX model as the plainest exporter writes it, and images."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        Residual(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 5),
    )
    images = torch.randn(256, 1, 8, 8)
    network(images)  # running statistics
    network.eval()
    with torch.no_grad():
        network[-1].weight *= 10
    file = tmp_path_factory.mktemp("float") / "model.onnx"
    torch.onnx.export(
        network, (images[:2],), file, dynamo=True, optimize=False, verbose=False, external_data=False,
        input_names=["images"], output_names=["logits"], dynamic_shapes=({0: torch.export.Dim("batch")},),
    )  # fmt: skip
    return network, file, images


def ops(file):
    return [node.op_type for node in onnx.load(file).graph.node]


def test_batch_norm_is_folded_into_convolutions_and_answers_stay_near(model, tmp_path):
    network, file, images = model
    assert ops(file).count("BatchNormalization") == 2
    quantize(file, images[:128], tmp_path / "int8.onnx")
    assert ops(tmp_path / "int8.onnx").count("BatchNormalization") == 1
    with torch.no_grad():
        expected = network(images)
    logits = read_onnx(tmp_path / "int8.onnx")(images)
    assert 0 < (logits - expected).abs().max() < 0.1 * expected.abs().max()
    assert (logits.argmax(1) == expected.argmax(1)).double().mean() > 0.95


def test_weights_have_seven_bits_and_a_scale_for_each_channel_and_activations_are_unsigned(model, tmp_path):
    _, file, images = model
    quantize(file, images[:128], tmp_path / "int8.onnx")
    graph = onnx.load(tmp_path / "int8.onnx").graph
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    made_by = {output: node for node in graph.node for output in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 2
    for node in convolutions:
        weight, scale, _ = (tensors[name] for name in made_by[node.input[1]].input)
        assert (str(weight.dtype), len(scale)) == ("int8", 8)
        assert 60 < abs(weight.astype(int)).max() <= 64
        zero = tensors[made_by[node.input[0]].input[2]]
        assert str(zero.dtype) == "uint8"


def test_what_onnxruntime_cannot_do_is_one_line(tmp_path):
    value = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node("NoSuchOp", ["images"], ["logits"])
    graph = onnx.helper.make_graph(
        [node], "none", [value("images", 1, [1, 1, 8, 8])], [value("logits", 1, [1, 3])]
    )
    onnx.save(onnx.helper.make_model(graph), tmp_path / "model.onnx")
    with pytest.raises(RunError, match=r"onnxruntime cannot quantize the student \(.*\): leave --int8 out"):
        quantize(tmp_path / "model.onnx", torch.zeros(2, 1, 8, 8), tmp_path / "int8.onnx")
    assert not (tmp_path / "int8.onnx").exists()
