import torch
from torch import nn

from dfad_fast.models.reading.batch_norm import batch_norm_layers, record_statistics
from dfad_fast.models.surgery.folding import fold_batch_norm


def test_statistics_are_those_the_layer_would_normalize_by():
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


def test_the_means_of_each_image_are_recorded_where_they_are_asked_for():
    network = nn.Sequential(
        nn.BatchNorm2d(3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(3)
    ).eval()
    images = torch.randn(4, 3, 5, 5)
    with record_statistics(network, instances=True) as statistics:
        network(images)
    torch.testing.assert_close(statistics[0].instance_means, images.mean((2, 3)))
    torch.testing.assert_close(statistics[1].instance_means, network[:3](images))
    with record_statistics(network) as statistics:
        network(images)
    assert statistics[0].instance_means is None


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


class CalledByKeyword(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x):
        return self.norm(input=self.conv(x)).mean((2, 3))


def test_a_layer_called_by_keyword_is_read_and_folded():
    network, images = CalledByKeyword().eval(), torch.randn(8, 3, 5, 5)
    with record_statistics(network) as statistics:
        network(images)
    torch.testing.assert_close(statistics[0].mean, network.conv(images).mean((0, 2, 3)))
    folded = fold_batch_norm(network, images)
    assert (folded.folded, folded.kept) == (1, 0)
    torch.testing.assert_close(folded.network(images), network(images))


class Frozen(nn.Module):
    """Batch norm with statistics for buffers, as torchvision's FrozenBatchNorm2d."""

    def __init__(self, channels):
        super().__init__()
        self.register_buffer("running_mean", torch.randn(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x):
        return x - self.running_mean[:, None, None]


class Activated(nn.BatchNorm2d):
    """Norm and activation in one, as timm's BatchNormAct2d."""

    def forward(self, x):
        return super().forward(x).relu()


def test_layers_are_known_by_their_running_statistics_whatever_their_class():
    layers = [Frozen(3), Activated(3), nn.SyncBatchNorm(3)]
    network = nn.Sequential(*layers, nn.InstanceNorm2d(3, track_running_stats=True))
    assert batch_norm_layers(network) == layers
    with record_statistics(network[:2]) as statistics:
        network[:2].eval()(torch.randn(2, 3, 4, 4))
    assert statistics[0].running_mean is layers[0].running_mean
    assert statistics[1].mean.abs().sum() > 0
