import sys
from types import SimpleNamespace

import pytest
import torch

from dfad_fast import DFADTrainer
from dfad_fast.errors import UsageError
from dfad_fast.models import create_packaged_network, is_packaged
from dfad_fast.models.reading.taps import find_taps

SHAPE = (3, 32, 32)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("timm:resnet18", True),
        ("torchvision:resnet34", True),
        ("hf:folder", True),
        ("torchvision.models:resnet18", False),
        ("timm", False),
        ("mine.py:net", False),
    ],
)
def test_which_names_are_those_of_packages(name, expected):
    assert is_packaged(name) == expected


@pytest.mark.parametrize("package", ["timm", "torchvision", "transformers"])
def test_a_package_that_is_missing_is_named(package, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / "config.json").write_text("{}")
    name = f"hf:{tmp_path}" if package == "transformers" else f"{package}:resnet18"
    with pytest.raises(UsageError, match=rf"{package} is not installed.*: pip install {package}$"):
        create_packaged_network(name, SHAPE)


def test_a_folder_without_a_network_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"expected a local folder with a config\.json"):
        create_packaged_network(f"hf:{tmp_path}", SHAPE)


def distill(teacher, student, iterations=2):
    """The trainer's pairs of taps after a few iterations, in which the student has to change."""
    # Untrained networks and batches this small have gradients beyond SGD's rate.
    trainer = DFADTrainer(teacher, student, SHAPE, "dfad-ar-vi-bn", latent_dim=8, batch_size=4, recipe="adam")
    before = [parameter.detach().clone() for parameter in student.parameters()]
    for _ in range(iterations):
        terms = trainer.step()
        assert all(torch.isfinite(torch.as_tensor(term)).all() for term in terms.values())
    assert any(not torch.equal(a, b) for a, b in zip(before, student.parameters(), strict=True))
    return trainer.networks.tap_pairs


def test_an_unmodified_pair_of_torchvisions_is_distilled():
    torchvision = pytest.importorskip("torchvision")
    teacher = create_packaged_network("torchvision:resnet18", SHAPE, 4)
    student = create_packaged_network("torchvision:mobilenet_v2", SHAPE, 4)
    assert type(student) is torchvision.models.MobileNetV2
    pairs = distill(teacher, student)
    assert [(str(t), str(s)) for t, s in pairs] == [
        ("relu#0", "features.1"),
        ("layer1.1.relu#1", "features.3"),
        ("layer2.1.relu#1", "features.6"),
        ("layer3.1.relu#1", "features.13"),
        ("layer4.1.relu#1", "features.18.2#0"),
    ]


def test_what_torchvision_cannot_build_is_refused():
    pytest.importorskip("torchvision")
    with pytest.raises(UsageError, match="torchvision has no network 'resnet19': did you mean 'resnet1"):
        create_packaged_network("torchvision:resnet19", SHAPE)
    with pytest.raises(UsageError, match="3 channels, got 1"):
        create_packaged_network("torchvision:resnet18", (1, 32, 32))
    assert create_packaged_network("torchvision:squeezenet1_1", SHAPE).num_classes == 1000


def test_an_unmodified_pair_of_timms_is_distilled():
    pytest.importorskip("timm")
    teacher = create_packaged_network("timm:resnet18", SHAPE, 4)
    pairs = distill(teacher, create_packaged_network("timm:mobilenetv2_035", SHAPE, 4))
    assert [str(t) for t, _ in pairs] == ["act1#0", *(f"layer{i}.1.act2#0" for i in range(1, 5))]


def test_timms_networks_fit_the_images():
    pytest.importorskip("timm")
    images = torch.zeros(2, 1, 64, 64)
    for name in ("resnet10t", "swin_tiny_patch4_window7_224", "convnext_atto"):
        network = create_packaged_network(f"timm:{name}", (1, 64, 64), 5).eval()
        assert network(images).shape == (2, 5)
        assert [tap.size[0] for tap in find_taps(network, images)][-1] == 2
    with pytest.raises(UsageError, match="timm has no network 'hf-hub:timm/resnet18'"):
        create_packaged_network("timm:hf-hub:timm/resnet18", SHAPE)


def test_a_classifier_of_transformers_is_read_from_its_folder(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=4
    )
    saved = transformers.ResNetForImageClassification(config).eval()
    saved.save_pretrained(tmp_path / "teacher")
    config.save_pretrained(tmp_path / "student")
    teacher = create_packaged_network(f"hf:{tmp_path}/teacher", SHAPE).eval()
    images = torch.randn(2, *SHAPE)
    assert torch.equal(teacher(images), saved(images).logits)
    student = create_packaged_network(f"hf:{tmp_path}/student", SHAPE, 4)
    assert len(distill(teacher, student)) == 3


def test_whatever_a_package_says_is_told_in_one_line(monkeypatch):
    def fail(*_args, **_kwargs):
        raise RuntimeError("first line\nsecond")

    fake = SimpleNamespace(is_model=lambda _: True, create_model=fail)
    monkeypatch.setitem(sys.modules, "timm", fake)
    with pytest.raises(UsageError, match=r"^timm:resnet18 could not be built: first line: choose") as caught:
        create_packaged_network("timm:resnet18", SHAPE)
    assert "\n" not in str(caught.value)
