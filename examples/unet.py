"""A U-Net: skips are concatenated, and what is written up and down is cut together.

python examples/unet.py
"""

import torch
from torch import nn

import mipp

IMAGES = torch.rand(32, 3, 32, 32)


def block(inputs, outputs):
    """Two convolutions with batch norms."""
    layers = [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(
        *layers, nn.Conv2d(outputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class UNet(nn.Module):
    """Images (n, 3, h, w) to a map of two classes (n, 2, h, w)."""

    def __init__(self, width=16):
        super().__init__()
        self.down, self.middle = block(3, width), block(width, 2 * width)
        self.pool = nn.MaxPool2d(2)
        self.up = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.last, self.head = block(2 * width, width), nn.Conv2d(width, 2, 1)

    def forward(self, x):
        fine = self.down(x)
        coarse = self.up(self.middle(self.pool(fine)))
        return self.head(self.last(torch.cat((coarse, fine), 1)))


def main():
    torch.manual_seed(0)
    model = UNet().eval()
    pruned = mipp.prune(model, IMAGES.split(16), "macs:0.5", keep_outputs=["up"])
    print(pruned.report)
    assert pruned.model.up.out_channels == 16  # as asked
    assert pruned.model(IMAGES).shape == (32, 2, 32, 32)
    mipp.export_network(pruned.model, (3, 32, 32), "unet")


if __name__ == "__main__":
    main()
