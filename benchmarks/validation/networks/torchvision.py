"""Networks of torchvision: those that classify; `torchvision_tasks` has the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from benchmarks.validation.networks.network import (
    CLASSES,
    Network,
    narrowed,
    pictures,
)
from mipp.inputs import Inputs
from mipp.models.torchvision_models import torchvision_names
from mipp.vision import torchvision

MODELS = torchvision.models
SMALL = "fewer blocks, 1/4 of the channels or less"
PIXELS = {"alexnet": 64, "inception_v3": 96}  # 32 elsewhere
TWO_OUTPUTS = ("googlenet", "inception_v3")  # of which one is for training alone


def thin(
    by: int,
    build: Callable[[], nn.Module],
    inputs: Callable[[int], Inputs],
    keep: tuple[int, ...] = (),
    also: str = "",
) -> Network:
    """A network that is narrower and has one of every run of equal blocks."""
    made = f"1/{by} of the channels, one of equal blocks{also}"
    return Network(narrowed(by, build, keep), inputs, made, by)


def classifier(name: str) -> Network:
    """One of the networks that `torchvision.models.list_models` gives."""
    family = name.partition("_")[0]
    if family in BUILDERS:
        return BUILDERS[family](name)
    options = {"aux_logits": False, "init_weights": False} if name in TWO_OUTPUTS else {}
    by = next((by for start, by in FACTORS.items() if name.startswith(start)), 32)
    return thin(
        by,
        lambda: MODELS.get_model(name, num_classes=CLASSES, **options),
        pictures(PIXELS.get(name, 32)),
    )


THIN_REGNETS = tuple(f"regnet_{kind}_{size}" for kind in "xy" for size in ("400", "800", "1_6"))
# How much narrower those are that have few channels.
FACTORS = {"shufflenet": 2, "efficientnet_b": 16, "efficientnet_v2": 16} | dict.fromkeys(
    ("googlenet", "mnasnet", "mobilenet", "squeezenet", *THIN_REGNETS), 8
)


def _vit(name: str) -> Network:
    _, size, patch = name.split("_")
    heads = {"b": 6, "l": 8, "h": 8}[size]
    pixels, width = 4 * int(patch), 8 * heads
    return Network(
        lambda: MODELS.VisionTransformer(
            pixels, int(patch), 3, heads, width, 4 * width, num_classes=CLASSES
        ),
        pictures(pixels),
        SMALL,
    )


def _convnext(name: str) -> Network:
    config = MODELS.convnext.CNBlockConfig
    width, middle = {"tiny": (12, 2), "small": (12, 4), "base": (16, 4), "large": (24, 4)}[
        name.partition("_")[2]
    ]
    widths = (width, 2 * width, 4 * width, 8 * width, None)
    depths = (2, 2, middle, 2)

    def build() -> nn.Module:
        blocks = [config(*row) for row in zip(widths, widths[1:], depths, strict=False)]
        model: nn.Module = MODELS.ConvNeXt(blocks, num_classes=CLASSES)
        return model

    return Network(build, pictures(64), SMALL)


def _swin(name: str) -> Network:
    transformer = MODELS.swin_transformer
    second = "_v2_" in name
    block = transformer.SwinTransformerBlockV2 if second else transformer.SwinTransformerBlock
    merging = transformer.PatchMergingV2 if second else transformer.PatchMerging
    first = 4 if name.endswith("b") else 3
    middle = 2 if name.endswith("t") else 4

    def build() -> nn.Module:
        model: nn.Module = MODELS.SwinTransformer(
            [4, 4],
            8 * first,
            [2, 2, middle, 2],
            [first, 2 * first, 4 * first, 8 * first],
            [4, 4],
            num_classes=CLASSES,
            block=block,
            downsample_layer=merging,
        )
        return model

    return Network(build, pictures(32), SMALL)


def _densenet(name: str) -> Network:
    growth, first = (48, 96) if name == "densenet161" else (32, 64)
    deep = {"densenet121": 2, "densenet161": 3, "densenet169": 4, "densenet201": 5}[name]
    return thin(
        16,
        lambda: MODELS.DenseNet(growth, (2, 3, deep, 2), first, num_classes=CLASSES),
        pictures(32),
        also=", fewer layers",
    )


def _maxvit(name: str) -> Network:
    return Network(
        lambda: MODELS.MaxVit(
            (64, 64), 16, 2, [16, 32, 48, 64], [1, 1, 2, 1], 8, 0.0, num_classes=CLASSES
        ),
        pictures(64),
        SMALL,
    )


BUILDERS: Mapping[str, Callable[[str], Network]] = {
    "vit": _vit,
    "convnext": _convnext,
    "swin": _swin,
    "maxvit": _maxvit,
    **{f"densenet{layers}": _densenet for layers in (121, 161, 169, 201)},
}


def networks() -> dict[str, Network]:
    """All of them, by their name in torchvision."""
    return {name: classifier(name) for name in torchvision_names()}
