"""Finds a network's memory layout: channels_last is faster, but some networks fail or answer wrongly in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace

import torch
from torch import Tensor, nn

from dfad_fast.errors import UsageError, in_one_line
from dfad_fast.models.reading.answers import find_logits
from dfad_fast.models.reading.check import left_as_it_was, noise_images
from dfad_fast.models.surgery.adapting import Needs, adapted
from dfad_fast.precision import tolerance

# The number of images on which both layouts' answers and gradients are compared.
_COMPARED = 8
_FEWEST = 2
# Relative. If rounding flips one rectifier, all gradients behind it change a little.
_GRADIENTS_APART = 0.05


def fitted(
    network: nn.Module,
    image_shape: tuple[int, int, int],
    what: str,
    batch_size: int = 2,
    trained: bool = False,
    kernels: Callable[[nn.Module], AbstractContextManager[None]] = lambda _: nullcontext(),
) -> tuple[nn.Module, Needs]:
    """``network`` in a form that steps can call, and its needs; its weights are in channels_last if it supports that.

    It does if its answers equal those in the default layout, forward and backward, on a few images, and if it takes a
    whole batch too. Otherwise, whatever it raises, weights and images get the default layout.

    Args:
        network: the network, whose weights change their layout in place.
        image_shape: (C, H, W).
        what: the network's name in errors.
        batch_size: images of a batch.
        trained: whether it also runs in train mode.
        kernels: within it, the convolutions run as in steps.

    Raises:
        UsageError: it can take the images in neither layout, or is trained but no gradient reaches its parameters.
    """
    try:
        needs = _needs(network, image_shape, min(batch_size, _FEWEST), trained)
        usual = adapted(network, replace(needs, contiguous=True))
        images = noise_images(network, image_shape, min(batch_size, _COMPARED))
        many = noise_images(network, image_shape, batch_size)
        if _takes_channels_last(network, needs, _answers(usual, images), (images, many), trained, kernels):
            return adapted(network, needs), needs
        learns = _run(usual, many, trained)
    except Exception as error:  # user code may raise anything
        raise UsageError(
            f"the {what} cannot take a batch of {batch_size} images {list(image_shape)}: {in_one_line(error)}: use "
            "an image shape and batch size that it supports, or wrap it in a module that prepares the images for it"
        ) from error
    if trained and not learns:
        raise UsageError(
            f"no gradient reaches the {what}'s parameters, so it would learn nothing: let its answer carry a gradient, "
            "without detach(), torch.no_grad() or quantized layers"
        )
    return usual, replace(needs, contiguous=True)


def _takes_channels_last(
    network: nn.Module,
    needs: Needs,
    expected: list[Tensor],
    images: tuple[Tensor, Tensor],
    trained: bool,
    kernels: Callable[[nn.Module], AbstractContextManager[None]],
) -> bool:
    """Whether it does; if so, its weights are left in channels_last, otherwise unchanged.

    ``expected`` are its answers to the first of ``images`` in the default layout.
    """
    weights = [(p, p.data) for p in network.parameters() if p.dim() == 4]
    few, many = (x.contiguous(memory_format=torch.channels_last) for x in images)
    here = adapted(network, needs)
    try:
        network.to(memory_format=torch.channels_last)
        with kernels(here):
            if _agree(_answers(here, few), expected) and (_run(here, many, trained) or not trained):
                return True
    except Exception:  # user code may raise anything in this layout
        pass
    network.to(memory_format=torch.contiguous_format)
    for parameter, data in weights:
        # With one channel, converting back cannot distinguish the layouts.
        parameter.data = data
    return False


def _needs(network: nn.Module, image_shape: tuple[int, int, int], count: int, trained: bool) -> Needs:
    images = noise_images(network, image_shape, count)
    shown = images.clone()
    logits = False
    with left_as_it_was(network), torch.no_grad(), _seeded(images):
        for mode in (True, False) if trained else (False,):
            answer = network.train(mode)(shown)
            logits |= find_logits(answer, count) is not answer
    return Needs(own_images=not torch.equal(shown, images), logits=logits)


def _answers(network: nn.Module, images: Tensor) -> list[Tensor]:
    """The answer in eval mode, and the images' gradient of a sum of it, if there is one."""
    images = images.detach().requires_grad_()
    with left_as_it_was(network), torch.enable_grad(), _seeded(images):
        answer = network.eval()(images)
        if not answer.requires_grad:
            return [answer]
        # A plain sum of probabilities would be constant.
        weights = torch.linspace(-1.0, 2.0, answer.shape[1], device=answer.device, dtype=answer.dtype)
        (gradient,) = torch.autograd.grad((answer * weights).sum(), images, allow_unused=True)
    return [answer.detach()] if gradient is None else [answer.detach(), gradient]


def _run(network: nn.Module, images: Tensor, trained: bool) -> bool:
    """A forward pass as in a step, and a backward pass for a network that is trained.

    Returns whether a gradient reached a parameter.
    """
    with left_as_it_was(network), torch.set_grad_enabled(trained), _seeded(images):
        answer = network.train(trained)(images)
        parameters = [p for p in network.parameters() if p.requires_grad]
        if not (trained and answer.requires_grad and parameters):
            return False
        gradients = torch.autograd.grad(answer.sum(), parameters, allow_unused=True)
    return any(gradient is not None for gradient in gradients)


def _agree(found: list[Tensor], expected: list[Tensor]) -> bool:
    if len(found) != len(expected):
        return False
    allowed = (tolerance(expected[0]), _GRADIENTS_APART)
    return all(
        bool((a - b).abs().sum() <= most * b.abs().sum())
        for a, b, most in zip(found, expected, allowed, strict=False)
    )


@contextmanager
def _seeded(images: Tensor) -> Iterator[None]:
    """Gives a network the same random numbers each time; restores torch's random state afterwards."""
    with torch.random.fork_rng(devices=[images.device] if images.device.type == "cuda" else []):
        torch.manual_seed(0)
        yield
