"""Networks of Hugging Face `transformers`, small and with random weights: what of them can go."""

import pytest
import torch
from torch import nn

from mipp.graph import build_graph, with_projections
from mipp.vision import torchvision  # noqa: F401  whose operators transformers looks for

transformers = pytest.importorskip("transformers")
PLAIN = {
    "num_hidden_layers": 2,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "image_size": 32,
    "patch_size": 8,
}
PYRAMID = {
    "image_size": 64,
    "hidden_sizes": [16, 32, 64, 128],
    "depths": [1, 1, 1, 1],
    "num_attention_heads": [1, 2, 4, 8],
}
KINDS = {  # class of the network -> class and options of its configuration
    "ViTForImageClassification": ("ViTConfig", PLAIN),
    "Dinov2ForImageClassification": ("Dinov2Config", PLAIN | {"use_swiglu_ffn": True}),
    "BeitForImageClassification": ("BeitConfig", PLAIN | {"use_relative_position_bias": True}),
    "SiglipForImageClassification": ("SiglipConfig", {"vision_config": PLAIN}),
    "CLIPForImageClassification": ("CLIPConfig", {"vision_config": PLAIN}),
    "PvtForImageClassification": ("PvtConfig", PYRAMID),
    "SegformerForImageClassification": ("SegformerConfig", PYRAMID),
}
LEAST = {  # share of multiply-accumulates with one unit in every group, at most; pyramids take long
    "SiglipForImageClassification": 0.05,
    "CLIPForImageClassification": 0.05,
    "PvtForImageClassification": 0.1,
    "SegformerForImageClassification": 0.05,
}


class Logits(nn.Module):
    def __init__(self, kind):
        super().__init__()
        config, options = KINDS[kind]
        torch.manual_seed(0)
        self.network = getattr(transformers, kind)(getattr(transformers, config)(**options))

    def forward(self, x):
        return self.network(x).logits


def graph_of(kind):
    model = Logits(kind).eval()
    size = KINDS[kind][1].get("image_size", 32)
    x = torch.randn(1, 3, size, size)
    model = with_projections(model, x)
    return build_graph(model, x)


@pytest.mark.parametrize("kind", list(KINDS)[:3])
def test_almost_all_that_is_multiplied_is_in_layers_that_can_lose_outputs(kind):
    graph = graph_of(kind)
    cut = {member.module for group in graph.groups.values() for member in group.producers}
    layers = sum(cost.macs for cost in graph.costs)
    assert sum(cost.macs for cost in graph.costs if cost.module in cut) >= 0.95 * layers
    heads = [group for name, group in graph.groups.items() if "attention" in name]
    assert [group.width for group in heads] == [4, 4]


@pytest.mark.parametrize(
    "kind",
    [pytest.param(k, marks=pytest.mark.slow if KINDS[k][1] is PYRAMID else ()) for k in LEAST],
)
def test_little_is_left_of_a_network_with_one_unit_in_every_group(kind):
    graph = graph_of(kind)
    least = graph.macs(dict.fromkeys(graph.groups, 1))
    assert least <= LEAST[kind] * graph.macs(graph.widths)
