"""Networks of timm, one or two of a family, each small."""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from torch import nn

from benchmarks.validation.networks.network import CLASSES, Network, narrowed, pictures


@dataclass(frozen=True)
class Row:
    """How much narrower a network is, and what its class is told in place of its own values."""

    narrow: int = 1
    pixels: int = 64
    told: Mapping[str, Any] = field(default_factory=dict)
    deep: bool = False  # where blocks are equal but not exchangeable


def _told(pixels: int = 64, **told: Any) -> Row:
    return Row(1, pixels, told)


WIDTHS = {"depths": (1, 1, 2, 1), "dims": (8, 16, 24, 32)}
RESNET = {"layers": (1, 1, 2, 1), "channels": (16, 24, 32, 48), "stem_width": 8}
EIGHT_HEADS = {"embed_dim": 64, "depth": 2, "num_heads": 8}
VIT = {"embed_dim": 32, "depth": 2, "num_heads": 4}
# Convolutional families by narrowing, others by what they can be told. Where a head is a unit of
# the stream, there are as many heads as published: of fewer, one is a larger share.
ROWS: Mapping[str, Row] = {
    "beit_base_patch16_224": _told(img_size=64, **EIGHT_HEADS),
    "cait_xxs24_224": _told(img_size=64, **EIGHT_HEADS),
    "coat_tiny": _told(
        img_size=64, embed_dims=(16, 16, 16, 16), serial_depths=(1, 1, 1, 1), parallel_depth=1
    ),
    "coatnet_pico_rw_224": _told(
        img_size=64,
        stem_width=(8, 16),
        embed_dim=(16, 32, 48, 64),
        depths=(1, 1, 2, 1),
        transformer_dim_head=8,
    ),
    "convit_tiny": _told(img_size=64, embed_dim=32, num_heads=4, depth=3, local_up_to_layer=2),
    "convmixer_768_32": _told(dim=32, depth=4),
    "convnext_atto": _told(**WIDTHS),
    "convnextv2_atto": _told(**WIDTHS),
    "crossvit_tiny_240": _told(240, depth=([1, 2, 0],)),
    "cs3darknet_s": Row(),
    "cspresnet50": Row(),
    "darknet53": Row(8),
    "davit_tiny": _told(depths=(1, 1, 1, 1), embed_dims=(24, 48, 96, 192)),
    "deit3_small_patch16_224": _told(img_size=64, **VIT),
    "densenet121": Row(8),
    "dla34": Row(8),
    "dpn48b": _told(
        k_sec=(1, 1, 2, 1), inc_sec=(4, 8, 8, 8), k_r=16, groups=4, num_init_features=8
    ),
    "edgenext_xx_small": _told(depths=(1, 1, 2, 1), dims=(16, 24, 32, 40)),
    "efficientformer_l1": _told(224, depths=(1, 1, 1, 2), embed_dims=(16, 24, 32, 48)),
    "efficientformerv2_s0": _told(img_size=64, depths=(1, 1, 2, 2), embed_dims=(16, 24, 32, 48)),
    "efficientnet_b0": Row(8),
    "efficientnetv2_rw_t": Row(8),
    "efficientvit_b0": _told(head_widths=(64, 64)),
    "eva02_tiny_patch14_224": _told(56, img_size=56, depth=2),
    "fasternet_t0": _told(depths=(1, 1, 2, 1)),
    "fastvit_t8": _told(layers=(1, 1, 2, 1), embed_dims=(16, 32, 64, 128)),
    "focalnet_tiny_srf": _told(embed_dim=16, depths=(1, 1, 2, 1)),
    "gcvit_xxtiny": _told(224, depths=(1, 1, 2, 1), embed_dim=16),
    "gernet_s": Row(8),
    "ghostnet_100": Row(4),
    "gmlp_ti16_224": _told(img_size=64, embed_dim=32, num_blocks=3),
    "hardcorenas_a": Row(8),
    "hgnetv2_b0": Row(8, deep=True),
    "hiera_tiny_224": _told(img_size=(64, 64), embed_dim=24, stages=(1, 1, 2, 1)),
    "hrnet_w18_small": Row(8, deep=True),
    "inception_next_atto": _told(depths=(1, 1, 2, 1), dims=(16, 32, 48, 64)),
    "inception_resnet_v2": Row(8, 96),
    "levit_128s": _told(img_size=64, embed_dim=(32, 48, 64), key_dim=8, depth=(1, 1, 1)),
    "mambaout_femto": _told(depths=(1, 1, 2, 1), dims=(16, 24, 32, 48)),
    "maxvit_rmlp_pico_rw_256": _told(
        img_size=64,
        stem_width=(8, 16),
        embed_dim=(16, 32, 48, 64),
        depths=(1, 1, 1, 1),
        transformer_dim_head=8,
    ),
    "mixer_s32_224": _told(64, img_size=64, embed_dim=32, num_blocks=3),
    "mobilenetv3_small_100": Row(8),
    "mobilenetv4_conv_small": Row(8),
    "mobilevit_xxs": Row(),
    "mvitv2_tiny": Row(),
    "nest_tiny": _told(img_size=64, embed_dims=(24, 48, 96), depths=(1, 1, 2), num_levels=3),
    "nfnet_l0": Row(8),
    "pit_ti_224": _told(img_size=64, base_dims=(8, 8, 8), depth=(1, 1, 1), heads=(2, 4, 8)),
    "poolformer_s12": _told(depths=(1, 1, 2, 1), dims=(16, 24, 32, 48)),
    "caformer_s18": _told(depths=(1, 1, 2, 1), dims=(16, 32, 64, 96)),
    "pvt_v2_b0": _told(depths=(1, 1, 1, 1), embed_dims=(16, 32, 80, 128)),
    "rdnet_tiny": _told(
        growth_rates=(8, 8, 16),
        num_blocks_list=(2, 2, 2),
        is_downsample_block=(None, True, True),
        block_type=("Block", "Block", "BlockESE"),
        num_init_features=16,
    ),
    "regnety_004": Row(8),
    "regnetz_b16": Row(8),
    "repghostnet_050": Row(2),
    "repvgg_a0": Row(8),
    "repvit_m0_9": _told(embed_dim=(16, 24, 32, 48), depth=(1, 1, 2, 1)),
    "res2net50_26w_4s": _told(**RESNET),
    "resmlp_12_224": _told(img_size=64, embed_dim=32, num_blocks=3),
    "resnest14d": Row(8),
    "resnet18": Row(8),
    "resnet50d": Row(8),
    "resnetblur50": _told(**RESNET),
    "resnetv2_50": Row(8),
    "resnetv2_50x1_bit": Row(8),
    "resnext50_32x4d": Row(8),
    "rexnet_100": _told(initial_chs=8, final_chs=48, width_mult=0.5),
    "selecsls42": Row(8),
    "sequencer2d_s": _told(
        img_size=64, layers=(1, 1, 2, 1), embed_dims=(48, 96, 96, 96), hidden_sizes=(12, 24, 24, 24)
    ),
    "seresnet50": Row(8),
    "shvit_s1": _told(depth=(1, 2, 2), embed_dim=(32, 64, 96), partial_dim=(8, 16, 24)),
    "skresnet18": _told(**RESNET),
    "starnet_s1": _told(depths=(1, 1, 2, 1), base_dim=16),
    "swiftformer_xs": _told(layers=(1, 1, 2, 1), embed_dims=(16, 24, 32, 48)),
    "swin_tiny_patch4_window7_224": _told(
        img_size=64, window_size=4, embed_dim=24, depths=(1, 1, 2, 1), num_heads=(3, 6, 12, 24)
    ),
    "swinv2_tiny_window8_256": _told(
        img_size=64, window_size=4, embed_dim=24, depths=(1, 1, 2, 1), num_heads=(3, 6, 12, 24)
    ),
    "swinv2_cr_tiny_224": _told(
        img_size=64, window_size=4, embed_dim=24, depths=(1, 1, 2, 1), num_heads=(3, 6, 12, 24)
    ),
    "tiny_vit_5m_224": _told(
        embed_dims=(16, 32, 48, 64),
        depths=(1, 1, 2, 1),
        num_heads=(1, 2, 3, 4),
        window_sizes=(4, 4, 4, 2),
    ),
    "tinynet_e": Row(2),
    "tnt_s_patch16_224": _told(
        img_size=64, embed_dim=32, inner_dim=8, depth=2, num_heads_outer=4, num_heads_inner=2
    ),
    "twins_pcpvt_small": _told(img_size=64, embed_dims=(32, 64, 160, 256), depths=(1, 1, 2, 1)),
    "twins_svt_small": _told(img_size=64, embed_dims=(16, 32, 64, 128), depths=(1, 2, 2, 1)),
    "visformer_tiny": _told(
        img_size=64, embed_dim=48, init_channels=16, depth=(2, 1, 1), num_heads=3
    ),
    "vit_base_patch16_siglip_224": _told(img_size=64, embed_dim=96, depth=2),
    "vit_medium_patch16_reg4_gap_256": _told(img_size=64, **VIT),
    "vit_relpos_small_patch16_224": _told(img_size=64, embed_dim=48, depth=2),
    "vit_small_patch14_dinov2": _told(56, img_size=56, **VIT),
    "vit_small_patch16_dinov3": _told(img_size=64, **EIGHT_HEADS),
    "vit_tiny_patch16_224": _told(img_size=64, **VIT),
    "vit_tiny_r_s16_p8_224": _told(img_size=64, depth=2),
    "volo_d1_224": _told(
        img_size=64, layers=(1, 1, 1, 1), embed_dims=(16, 32, 32, 32), num_heads=(2, 4, 4, 4)
    ),
    "ese_vovnet19b_dw": Row(8, deep=True),
    "xception41": Row(8),
    "xcit_nano_12_p16_224": _told(img_size=64, embed_dim=32, depth=2, num_heads=4),
}


