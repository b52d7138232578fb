"""Teachers, students and generators, and the taps that read features from any nn.Module."""

from dfad_fast.models.generator import DFADGenerator
from dfad_fast.models.lenet import LeNet5
from dfad_fast.models.loading import load_factory_network, load_weights
from dfad_fast.models.registry import NETWORKS, create_network
from dfad_fast.models.resnet import ResNet

__all__ = [
    "NETWORKS",
    "DFADGenerator",
    "LeNet5",
    "ResNet",
    "create_network",
    "load_factory_network",
    "load_weights",
]
