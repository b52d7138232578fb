"""Networks from files that run without their Python code: TorchScript, torch.export and ONNX."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from dfad_fast.errors import UsageError, in_one_line
from dfad_fast.importing import import_package
from dfad_fast.models.black_box import is_black_box

_ONNX = ".onnx"
_SUFFIXES = {_ONNX, ".pt2", ".pt", ".pth", ".ts", ".torchscript"}
_INSTALL = "dfad-fast[onnx]"
_ROUNDING = {
    "ConvInteger",
    "DynamicQuantizeLinear",
    "MatMulInteger",
    "QLinearConv",
    "QLinearMatMul",
    "QuantizeLinear",
}
_CLOSE = 1e-3  # of the largest logit


class Program(nn.Module):
    """A network as a program: maps images [B, C, H, W] to its saved output, always in evaluation.

    Gradients reach the images. Features cannot be read.
    """

    def __init__(self, run: nn.Module) -> None:
        super().__init__()
        self.run = run
        self.training = False

    def train(self, mode: bool = True) -> Program:
        """Does nothing: programs of torch.export have one mode."""
        return self

    def forward(self, images: Tensor) -> object:
        """What the program returns for ``images``."""
        return self.run(images)


def is_opaque(network: nn.Module) -> bool:
    """Whether ``network`` contains a program or is a black box, so that its features cannot be read."""
    return is_black_box(network) or bool(programs_in(network))


def programs_in(network: nn.Module) -> list[nn.Module]:
    """The programs in ``network``, including itself."""
    return [module for module in network.modules() if isinstance(module, Program | torch.jit.ScriptModule)]


def is_program(name: str) -> bool:
    """Whether ``name`` names a file for :func:`load_program`."""
    return Path(name).suffix in _SUFFIXES


def runs_code(name: str) -> bool:
    """Whether loading the program can run its author's code; an ONNX model cannot."""
    return is_program(name) and Path(name).suffix != _ONNX


def load_program(path: str | Path, image_shape: tuple[int, int, int]) -> Program:
    """Loads the program in ``path`` on the CPU, saved by torch.jit.save or torch.export.save, or an ONNX model.

    TorchScript programs are code and are run; torch.export.load unpickles parts, which can run code. The package
    onnx2fx converts ONNX models, and their answers are compared with onnxruntime's.

    Raises UsageError if the file is missing, damaged or no such program, if the program takes only a fixed number of
    images, or if a package is missing.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UsageError(
            f"no file {path}: expected a program of TorchScript (.pt), torch.export (.pt2) or ONNX"
        )
    read = _read_onnx if path.suffix == _ONNX else _reader_of_archive(path)
    with _one_line(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about TorchScript's deprecation, which the user cannot change
        program = Program(read(path)).requires_grad_(False)
        if path.suffix == _ONNX:
            _compare_with_onnxruntime(program, path, image_shape)
    return program


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"{path} could not be loaded as a network: {in_one_line(error)}") from error


def _reader_of_archive(path: Path) -> Callable[[Path], nn.Module]:
    """Decides by the content: ``.pt`` may name anything."""
    names: list[str] = []
    if zipfile.is_zipfile(path):
        with _one_line(path), zipfile.ZipFile(path) as archive:
            names = [name.rpartition("/")[2] for name in archive.namelist()]
    if "constants.pkl" in names:
        return _read_script
    if "archive_format" in names or "serialized_exported_program.json" in names:
        return _read_exported
    raise UsageError(
        f"{path} is not a program of TorchScript or torch.export, or is damaged: if it holds weights, pass it as "
        "--teacher-weights and name the network with --teacher; if it holds a pickled network, save that by "
        "torch.export.save or save its state_dict, because a pickle could run any code"
    )


def _read_script(path: Path) -> nn.Module:
    return torch.jit.load(path, map_location="cpu").eval()


def _read_exported(path: Path) -> nn.Module:
    program = torch.export.load(path)
    inputs = program.graph_signature.user_inputs
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name == inputs[0]:
            _check_inputs(path, len(inputs), node.meta["val"].shape[0])
    return program.module()


def _read_onnx(path: Path) -> nn.Module:
    onnx = import_package("onnx", install=_INSTALL)
    onnx2fx = import_package("onnx2fx", install=_INSTALL)
    graph = onnx.load_model(path, load_external_data=False).graph
    rounding = sorted({node.op_type for node in graph.node} & _ROUNDING)
    if rounding:
        raise UsageError(
            f"{path} is quantized ({', '.join(rounding)}), and no gradient passes through rounding: pass the float "
            "model"
        )
    constants = {one.name for one in graph.initializer}
    inputs = [one for one in graph.input if one.name not in constants]
    sides = inputs[0].type.tensor_type.shape.dim if inputs else []
    _check_inputs(path, len(inputs), sides[0].dim_value if sides else 0)
    return onnx2fx.make_trainable(onnx2fx.convert(str(path)))  # weights as parameters, not as buffers


def _check_inputs(path: Path, inputs: int, batch: object) -> None:
    if inputs != 1:
        raise UsageError(f"{path} takes {inputs} inputs: expected one that takes only images")
    if isinstance(batch, int) and batch > 0:
        raise UsageError(
            f"{path} takes exactly {batch} images at once: export it for any batch size, with "
            "dynamic_shapes=({0: torch.export.Dim('batch')},) of torch.export or torch.onnx"
        )


def _compare_with_onnxruntime(program: Program, path: Path, image_shape: tuple[int, int, int]) -> None:
    """Raises UsageError if the converted model computes another function."""
    runtime = import_package("onnxruntime", install=_INSTALL)
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    images = torch.randn(3, *image_shape, generator=torch.Generator().manual_seed(0), device="cpu")
    expected = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: images.numpy()})[0])
    with torch.no_grad():
        answers = program(images)
    answer = answers[0] if isinstance(answers, tuple | list) else answers
    assert isinstance(answer, Tensor)
    slack = _CLOSE * expected.abs().max().item()
    same = answer.shape == expected.shape
    if not same or not torch.allclose(answer, expected, rtol=0.0, atol=slack, equal_nan=True):
        raise UsageError(
            f"{path} gives different answers after its conversion than in onnxruntime: pass the network as a program "
            "of torch.export, or with --teacher and --teacher-weights"
        )