def _configured() -> dict[str, Mapping[str, Any]]:
    """What a network is told where that is an object of timm's."""
    from timm.models import cspnet, mvitv2

    def narrower(name: str) -> Mapping[str, Any]:
        known = cspnet.model_cfgs[name]
        stages = dataclasses.replace(known.stages, depth=(1, 1, 2, 1), out_chs=(16, 24, 32, 48))
        stem = dataclasses.replace(known.stem, out_chs=8)
        return {"model_cfg": dataclasses.replace(known, stem=stem, stages=stages)}

    small = mvitv2.MultiScaleVitCfg(depths=(1, 1, 2, 1), embed_dim=16, num_heads=1)
    return {
        "mvitv2_tiny": {"model_cfg": small, "img_size": (64, 64)},
        **{name: narrower(name) for name in ("cs3darknet_s", "cspresnet50")},
    }


CONFIGURED = dict.fromkeys(
    ("cs3darknet_s", "cspresnet50", "mvitv2_tiny"), "fewer blocks, 1/8 of the channels"
)


def _create(name: str, told: Mapping[str, Any]) -> nn.Module:
    import mipp.vision  # noqa: F401, I001 - timm imports torchvision, which may need its help
    import timm

    told = told or _configured().get(name, {})
    module = sys.modules[timm.model_entrypoint(name).__module__]
    build = module.build_model_with_cfg

    def override(*given: Any, **options: Any) -> nn.Module:
        return build(*given, **{**options, **told})

    with mock.patch.object(module, "build_model_with_cfg", override):
        model: nn.Module = timm.create_model(name, num_classes=CLASSES)
    return model


def networks() -> dict[str, Network]:
    """All of them, by their name in timm."""
    found = {}
    for name, row in ROWS.items():
        parts = [CONFIGURED[name]] if name in CONFIGURED else []
        thin = f"1/{row.narrow} of the channels{'' if row.deep else ', one of equal blocks'}"
        parts += [thin] if row.narrow > 1 else []
        parts += [f"{word}={value}" for word, value in row.told.items()]
        build = functools.partial(_create, name, row.told)
        narrower = narrowed(row.narrow, build, deep=row.deep) if row.narrow > 1 else build
        found[name] = Network(narrower, pictures(row.pixels), ", ".join(parts), row.narrow)
    return found
