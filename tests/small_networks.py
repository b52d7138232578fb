"""Small networks, and processes that have what a run needs imported already."""

from multiprocessing import get_context

from torch import nn


def make_net(width: int, classes: int = 4, batch_norm: bool = True) -> nn.Sequential:
    norm = nn.BatchNorm2d if batch_norm else lambda _: nn.Identity()
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        norm(width),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        norm(2 * width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2 * width, classes),
    )


def forking():
    """A multiprocessing context whose processes begin with what a run needs imported, which would take most of their
    time."""
    context = get_context("forkserver")
    context.set_forkserver_preload(
        ["dfad_fast.training.trainer", "matplotlib.figure", "jinja2", "PIL.Image", "torch._dynamo"]
    )
    return context
