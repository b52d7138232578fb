import pytest
import torch
from torch import nn

from dfad_fast.models import Ensemble
from dfad_fast.models.reading.attention import find_attention
from dfad_fast.models.reading.taps import Taps
from tests.small_networks import SmallViT, make_net

IMAGES = torch.randn(2, 1, 8, 8)


class TokenAttention(nn.Module):
    """In timm's form: it returns a tensor."""

    def __init__(self, width):
        super().__init__()
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        return self.proj(nn.functional.scaled_dot_product_attention(q, k, v))


class WrappedAttention(nn.Module):
    """In the form of transformers: one inside another, with a tuple."""

    def __init__(self, width):
        super().__init__()
        self.attention, self.output = TokenAttention(width), nn.Linear(width, width)

    def forward(self, x):
        return self.output(self.attention(x)), None


class Patches(nn.Module):
    """Patches of 2 pixels, ``attention`` on them, in the form that ``reshape`` makes of [B, 16, C]."""

    def __init__(self, attention, extra=0, reshape=lambda x: x):
        super().__init__()
        self.patches, self.attention = nn.Conv2d(1, 8, 2, stride=2), attention
        self.register_buffer("extra", torch.randn(1, extra, 8))
        self.reshape, self.head = reshape, nn.Linear(8, 4)

    def forward(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = self.reshape(torch.cat([self.extra.expand(len(x), -1, -1), tokens], 1))
        tokens = self.attention(tokens)
        tokens = tokens[0] if isinstance(tokens, tuple) else tokens
        return self.head(tokens).reshape(len(x), -1, 4).mean(1)


def paths(network):
    return [str(tap) for tap in find_attention(network.eval(), IMAGES)]


def test_the_attention_of_each_block_is_found_in_order():
    network = SmallViT(blocks=3)
    taps = find_attention(network.eval(), IMAGES)
    assert [str(tap) for tap in taps] == [f"blocks.{i}.attention" for i in range(3)]
    assert {tap.shape for tap in taps} == {(8, 4, 4)}
    outputs = []
    hook = network.blocks[1].attention.register_forward_hook(lambda _, __, output: outputs.append(output[0]))
    with Taps(network, taps).record() as features:
        network(IMAGES)
    hook.remove()
    assert torch.equal(features[1].flatten(2).transpose(1, 2), outputs[0][:, 1:])


@pytest.mark.parametrize("extra", [0, 1, 2, 5])
def test_tokens_in_front_that_stand_for_no_patch_are_left_out(extra):
    (tap,) = find_attention(Patches(TokenAttention(8), extra).eval(), IMAGES)
    assert (str(tap), tap.extra_tokens, tap.shape) == ("attention", extra, (8, 4, 4))


def test_of_attention_inside_attention_the_outer_one_counts():
    assert paths(Patches(WrappedAttention(8), 1)) == ["attention"]


def test_rows_and_columns_of_tokens_are_read_too():
    (tap,) = find_attention(
        Patches(TokenAttention(8), reshape=lambda x: x.unflatten(1, (4, 4))).eval(), IMAGES
    )
    assert (tap.channels_last, tap.shape) == (True, (8, 4, 4))


def test_all_members_of_an_ensemble_are_read():
    ensemble = Ensemble([SmallViT(blocks=1), SmallViT(blocks=2), make_net(2)])
    assert paths(ensemble) == [
        f"members.{path}.attention" for path in ("0.blocks.0", "1.blocks.0", "1.blocks.1")
    ]


@pytest.mark.parametrize(
    "network",
    [
        make_net(2),
        Patches(TokenAttention(8), reshape=lambda x: x.reshape(-1, 4, 8)),  # windows
        Patches(nn.Identity(), 1),
    ],
    ids=["convolutions", "windows", "no attention"],
)
def test_nothing_is_found_where_there_is_none(network):
    assert paths(network) == []
