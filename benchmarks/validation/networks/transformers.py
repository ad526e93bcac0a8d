"""Networks of Hugging Face `transformers`, from small random configurations."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from benchmarks.validation.networks.network import CLASSES, Network, pictures


@dataclass(frozen=True)
class Row:
    """A class of transformers and the values of its configuration."""

    model: str
    values: Mapping[str, Any] = field(default_factory=dict)
    config: str = ""  # the model's own, without one
    parts: Mapping[str, Row] = field(default_factory=dict)  # configurations inside of it
    pixels: int = 32
    answer: tuple[str, ...] = ()  # what is returned of the output; all of it by default


class Answer(nn.Module):
    """A network that returns its answer alone: what is returned besides would stay whole."""

    def __init__(self, network: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.network, self.names = network, names

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        output = self.network(pixel_values)
        return tuple(output[name] for name in self.names)


def _row(
    model: str, /, config: str = "", pixels: int = 32, answer: tuple[str, ...] = (), **values: Any
) -> Row:
    parts = {name: value for name, value in values.items() if isinstance(value, Row)}
    others = {name: value for name, value in values.items() if name not in parts}
    return Row(model, others, config, parts, pixels, answer)


VIT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "image_size": 32,
    "patch_size": 8,
}
SWIN = {
    "image_size": 32,
    "patch_size": 2,
    "embed_dim": 16,
    "depths": [1, 1, 2],
    "num_heads": [2, 4, 4],
    "window_size": 4,
}
RESNET = {"embedding_size": 16, "hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 2, 1]}
BACKBONE = _row("", "ResNetConfig", **RESNET, out_features=["stage1", "stage2", "stage3", "stage4"])
BOXES = ("logits", "pred_boxes")
ROWS: Mapping[str, Row] = {
    "beit": _row("BeitForImageClassification", **VIT, use_relative_position_bias=True),
    "beit segmentation": _row(
        "BeitForSemanticSegmentation",
        **VIT | {"num_hidden_layers": 4},
        out_indices=[1, 2, 3, 4],
        use_auxiliary_head=False,
    ),
    "bit": _row(
        "BitForImageClassification",
        embedding_size=16,
        hidden_sizes=[32, 48, 64, 96],
        depths=[1, 1, 2, 1],
        num_groups=2,
    ),
    "clip": _row("CLIPForImageClassification", vision_config=VIT, projection_dim=16),
    "convnext": _row(
        "ConvNextForImageClassification", hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 2, 1]
    ),
    "convnextv2": _row(
        "ConvNextV2ForImageClassification", hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 2, 1]
    ),
    "cvt": _row(
        "CvtForImageClassification",
        pixels=64,
        embed_dim=[16, 48, 96],
        num_heads=[1, 3, 6],
        depth=[1, 2, 3],
    ),
    "data2vec vision": _row("Data2VecVisionForImageClassification", **VIT),
    "deit": _row("DeiTForImageClassification", **VIT),
    "deit distilled": _row("DeiTForImageClassificationWithTeacher", **VIT),
    "detr": _row(
        "DetrForObjectDetection",
        answer=BOXES,
        pixels=64,
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone=None,
        backbone_config=BACKBONE,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        num_queries=6,
    ),
    "dinov2": _row("Dinov2ForImageClassification", **VIT, mlp_ratio=2),
    "dinov2 swiglu": _row("Dinov2ForImageClassification", **VIT, mlp_ratio=2, use_swiglu_ffn=True),
    "dinov2 with registers": _row("Dinov2WithRegistersForImageClassification", **VIT, mlp_ratio=2),
    "dpt": _row(
        "DPTForSemanticSegmentation",
        **VIT | {"num_hidden_layers": 4},
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 16, 24, 32],
        fusion_hidden_size=16,
        use_auxiliary_head=False,
    ),
    "efficientnet": _row(
        "EfficientNetForImageClassification",
        pixels=64,
        width_coefficient=0.25,
        depth_coefficient=0.5,
        hidden_dim=320,
    ),
    "focalnet": _row(
        "FocalNetForImageClassification", embed_dim=16, depths=[1, 1, 2, 1], image_size=32
    ),
    "hgnetv2": _row(
        "HGNetV2ForImageClassification",
        pixels=64,
        embedding_size=8,
        hidden_sizes=[16, 24, 32, 48],
        stem_channels=[3, 8, 8],
        stage_in_channels=[8, 16, 24, 32],
        stage_mid_channels=[8, 8, 16, 16],
        stage_out_channels=[16, 24, 32, 48],
        stage_num_blocks=[1, 1, 1, 1],
    ),
    "hiera": _row(
        "HieraForImageClassification",
        image_size=[32, 32],
        patch_stride=[2, 2],
        embed_dim=24,
        depths=[1, 1, 2],
        num_heads=[1, 2, 4],
        num_query_pool=2,
    ),
    "ijepa": _row("IJepaForImageClassification", **VIT),
    "levit": _row(
        "LevitForImageClassification",
        image_size=64,
        pixels=64,
        hidden_sizes=[32, 48, 64],
        num_attention_heads=[4, 6, 8],
        depths=[1, 1, 2],
        key_dim=[8, 8, 8],
    ),
    "mobilenet v1": _row("MobileNetV1ForImageClassification", depth_multiplier=0.25),
    "mobilenet v2": _row("MobileNetV2ForImageClassification", depth_multiplier=0.25),
    "mobilenet v2 segmentation": _row(
        "MobileNetV2ForSemanticSegmentation", pixels=64, depth_multiplier=0.25
    ),
    "mobilevit": _row(
        "MobileViTForImageClassification",
        image_size=64,
        pixels=64,
        hidden_sizes=[16, 24, 32],
        neck_hidden_sizes=[8, 8, 16, 24, 32, 40, 64],
    ),
    "mobilevitv2": _row("MobileViTV2ForImageClassification", pixels=64, width_multiplier=0.25),
    "poolformer": _row(
        "PoolFormerForImageClassification", hidden_sizes=[16, 24, 32, 48], depths=[1, 1, 2, 1]
    ),
    "pp lcnet": _row("PPLCNetForImageClassification", pixels=64, scale=0.25),
    "pvt": _row(
        "PvtForImageClassification",
        image_size=64,
        pixels=64,
        depths=[1, 1, 1, 1],
        hidden_sizes=[16, 32, 48, 64],
        num_attention_heads=[1, 2, 3, 4],
    ),
    "pvt v2": _row(
        "PvtV2ForImageClassification",
        image_size=64,
        pixels=64,
        depths=[1, 1, 1, 1],
        hidden_sizes=[16, 32, 80, 128],
        num_attention_heads=[1, 2, 5, 8],
    ),
    "regnet": _row(
        "RegNetForImageClassification",
        embedding_size=8,
        hidden_sizes=[16, 24, 32, 48],
        depths=[1, 1, 2, 1],
        groups_width=8,
    ),
    "resnet": _row("ResNetForImageClassification", **RESNET),
    "segformer": _row(
        "SegformerForSemanticSegmentation",
        pixels=64,
        depths=[1, 1, 1, 1],
        hidden_sizes=[16, 32, 48, 64],
        num_attention_heads=[1, 2, 3, 4],
        decoder_hidden_size=32,
    ),
    "segformer classifier": _row(
        "SegformerForImageClassification",
        pixels=64,
        depths=[1, 1, 1, 1],
        hidden_sizes=[16, 32, 48, 64],
        num_attention_heads=[1, 2, 3, 4],
    ),
    "siglip": _row("SiglipForImageClassification", vision_config=VIT),
    "swiftformer": _row(
        "SwiftFormerForImageClassification",
        pixels=64,
        depths=[1, 1, 2, 1],
        embed_dims=[16, 24, 32, 48],
    ),
    "swin": _row("SwinForImageClassification", **SWIN),
    "swinv2": _row("Swinv2ForImageClassification", **SWIN),
    "textnet": _row(
        "TextNetForImageClassification",
        pixels=64,
        stem_out_channels=8,
        hidden_sizes=[8, 8, 16, 24, 32],
    ),
    "upernet": _row(
        "UperNetForSemanticSegmentation",
        pixels=64,
        backbone_config=BACKBONE,
        hidden_size=16,
        use_auxiliary_head=False,
        pool_scales=[1, 2, 3],
    ),
    "upernet swin": _row(
        "UperNetForSemanticSegmentation",
        backbone_config=_row("", "SwinConfig", **SWIN, out_features=["stage1", "stage2", "stage3"]),
        hidden_size=16,
        use_auxiliary_head=False,
        pool_scales=[1, 2],
    ),
    "vit": _row("ViTForImageClassification", **VIT),
    "vit msn": _row("ViTMSNForImageClassification", **VIT),
    "yolos": _row(
        "YolosForObjectDetection",
        answer=BOXES,
        **VIT | {"image_size": [32, 32]},
        num_detection_tokens=4,
    ),
}


def _config(row: Row, **more: Any) -> Any:
    import mipp.vision  # noqa: F401, I001 - transformers imports torchvision, which may need its help
    import transformers

    made = {name: _config(part) for name, part in row.parts.items()}
    known = row.config or getattr(transformers, row.model).config_class.__name__
    return getattr(transformers, known)(**row.values, **made, **more)


def _create(row: Row) -> nn.Module:
    config = _config(row, num_labels=CLASSES)
    import transformers

    model: nn.Module = getattr(transformers, row.model)(config)
    return Answer(model, row.answer) if row.answer else model


def networks() -> dict[str, Network]:
    """All of them, by the name of their family there."""
    found = {}
    for name, row in ROWS.items():
        made = "small configuration" + ", logits and boxes alone" * bool(row.answer)
        found[name] = Network(functools.partial(_create, row), pictures(row.pixels), made)
    return found
