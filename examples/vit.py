"""A vision transformer: heads, MLP units and the stream of tokens go; distilled afterwards.

python examples/vit.py
"""

import torch

import mipp
from mipp.vision import torchvision  # beside a torch for CPUs alone, too

IMAGES = torch.rand(64, 3, 32, 32)


def build():
    """The dense network, with weights of yours."""
    torch.manual_seed(0)
    model = torchvision.models.VisionTransformer(
        image_size=32,
        patch_size=8,
        num_layers=2,
        num_heads=2,
        hidden_dim=32,
        mlp_dim=64,
        num_classes=10,
    )
    torch.nn.init.normal_(model.heads.head.weight)  # zeros otherwise, until it is trained
    return model


def main():
    model = build().eval()
    pruner = mipp.Pruner(model, IMAGES.split(32))
    ranking = pruner.rank(mipp.Mipp(order="mi", rows=512))  # for an example; more rows by default
    plan = pruner.plan("macs:0.6", ranking)
    print(plan)
    for repair in (
        mipp.NoRepair(),
        mipp.Refit(rows=512),
        mipp.Distill(mipp.Refit(rows=512), steps=10),
    ):
        smaller = pruner.cut(plan, repair).model
        with torch.no_grad():
            error = (smaller(IMAGES) - model(IMAGES)).square().mean() / model(IMAGES).var()
        print(f"{type(repair).__name__}: outputs differ by {100 * error:.1f} % of their variance")


if __name__ == "__main__":
    main()
