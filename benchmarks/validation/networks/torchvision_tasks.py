"""Networks of torchvision for segmentation, detection, video and optical flow."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.validation.networks.network import CLASSES, Network, narrow, noise, pictures
from benchmarks.validation.networks.torchvision import MODELS, SMALL, thin
from mipp.inputs import Inputs


class Heads(nn.Module):
    """A detector up to what its heads say of each place; boxes are not decoded."""

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.backbone, self.head = detector.backbone, detector.head

    def forward(self, images: Tensor) -> Any:
        return self.head(list(self.backbone(images).values()))


class Rois(nn.Module):
    """A two-stage detector whose regions are the whole maps: backbone, proposals, box heads."""

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.backbone, self.proposals = detector.backbone, detector.rpn.head
        heads = detector.roi_heads
        self.heads = nn.ModuleDict()
        for kind in ("box", "mask", "keypoint"):
            if getattr(heads, f"{kind}_head", None) is not None:
                parts = getattr(heads, f"{kind}_head"), getattr(heads, f"{kind}_predictor")
                self.heads[kind] = nn.Sequential(*parts)
        self.pool = nn.AdaptiveAvgPool2d(7)

    def forward(self, images: Tensor) -> Any:
        maps = list(self.backbone(images).values())
        regions = torch.stack([self.pool(level) for level in maps]).sum(0)
        return self.proposals(maps), [head(regions) for head in self.heads.values()]


# name -> pixels, and the numbers of channels that its heads must keep
DETECTORS: Mapping[str, tuple[int, tuple[int, ...]]] = {
    "fasterrcnn_mobilenet_v3_large_320_fpn": (64, ()),
    "fasterrcnn_mobilenet_v3_large_fpn": (64, ()),
    "fasterrcnn_resnet50_fpn": (64, ()),
    "fasterrcnn_resnet50_fpn_v2": (64, ()),
    "fcos_resnet50_fpn": (192, (4,)),  # a single place cannot be normalised
    "keypointrcnn_resnet50_fpn": (64, ()),
    "maskrcnn_resnet50_fpn": (64, ()),
    "maskrcnn_resnet50_fpn_v2": (64, ()),
    "retinanet_resnet50_fpn": (64, (36, 90)),
    "retinanet_resnet50_fpn_v2": (64, (36, 90)),
}


def _detector(name: str) -> Network:
    pixels, keep = DETECTORS[name]

    def build() -> nn.Module:
        model = MODELS.get_model(name, weights=None, weights_backbone=None, num_classes=CLASSES)
        return (Rois if hasattr(model, "roi_heads") else Heads)(model)

    regions = "rcnn" in name
    what = "regions are whole maps" if regions else "boxes are not decoded"
    return thin(8 if "mobilenet" in name else 32, build, pictures(pixels), keep, f"; {what}")


def _ssd() -> nn.Module:
    ssd = MODELS.detection.ssd
    with narrow(8):
        backbone = ssd._vgg_extractor(MODELS.vgg16(num_classes=CLASSES), False, 5)
    few = backbone.scale_weight[::8]  # which does not go by a layer
    backbone.scale_weight = nn.Parameter(few.detach())
    detector = nn.Module()
    detector.backbone = backbone
    detector.head = ssd.SSDHead([64, 128, 64, 32, 32, 32], [4, 6, 6, 6, 4, 4], CLASSES)
    return Heads(detector)


def _ssdlite() -> nn.Module:
    lite = MODELS.detection.ssdlite
    norm = functools.partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)
    with narrow(4):
        trunk = MODELS.mobilenet_v3_large(norm_layer=norm, num_classes=CLASSES, reduced_tail=True)
    trunk.features[16].out_channels = trunk.features[16][0].out_channels
    for block in trunk.features[1:-1]:
        block.out_channels = block.block[-1][0].out_channels
    backbone = lite.SSDLiteFeatureExtractorMobileNet(trunk.features, 13, norm, width_mult=0.25)
    widths = MODELS.detection._utils.retrieve_out_channels(backbone, (320, 320))
    detector = nn.Module()
    detector.backbone = backbone
    detector.head = lite.SSDLiteHead(widths, [6] * len(widths), CLASSES, norm)
    return Heads(detector)


def _segmentation(name: str) -> Network:
    return thin(
        8 if "mobilenet" in name else 32,
        lambda: MODELS.get_model(
            name, weights=None, weights_backbone=None, num_classes=CLASSES, aux_loss=None
        ),
        pictures(64),
    )


def _convolutional_video(name: str) -> Network:
    def build() -> nn.Module:
        model = MODELS.get_model(name, num_classes=CLASSES)
        model.avgpool = nn.AdaptiveAvgPool3d(1)
        return model

    frames, pixels = (16, 64) if name == "s3d" else (4, 32)
    return thin(16, build, noise(3, frames, pixels, pixels))


def _mvit(name: str) -> Network:
    second = name.startswith("mvit_v2")
    config = MODELS.video.mvit.MSBlockConfig

    def build() -> nn.Module:
        blocks = [
            config(heads, inputs, outputs, [3, 3, 3], [3, 3, 3], [1, stride, stride], [1, 2, 2])
            for heads, inputs, outputs, stride in (
                (1, 16, 16, 1),
                *((2, 16, 32, 2), (2, 32, 32, 1)),
                *((4, 32, 64, 2), (4, 64, 64, 1)),
            )
        ]
        if not second:  # which widens at the end of a block, not in its attention
            widths = [config.output_channels for config in blocks]
            for block, before, after in zip(blocks, widths, [*widths[1:], 64], strict=True):
                block.input_channels, block.output_channels = before, after
        model: nn.Module = MODELS.video.mvit.MViT(
            (32, 32),
            4,
            blocks,
            residual_pool=second,
            residual_with_cls_embed=not second,
            rel_pos_embed=second,
            proj_after_attn=second,
            num_classes=CLASSES,
        )
        return model

    return Network(build, noise(3, 4, 32, 32), SMALL)


def _swin3d(name: str) -> Network:
    first = 4 if name.endswith("b") else 3

    def build() -> nn.Module:
        model: nn.Module = MODELS.video.swin_transformer.SwinTransformer3d(
            [2, 4, 4],
            8 * first,
            [2, 2, 2 if name.endswith("t") else 4],
            [first, 2 * first, 4 * first],
            [2, 4, 4],
            num_classes=CLASSES,
        )
        return model

    return Network(build, noise(3, 4, 32, 32), SMALL)


class Flow(nn.Module):
    """RAFT with two steps in place of twelve."""

    def __init__(self, raft: nn.Module) -> None:
        super().__init__()
        self.raft = raft

    def forward(self, first: Tensor, second: Tensor) -> Any:
        return self.raft(first, second, num_flow_updates=2)


def _raft(name: str) -> Network:
    large = name.endswith("large")
    raft = MODELS.optical_flow.raft

    def build() -> nn.Module:
        return Flow(
            raft._raft(
                feature_encoder_layers=(8, 8, 12, 16, 32),
                feature_encoder_block=raft.ResidualBlock if large else raft.BottleneckBlock,
                feature_encoder_norm_layer=nn.InstanceNorm2d,
                context_encoder_layers=(8, 8, 12, 16, 40),
                context_encoder_block=raft.ResidualBlock if large else raft.BottleneckBlock,
                context_encoder_norm_layer=nn.BatchNorm2d if large else None,
                corr_block_num_levels=4,
                corr_block_radius=3,
                motion_encoder_corr_layers=(24, 16) if large else (24,),
                motion_encoder_flow_layers=(16, 8),
                motion_encoder_out_channels=22,
                recurrent_block_hidden_state_size=24,
                recurrent_block_kernel_size=((1, 5), (5, 1)) if large else (3,),
                recurrent_block_padding=((0, 2), (2, 0)) if large else (1,),
                flow_head_hidden_size=32,
                use_mask_predictor=large,
                weights=None,
                progress=False,
            )
        )

    def draw(n: int) -> Inputs:
        return tuple(noise(6, 128, 128)(n).split(3, 1))

    return Network(build, draw, "1/4 of the channels or less, two steps")


def networks() -> dict[str, Network]:
    """All of them, by their name there."""
    names = MODELS.list_models(module=MODELS.segmentation)
    found = {name: _segmentation(name) for name in names}
    for name in DETECTORS:
        found[name] = _detector(name)
    found["ssd300_vgg16"] = Network(
        _ssd, pictures(300), "1/8 of the channels; boxes are not decoded", 8
    )
    found["ssdlite320_mobilenet_v3_large"] = Network(
        _ssdlite, pictures(320), "1/4 of the channels; boxes are not decoded", 4
    )
    for name in MODELS.list_models(module=MODELS.video):
        family = name.partition("_")[0]
        by_family = {"mvit": _mvit, "swin3d": _swin3d}
        found[name] = by_family.get(family, _convolutional_video)(name)
    for name in MODELS.list_models(module=MODELS.optical_flow):
        found[name] = _raft(name)
    return found
