"""Maps that are read at places: boxes of regions, and where another layer or a buffer says."""

import sys

import pytest
import torch
import torch.nn.functional as F
from kinds import Kind, checks_of
from oracles import Net, assert_zeroing, random_selection
from torch import nn

from mipp.graph import build_graph
from mipp.vision import torchvision

ops = torchvision.ops
# Where torchvision's compiled operators are missing, it compiles its own Python instead.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")


@pytest.fixture(autouse=True)
def eager():
    with torch.compiler.set_stance("force_eager"):
        yield


def boxes_of(images, size):
    """Two boxes in every image, (2 images, 5) with the number of the image first."""
    corners = size * torch.tensor([[0.0, 0.1, 0.5, 0.9], [0.2, 0.1, 1.0, 0.7]])
    number = torch.arange(images).repeat_interleave(2)[:, None]
    return torch.cat([number, corners.repeat(images, 1)], 1)


def regions():
    """Boxes of a map, pooled by torchvision's function, and a perceptron over each."""

    def forward(net, x):
        y = net.second(net.first(x).relu()).relu()
        found = ops.roi_align(y, boxes_of(len(x), 8).to(y), 2, sampling_ratio=2)
        return net.head(net.hidden(found.flatten(1)).relu()).unflatten(0, (len(x), 2))

    return Net(
        forward,
        first=nn.Conv2d(3, 12, 3, padding=1),
        second=nn.Conv2d(12, 10, 3, padding=1),
        hidden=nn.Linear(40, 12),
        head=nn.Linear(12, 3),
    )


def region_maps():
    """Boxes of a normed residual stream, and convolutions over each, as a mask's head has them."""

    def forward(net, x):
        y = net.norm(net.stem(x)).relu()
        y = y + net.back(net.inner(y).relu())
        boxes = [two[:, 1:] for two in boxes_of(len(x), 8).to(y).chunk(len(x))]
        found = net.mask(net.align(y, boxes)).relu()
        return net.out(net.up(found).relu()).unflatten(0, (len(x), 2)).flatten(2)

    return Net(
        forward,
        stem=nn.Conv2d(3, 12, 3, padding=1),
        norm=nn.BatchNorm2d(12),
        inner=nn.Conv2d(12, 8, 3, padding=1),
        back=nn.Conv2d(8, 12, 1),
        align=ops.RoIAlign(4, 1.0, 2, aligned=True),
        mask=nn.Conv2d(12, 8, 3, padding=1),
        up=nn.ConvTranspose2d(8, 6, 2, 2),
        out=nn.Conv2d(6, 2, 1),
    )


def pyramid():
    """Boxes of the levels of a pyramid, each from the level of its size."""

    def forward(net, x):
        fine = net.fine(x).relu()
        coarse = net.coarse(F.max_pool2d(fine, 2)).relu()
        levels = {"0": net.of_fine(fine), "1": net.of_coarse(coarse)}
        boxes = [two[:, 1:] for two in boxes_of(len(x), 16).to(x).chunk(len(x))]
        found = net.pool(levels, boxes, [(16, 16)] * len(x))
        return net.head(net.hidden(found.flatten(1)).relu()).unflatten(0, (len(x), 2))

    return Net(
        forward,
        fine=nn.Conv2d(3, 8, 3, padding=1),
        coarse=nn.Conv2d(8, 12, 3, padding=1),
        of_fine=nn.Conv2d(8, 10, 1),
        of_coarse=nn.Conv2d(12, 10, 1),
        pool=ops.MultiScaleRoIAlign(["0", "1"], 2, 2, canonical_scale=10.5, canonical_level=1),
        hidden=nn.Linear(40, 10),
        head=nn.Linear(10, 3),
    )


def flowing():
    """The map of one image warped by a flow, beside that of another, as optical flow does."""

    def forward(net, x):
        one, two = net.features(x[:, :3]).relu(), net.features(x[:, 3:]).relu()
        y = torch.linspace(-1, 1, 8, dtype=x.dtype)
        places = torch.stack(torch.meshgrid(y, y, indexing="xy"), -1)
        flow = net.flow(torch.cat([one, two], 1)).permute(0, 2, 3, 1)
        there = F.grid_sample(two, places + 0.1 * flow.tanh(), align_corners=True)
        return net.out((one - there).abs())

    return Net(
        forward,
        features=nn.Conv2d(3, 12, 3, padding=1),
        flow=nn.Conv2d(24, 2, 3, padding=1),
        out=nn.Conv2d(12, 2, 3),
    )


