import pytest
import torch

from dfad_fast.runs.whole_files import write_tensors
from dfad_fast.sources.recorded.measuring import Detail, measure_record

SHAPE = (1, 8, 8)


@pytest.fixture
def images():
    """Three kinds of images, unlike each other."""
    source = torch.Generator().manual_seed(3)
    kinds = torch.randn(3, *SHAPE, generator=source).repeat_interleave(60, dim=0)
    return kinds + 0.5 * torch.randn(180, *SHAPE, generator=source)


@pytest.fixture
def record(pair, images):
    return measure_record(pair[0], SHAPE, images.split(50), Detail(clusters=2, directions=3, least=8))


@pytest.fixture
def file(record, tmp_path):
    write_tensors(tmp_path / "record.safetensors", record.tensors(), record.header())
    return tmp_path / "record.safetensors"
