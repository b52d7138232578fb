import pytest
import torch
from torch import nn

from dfad_fast.data import Dataset
from dfad_fast.jobs.settings import DistillSettings
from dfad_fast.jobs.trained_run import TrainedRun
from dfad_fast.networks.trio import Trio

CLASSES = 4


def make_net(seed, width=8):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2 * width, CLASSES),
    ).eval()


class Reshape(nn.Module):
    def forward(self, noise):
        return noise.view(-1, 1, 8, 8)


@pytest.fixture
def run_of(tmp_path):
    """A run of these two networks on images [1, 8, 8] of noise, labeled by the teacher; further fields by name."""

    def make(teacher, student, **fields):
        source = torch.Generator().manual_seed(1)
        images = torch.randint(0, 256, (200, 1, 8, 8), generator=source, dtype=torch.uint8)
        labels = torch.zeros(200, dtype=torch.int64)
        test_set = Dataset("noise", images, labels, images, labels, ("a", "b", "c", "d"), (0.5,), (0.25,))
        with torch.no_grad():
            labels = teacher(test_set.normalize(images)).argmax(1)
        test_set = Dataset("noise", images, labels, images, labels, ("a", "b", "c", "d"), (0.5,), (0.25,))
        networks = Trio(teacher, student, Reshape(), (1, 8, 8), None, None)
        networks.connectors.eval()
        return TrainedRun(
            **{
                "folder": tmp_path,
                "config": DistillSettings(),
                "method": "dfad",
                "seed": 0,
                "iteration": 2,
                "planned_iterations": 2,
                "networks": networks,
                "image_shape": (1, 8, 8),
                "mean": (0.5,),
                "std": (0.25,),
                "connectors_trained": False,
                "makes_images": True,
                "source": None,
                "latent_dim": 64,
                "batch_size": 16,
                "test_set": test_set,
                "no_test_set": "",
                **fields,
            }
        )

    return make