def transformed():
    """A spatial transformer: where a map is read depends on a perceptron over it."""

    def forward(net, x):
        y = net.stem(x).relu()
        theta = net.theta(net.local(y.mean((2, 3))).relu()).unflatten(1, (2, 3))
        places = F.affine_grid(theta, list(y.shape), align_corners=False)
        y = F.grid_sample(y, places, mode="nearest", padding_mode="border", align_corners=False)
        return net.head(net.last(y).relu().amax((2, 3)))

    net = Net(
        forward,
        stem=nn.Conv2d(3, 12, 3, padding=1),
        local=nn.Linear(12, 8),
        theta=nn.Linear(8, 6),
        last=nn.Conv2d(12, 8, 3),
        head=nn.Linear(8, 3),
    )
    with torch.no_grad():
        net.theta.bias += torch.tensor([1.0, 0, 0, 0, 1, 0])
    return net


def warped():
    """A map that is warped to where another layer says."""

    def forward(net, x):
        y = net.stem(x).relu()
        places = net.where(y).permute(0, 2, 3, 1).tanh()
        y = F.grid_sample(y, places, align_corners=False)
        return net.head(net.last(y).relu().mean((2, 3)))

    return Net(
        forward,
        stem=nn.Conv2d(3, 12, 3, padding=1),
        where=nn.Conv2d(12, 2, 1),
        last=nn.Conv2d(12, 12, 3, padding=1),
        head=nn.Linear(12, 4),
    )


def sampled_volume():
    """A volume that is read at fixed points, and a perceptron over each point."""

    def forward(net, x):
        y = net.second(net.first(x).relu()).relu()
        points = net.points.expand(len(x), -1, -1, -1, -1)
        found = F.grid_sample(y, points, align_corners=False).flatten(2).transpose(1, 2)
        return net.head(net.hidden(found).relu())

    net = Net(
        forward,
        first=nn.Conv3d(1, 10, 3, padding=1),
        second=nn.Conv3d(10, 8, 3, padding=1),
        hidden=nn.Linear(8, 12),
        head=nn.Linear(12, 2),
    )
    net.register_buffer("points", 2 * torch.rand(1, 5, 1, 1, 3) - 1)
    return net


KINDS = {
    "roi_align": Kind(regions, (3, 8, 8), 0.03),
    "RoIAlign": Kind(region_maps, (3, 8, 8), 0.03),
    "MultiScaleRoIAlign": Kind(pyramid, (3, 16, 16), 0.06),
    "grid_sample, warped": Kind(warped, (3, 8, 8), 0.03),
    "grid_sample, flow": Kind(flowing, (6, 8, 8), 0.09),
    "grid_sample, affine": Kind(transformed, (3, 8, 8), 0.04),
    "grid_sample 3d": Kind(sampled_volume, (1, 4, 4, 4), 0.03),
}


(
    test_cut_network_is_the_dense_one_without_the_dropped_channels,
    test_one_channel_each_costs_as_little_as_it_should,
    test_default_method_and_repair_meet_the_budget_train_and_come_back,
) = checks_of(KINDS)


@pytest.fixture
def operators():
    """Compiled operators of torchvision, or its own Python under their names."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    if not hasattr(torch.ops.torchvision, "roi_align"):
        library.define(
            "roi_align(Tensor input, Tensor rois, float spatial_scale, int pooled_height, "
            "int pooled_width, int sampling_ratio, bool aligned) -> Tensor"
        )
        library.impl("roi_align", sys.modules["torchvision.ops.roi_align"]._roi_align, "CPU")
    yield torch.ops.torchvision
    library._destroy()


def test_channels_pass_through_the_compiled_operator(operators, seed):
    def forward(net, x):
        y = net.second(net.first(x).relu()).relu()
        found = operators.roi_align(y, boxes_of(len(x), 8).to(y), 1.0, 2, 2, 2, False)
        return net.head(found.flatten(1))

    layers = {"first": nn.Conv2d(3, 12, 3, padding=1), "second": nn.Conv2d(12, 10, 3, padding=1)}
    model = Net(forward, **layers, head=nn.Linear(40, 3)).double().eval()
    x = torch.randn(4, 3, 8, 8).double()
    graph = build_graph(model, x[:1])
    assert graph.widths == {"first": 12, "second": 10}
    assert_zeroing(model, graph, random_selection(graph, seed), x)
