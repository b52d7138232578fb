"""Teachers, students and generators, and the taps that read features from any nn.Module."""

from dfad_fast.models.ensemble import Ensemble
from dfad_fast.models.generators.conditional import ConditionalGenerator
from dfad_fast.models.generators.dcgan import DCGANGenerator
from dfad_fast.models.generators.decoded import DecodedGenerators
from dfad_fast.models.generators.dfad import DFADGenerator
from dfad_fast.models.generators.noisy import NoisyGenerator
from dfad_fast.models.generators.pixels import PixelGenerator
from dfad_fast.models.generators.relatives import DAFLGenerator, ZSKTGenerator
from dfad_fast.models.loading.programs import Program, is_program, load_program, runs_code
from dfad_fast.models.loading.weights import load_factory_network, load_weights
from dfad_fast.models.zoo.lenet import LeNet5
from dfad_fast.models.zoo.mobilenet import MobileNetV2
from dfad_fast.models.zoo.packages import create_packaged_network, has_weights, is_packaged
from dfad_fast.models.zoo.registry import NETWORKS, create_network
from dfad_fast.models.zoo.resnet import ResNet
from dfad_fast.models.zoo.vgg import VGG11
from dfad_fast.models.zoo.wide_resnet import WideResNet

__all__ = [
    "NETWORKS",
    "VGG11",
    "ConditionalGenerator",
    "DAFLGenerator",
    "DCGANGenerator",
    "DFADGenerator",
    "DecodedGenerators",
    "Ensemble",
    "LeNet5",
    "MobileNetV2",
    "NoisyGenerator",
    "PixelGenerator",
    "Program",
    "ResNet",
    "WideResNet",
    "ZSKTGenerator",
    "create_network",
    "create_packaged_network",
    "has_weights",
    "is_packaged",
    "is_program",
    "load_factory_network",
    "load_program",
    "load_weights",
    "runs_code",
]
