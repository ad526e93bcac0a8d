"""A ResNet-18 at half of its multiply-accumulates: what can go, what goes, saved and loaded.

python examples/resnet18.py
"""

import torch

import mipp
import mipp.vision  # torchvision, which timm needs, also beside a torch for CPUs alone

import timm  # isort: skip

IMAGES = torch.rand(64, 3, 32, 32)  # yours: a loader of some hundred training images


def build():
    """The dense network, with weights of yours; without `channels`, of the usual widths."""
    torch.manual_seed(0)
    return timm.create_model("resnet18", channels=(8, 8, 16, 16), num_classes=10)


def main():
    model = build().eval()
    print(mipp.inspect(model, IMAGES[:2]))
    pruner = mipp.Pruner(model, IMAGES.split(32))
    ranking = pruner.rank(mipp.Mipp(order="mi", rows=512))  # for an example; more rows by default
    pruned = pruner.cut(pruner.plan("macs:0.5", ranking), mipp.Refit(rows=512))
    print(pruned.report)
    pruned.save("resnet18.safetensors")
    smaller = mipp.load("resnet18.safetensors", build=build)
    assert torch.equal(smaller(IMAGES), pruned.model.eval()(IMAGES))


if __name__ == "__main__":
    main()
