"""Where taps are found in well-known networks, so that a change of the rule is seen. Run by ``make test-networks``."""

import pytest
import torch

from dfad_fast.models.reading.attention import find_attention
from dfad_fast.models.reading.taps import Taps, find_taps

torchvision = pytest.importorskip(
    "torchvision", reason="needs torchvision: pip install 'dfad-fast[networks]'"
)
timm = pytest.importorskip("timm", reason="needs timm: pip install 'dfad-fast[networks]'")
transformers = pytest.importorskip(
    "transformers", reason="needs transformers: pip install 'dfad-fast[networks]'"
)

HF_STAGES = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1]}
HF_TOKENS = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32}
HF = {
    "ResNet": {**HF_STAGES, "embedding_size": 8},
    "RegNet": {**HF_STAGES, "embedding_size": 8, "groups_width": 8},
    "ConvNext": HF_STAGES,
    "PoolFormer": HF_STAGES,
    "MobileNetV2": {"image_size": 64, "depth_multiplier": 0.35},
    "Swin": {
        "image_size": 64,
        "embed_dim": 16,
        "depths": [1, 1, 2],
        "num_heads": [1, 2, 4],
        "window_size": 4,
    },
    "ViT": {**HF_TOKENS, "patch_size": 8, "intermediate_size": 64},
}

TABLE = {
    "torchvision:resnet18": (64, "relu#0 layer1.1.relu#1 layer2.1.relu#1 layer3.1.relu#1 layer4.1.relu#1"),
    "torchvision:vgg11_bn": (
        64,
        "features.2#0 features.6#0 features.13#0 features.20#0 features.27#0 classifier.4#0",
    ),
    "torchvision:googlenet": (64, "conv1#0 conv3#0 inception3b inception4e inception5b"),
    "torchvision:densenet121": (
        64,
        "features.relu0#0 features.transition1.relu#0 features.transition2.relu#0 "
        "features.transition3.relu#0 features",
    ),
    "torchvision:shufflenet_v2_x0_5": (64, "conv1.2#0 stage2.3 stage3.7 conv5.2#0"),
    "torchvision:mobilenet_v2": (64, "features.1 features.3 features.6 features.13 features.18.2#0"),
    "torchvision:mobilenet_v3_small": (
        64,
        "features.0.2#0 features.1 features.3 features.8 features.12.2#0 classifier.1#0",
    ),
    "torchvision:mnasnet0_5": (64, "layers.7 layers.8 layers.9 layers.11 layers.16#0"),
    "torchvision:squeezenet1_1": (64, "features.1#0 features.4 features.7 features.12"),
    "torchvision:regnet_y_400mf": (
        64,
        "stem.2#0 trunk_output.block1.block1-0.activation#0 "
        "trunk_output.block2.block2-2.activation#0 trunk_output.block3.block3-5.activation#0 "
        "trunk_output.block4.block4-5.activation#0",
    ),
    "torchvision:convnext_tiny": (64, "features.1 features.3 features.5 features"),
    "torchvision:swin_t": (64, "features.1 features.3 features.5 features"),
    "torchvision:inception_v3": (
        96,
        "Conv2d_1a_3x3#0 Conv2d_2b_3x3#0 Conv2d_3b_1x1#0 Conv2d_4a_3x3#0 Mixed_5d Mixed_6e Mixed_7c",
    ),
    "timm:resnetv2_50": (
        64,
        "stages.1.blocks.0.norm1.act#0 stages.2.blocks.0.norm1.act#0 "
        "stages.3.blocks.0.norm1.act#0 norm.act#0",
    ),
    "timm:regnetx_002": (64, "stem.bn.act#0 s1.b1.act3#0 s2.b1.act3#0 s3.b4.act3#0 s4.b7.act3#0"),
    "timm:regnety_002": (64, "stem.bn.act#0 s1.b1.act3#0 s2.b1.act3#0 s3.b4.act3#0 s4.b7.act3#0"),
    "timm:densenet121": (
        64,
        "features.norm0.act#0 features.transition1.norm.act#0 features.transition2.norm.act#0 "
        "features.transition3.norm.act#0 features.norm5.act#0",
    ),
    "timm:hrnet_w18_small": (
        64,
        "act1#0 incre_modules.0.0.act3#0 incre_modules.1.0.act3#0 incre_modules.2.0.act3#0 final_layer.2#0",
    ),
    "timm:efficientnet_b0": (64, "blocks.0 blocks.1 blocks.2 blocks.4 bn2.act#0"),
    "timm:mobilenetv4_conv_small_035": (
        64,
        "bn1.act#0 blocks.0.1.bn1.act#0 blocks.1.1.bn1.act#0 blocks.2 blocks.4.0.bn1.act#0 norm_head.act#0",
    ),
    "timm:ghostnet_050": (64, "blocks.0 blocks.2 blocks.4 blocks.6 blocks.9.0.bn1.act#0 act2#0"),
    "timm:repvgg_a0": (
        64,
        "stem.act#0 stages.0.1.act#0 stages.1.3.act#0 stages.2.13.act#0 stages.3.0.act#0",
    ),
    "timm:dla46_c": (
        64,
        "level0.2#0 level1.2#0 level2.root.relu#0 level3.tree2.root.relu#0 "
        "level4.tree2.root.relu#0 level5.root.relu#0",
    ),
    "timm:poolformer_s12": (64, "stages.0 stages.1 stages.2 stages"),
    "timm:mobilevit_xxs": (
        64,
        "stages.0 stages.1 stages.2.1.conv_fusion.bn.act#0 stages.3.1.conv_fusion.bn.act#0 "
        "final_conv.bn.act#0",
    ),
    "timm:edgenext_xx_small": (64, "stages.0 stages.1 stages.2 stages"),
    "timm:seresnet18": (64, "act1#0 layer1.1.act2#0 layer2.1.act2#0 layer3.1.act2#0 layer4.1.act2#0"),
    "timm:levit_128s": (224, "stem.act1#0 stem.act2#0 stem.act3#0 stages.0 stages.1 stages"),
    "timm:deit_tiny_patch16_224": (224, "blocks"),
    "timm:mixer_s32_224": (224, "blocks"),
    "timm:resmlp_12_224": (224, "blocks"),
    "hf:ResNet": (
        64,
        "resnet.embedder.embedder.activation#0 resnet.encoder.stages.0.layers.0.activation#0 "
        "resnet.encoder.stages.1.layers.0.activation#0 "
        "resnet.encoder.stages.2.layers.1.activation#0 "
        "resnet.encoder.stages.3.layers.0.activation#0",
    ),
    "hf:RegNet": (
        64,
        "regnet.embedder.embedder.activation#0 regnet.encoder.stages.0.layers.0.activation#0 "
        "regnet.encoder.stages.1.layers.0.activation#0 "
        "regnet.encoder.stages.2.layers.1.activation#0 "
        "regnet.encoder.stages.3.layers.0.activation#0",
    ),
    "hf:ConvNext": (
        64,
        "convnext.encoder.stages.0 convnext.encoder.stages.1 convnext.encoder.stages.2 convnext",
    ),
    "hf:PoolFormer": (
        64,
        "poolformer.encoder.block.0.0 poolformer.encoder.block.1.0 poolformer.encoder.block.2.1 poolformer",
    ),
    "hf:MobileNetV2": (
        64,
        "mobilenet_v2.conv_stem mobilenet_v2.layer.1 mobilenet_v2.layer.4 "
        "mobilenet_v2.layer.11 mobilenet_v2.conv_1x1.activation#0",
    ),
    "hf:Swin": (64, "swin.encoder.layers.0.blocks.0 swin.encoder.layers.1.blocks.0 swin"),
    "hf:ViT": (32, "vit"),
}


