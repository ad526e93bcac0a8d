"""Numbers of channels that modules keep, beside forward, are those of the network that was cut."""

import gc
import importlib.util
import weakref
from functools import partial
from types import MethodType

import pytest
import torch
from oracles import assert_zeroing, enliven_norms, random_selection
from torch import nn

from mipp.cut import apply_selection
from mipp.graph import build_graph
from mipp.layers.counts import recount
from mipp.vision import torchvision

needs_timm = pytest.mark.skipif(
    importlib.util.find_spec("timm") is None, reason="timm is not installed"
)


def cut_at_random(model, images):
    enliven_norms(model.double())
    graph = build_graph(model, images[:1])
    selection = random_selection(graph, 0)
    assert_zeroing(model, graph, selection, images)
    return apply_selection(model, selection, images[:1])


def blocks_of(name):
    from timm.models import byobnet, fastvit

    return {
        "mobile one": lambda: fastvit.MobileOneBlock(8, 12, 3, num_conv_branches=2),
        "depthwise": lambda: fastvit.MobileOneBlock(8, 8, 3, group_size=1),
        "mixer": lambda: fastvit.RepMixer(8),
        "large kernel": lambda: fastvit.ReparamLargeKernelConv(8, 8, 7, 1, 1, small_kernel=3),
        "byob": lambda: byobnet.MobileOneBlock(8, 8, 3, group_size=1),
    }[name]()


@needs_timm
@pytest.mark.parametrize("name", ["mobile one", "depthwise", "mixer", "large kernel", "byob"])
def test_branches_of_a_block_that_was_cut_are_folded_to_the_same(name):
    from timm.utils import reparameterize_model

    torch.manual_seed(0)
    block = blocks_of(name)
    head = nn.Sequential(nn.Conv2d(12 if name == "mobile one" else 8, 4, 1), nn.Flatten())
    model = nn.Sequential(nn.Conv2d(3, 8, 3), block, head).eval()
    images = torch.randn(3, 3, 10, 10).double()
    cut = cut_at_random(model, images)
    assert cut[0].out_channels < 8
    folded = reparameterize_model(cut)
    assert len(list(folded.parameters())) < len(list(cut.parameters()))
    torch.testing.assert_close(folded(images), cut(images))


def test_parts_of_a_trunk_say_how_many_channels_they_make():
    first = torchvision.ops.misc.Conv2dNormActivation
    second = torchvision.models.mobilenetv2.InvertedResidual
    third = torchvision.models.efficientnet.FusedMBConv
    settings = torchvision.models.efficientnet.FusedMBConvConfig(2, 3, 1, 12, 14, 1)
    torch.manual_seed(0)
    trunk = nn.Sequential(
        first(3, 8), second(8, 8, 1, 2), second(8, 12, 2, 2), third(settings, 0.0, nn.BatchNorm2d)
    )
    model = nn.Sequential(trunk, nn.Conv2d(14, 2, 1)).eval()
    x = torch.randn(2, 3, 12, 12).double()
    cut = cut_at_random(model, x)
    made = []
    for part in cut[0]:
        x = part(x)
        made.append(x.shape[1])
    assert [part.out_channels for part in cut[0]] == made
    assert sum(made) < sum(part.out_channels for part in trunk) == 8 + 8 + 12 + 14


class Asked(nn.Module):
    """Scales by a number of channels, which it names in a method."""

    def __init__(self):
        super().__init__()
        self.out_channels = 8
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 2, 1)

    def scale(self):
        return self.out_channels**-0.5

    def forward(self, x):
        return self.second(self.first(x).relu() * self.scale())


def test_number_that_forward_asks_for_stays_where_a_cut_computes_the_same_by_it():
    torch.manual_seed(0)
    images = torch.randn(3, 3, 6, 6).double()
    cut = cut_at_random(Asked().eval(), images)
    assert cut.out_channels == 8 > cut.first.out_channels


def own_forward(model):
    def forward(self, x):
        return self.second(self.first(x).relu() * self.out_channels**-0.5)

    model.forward = MethodType(forward, model)


def own_partial(model):
    model.forward = partial(Asked.forward, model)


def hook(model):
    model.register_forward_hook(lambda module, _, made: made * module.out_channels)


class Scales:
    def __call__(self, module, inputs):
        return (inputs[0] * module.out_channels,)


def hook_that_is_an_object(model):
    model.register_forward_pre_hook(Scales())


class Plain(Asked):
    """Reads no number itself."""

    def forward(self, x):
        return self.second(self.first(x).relu())


@pytest.mark.parametrize("add", [own_forward, own_partial, hook, hook_that_is_an_object])
def test_number_that_code_of_a_single_module_asks_for_stays_too(add):
    dense, cut = Plain(), Plain()
    cut.first = nn.Conv2d(3, 5, 3)
    add(dense)
    recount(dense, cut)
    assert cut.out_channels == 8


def test_number_that_nothing_asks_for_is_that_of_the_cut():
    dense, cut = Plain(), Plain()
    cut.second = nn.Conv2d(8, 1, 1)
    dense.out_channels = cut.out_channels = 2
    recount(dense, cut)
    assert cut.out_channels == 1


def test_method_that_only_has_a_name_of_timm_is_none_of_timm():
    class Own(Plain):
        def get_classifier(self, which):
            return self.second

        def reset_classifier(self, which):
            pass

    dense, cut = Own(), Own()
    recount(dense, cut)
    assert cut.out_channels == 8


def test_what_a_hook_holds_is_let_go_with_it():
    dense, cut, held = Plain(), Plain(), nn.Linear(1, 1)
    dense.register_forward_hook(lambda *_, own=held: own)
    recount(dense, cut)
    reference = weakref.ref(held)
    del dense, held
    gc.collect()
    assert reference() is None
