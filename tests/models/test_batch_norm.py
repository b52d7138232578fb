import torch
from torch import nn

from dfad_fast.models.batch_norm import batch_norm_layers, record_statistics


def test_statistics_are_those_the_layer_would_normalise_by():
    layer = nn.BatchNorm2d(3, momentum=1.0)
    images = torch.randn(16, 3, 5, 5) * 2 + 1
    with record_statistics(nn.Sequential(layer)) as statistics:
        layer.eval()(images)
    (found,) = statistics
    torch.testing.assert_close(found.mean, images.mean((0, 2, 3)))
    torch.testing.assert_close(found.variance, images.var((0, 2, 3), correction=0))
    assert torch.equal(found.running_mean, torch.zeros(3))
    assert torch.equal(found.running_variance, torch.ones(3))
    assert not layer._forward_pre_hooks


def test_gradients_flow_to_the_images():
    images = torch.randn(4, 3, requires_grad=True)
    layer = nn.BatchNorm1d(3).eval()
    with record_statistics(layer) as statistics:
        layer(images)
    statistics[0].variance.sum().backward()
    assert images.grad.abs().sum() > 0


def test_layers_without_running_statistics_do_not_count():
    network = nn.Sequential(
        nn.BatchNorm2d(3), nn.BatchNorm2d(3, track_running_stats=False), nn.GroupNorm(1, 3)
    )
    assert batch_norm_layers(network) == [network[0]]