def build(name):
    """The network ``LIBRARY:NAME`` with random weights, in eval mode."""
    library, _, kind = name.partition(":")
    if library == "timm":
        return timm.create_model(kind, pretrained=False).eval()
    if library == "hf":
        config = getattr(transformers, f"{kind}Config")(**HF[kind])
        return getattr(transformers, f"{kind}ForImageClassification")(config).eval()
    without_init = {"init_weights": False} if kind in ("googlenet", "inception_v3") else {}
    return torchvision.models.get_model(kind, weights=None, **without_init).eval()


@pytest.mark.parametrize("name", TABLE)
def test_taps_are_the_ends_of_the_stages(name):
    side, expected = TABLE[name]
    network, images = build(name), torch.randn(2, 3, side, side)
    taps = find_taps(network, images)
    assert " ".join(map(str, taps)) == expected
    with torch.no_grad(), Taps(network, taps).record() as features:
        network(images)
    assert [feature.shape for feature in features] == [(2, *tap.shape) for tap in taps]
    assert all(feature.isfinite().all() for feature in features)


@pytest.mark.parametrize(
    ("name", "side", "count", "first", "shape"),
    [
        ("timm:deit_tiny_distilled_patch16_224", 224, 12, "blocks.0.attn", (192, 14, 14)),
        ("torchvision:vit_b_16", 224, 12, "encoder.layers.encoder_layer_0.self_attention", (768, 14, 14)),
        ("torchvision:swin_t", 64, 12, "features.1.0.attn", (96, 16, 16)),
        ("hf:ViT", 32, 2, "vit.layers.0.attention", (32, 4, 4)),
        ("torchvision:resnet18", 64, 0, None, None),
    ],
)
def test_attention_is_found_where_it_gives_the_images_tokens(name, side, count, first, shape):
    found = find_attention(build(name), torch.randn(2, 3, side, side))
    assert len(found) == count
    if found:
        assert (str(found[0]), found[0].shape) == (first, shape)


def test_auxiliary_heads_do_not_disturb_a_students_taps():
    network, images = build("torchvision:googlenet"), torch.randn(2, 3, 64, 64)
    taps = find_taps(network, images)
    network.train()
    with torch.no_grad(), Taps(network, taps).record() as features:
        answer = network(images)
    assert isinstance(answer.aux_logits1, torch.Tensor)
    assert [feature.shape for feature in features] == [(2, *tap.shape) for tap in taps]
