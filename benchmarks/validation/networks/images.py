"""Networks over images, written here: encoders with decoders, generators, detectors' trunks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.validation.networks.blocks import Net, Residual, conv, groups_of_four, head
from benchmarks.validation.networks.network import Network, noise, pictures


class UNet(nn.Module):
    """Three levels down and up; what was kept on the way down is joined by concatenation."""

    def __init__(self, norm=nn.BatchNorm2d, up="transposed", attention=False):  # type: ignore[no-untyped-def]
        super().__init__()
        widths = (16, 32, 48)
        self.down = nn.ModuleList(
            nn.Sequential(conv(i, o, norm=norm), conv(o, o, norm=norm))
            for i, o in zip((3, *widths), widths, strict=False)
        )
        self.middle = conv(48, 48, norm=norm)
        self.gates = nn.ModuleList(
            nn.Sequential(nn.Conv2d(2 * w, 1, 1), nn.Sigmoid()) if attention else nn.Identity()
            for w in (32, 16)
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(i, o, 2, 2)
            if up == "transposed"
            else nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(i, o, 3, padding=1))
            for i, o in ((48, 32), (32, 16))
        )
        self.join = nn.ModuleList(conv(2 * w, w, norm=norm) for w in (32, 16))
        self.last = nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for level in self.down:
            x = level(x)
            kept.append(x)
            x = F.max_pool2d(x, 2)
        x = F.interpolate(self.middle(x), scale_factor=2)
        for up, join, gate, skip in zip(self.up, self.join, self.gates, kept[1::-1], strict=True):
            x = torch.cat([up(x), skip], 1)
            x = join(gate(x) * x)
        out: Tensor = self.last(x)
        return out


def dcgan_generator() -> nn.Module:
    def up(i: int, o: int, stride: int = 2) -> nn.Sequential:
        layer = nn.ConvTranspose2d(i, o, 4, stride, stride // 2, bias=False)
        return nn.Sequential(layer, nn.BatchNorm2d(o), nn.ReLU())

    last = nn.ConvTranspose2d(8, 3, 4, 2, 1)
    return nn.Sequential(up(24, 64, 1), up(64, 32), up(32, 16), up(16, 8), last, nn.Tanh())


def dcgan_discriminator() -> nn.Module:
    def down(i: int, o: int) -> nn.Sequential:
        layer = nn.Conv2d(i, o, 4, 2, 1, bias=False)
        return nn.Sequential(layer, nn.BatchNorm2d(o), nn.LeakyReLU(0.2))

    return nn.Sequential(down(3, 16), down(16, 32), down(32, 64), nn.Conv2d(64, 1, 4))


def cyclegan_generator() -> nn.Module:
    norm = nn.InstanceNorm2d

    def block() -> nn.Module:
        return Residual(conv(32, 32, norm=norm), nn.Conv2d(32, 32, 3, padding=1), norm(32))

    return nn.Sequential(
        nn.ReflectionPad2d(3),
        nn.Conv2d(3, 16, 7),
        norm(16),
        nn.ReLU(),
        conv(16, 32, stride=2, norm=norm),
        block(),
        block(),
        nn.ConvTranspose2d(32, 16, 3, 2, 1, 1),
        norm(16),
        nn.ReLU(),
        nn.ReflectionPad2d(3),
        nn.Conv2d(16, 3, 7),
        nn.Tanh(),
    )


def sr_resnet() -> nn.Module:
    def block() -> nn.Module:
        return Residual(conv(16, 16, act=nn.PReLU), nn.Conv2d(16, 16, 3, padding=1))

    up = (nn.Conv2d(16, 64, 3, padding=1), nn.PixelShuffle(2), nn.PReLU())
    return nn.Sequential(
        nn.Conv2d(3, 16, 9, padding=4), nn.PReLU(), block(), block(), *up, nn.Conv2d(16, 3, 3, 1, 1)
    )


def dn_cnn() -> nn.Module:
    body = [conv(3, 16), conv(16, 16), conv(16, 16), nn.Conv2d(16, 3, 3, padding=1)]
    return Residual(*body)


def autoencoder() -> nn.Module:
    return nn.Sequential(
        conv(3, 16, stride=2),
        conv(16, 32, stride=2),
        nn.Conv2d(32, 8, 1),
        nn.ConvTranspose2d(8, 32, 2, 2),
        nn.ReLU(),
        nn.ConvTranspose2d(32, 16, 2, 2),
        nn.ReLU(),
        nn.Conv2d(16, 3, 3, padding=1),
    )


class C2f(nn.Module):
    """Halves of one convolution, and every block's output beside them."""

    def __init__(self, inputs: int, outputs: int, blocks: int = 2) -> None:
        super().__init__()
        half = outputs // 2
        self.first = conv(inputs, outputs, 1, act=nn.SiLU)
        self.blocks = nn.ModuleList(
            Residual(conv(half, half, act=nn.SiLU), conv(half, half, act=nn.SiLU))
            for _ in range(blocks)
        )
        self.last = conv((2 + blocks) * half, outputs, 1, act=nn.SiLU)

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.first(x).chunk(2, 1))
        for block in self.blocks:
            parts.append(block(parts[-1]))
        out: Tensor = self.last(torch.cat(parts, 1))
        return out


class C3(nn.Module):
    """Two branches of convolutions, one with blocks."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self.left, self.right = conv(inputs, half, 1), conv(inputs, half, 1)
        self.blocks = nn.Sequential(Residual(conv(half, half, 1), conv(half, half)))
        self.last = conv(outputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(torch.cat([self.blocks(self.left(x)), self.right(x)], 1))
        return out


class Sppf(nn.Module):
    """Pooled once, twice and thrice, side by side."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first, self.last = conv(inputs, inputs // 2, 1), conv(2 * inputs, outputs, 1)
        self.pool = nn.MaxPool2d(5, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.first(x)]
        for _ in range(3):
            parts.append(self.pool(parts[-1]))
        out: Tensor = self.last(torch.cat(parts, 1))
        return out


class Detector(nn.Module):
    """Trunk, path aggregation and heads of three scales, as in YOLO."""

    def __init__(self, block: type[C2f] | type[C3]) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(3, 16, stride=2), conv(16, 32, stride=2))
        self.three = nn.Sequential(block(32, 32))
        self.four = nn.Sequential(conv(32, 48, stride=2), block(48, 48))
        self.five = nn.Sequential(conv(48, 64, stride=2), block(64, 64), Sppf(64, 64))
        self.up_four, self.up_three = block(64 + 48, 48), block(48 + 32, 32)
        self.down_four, self.down_five = conv(32, 32, stride=2), conv(48, 48, stride=2)
        self.out_four, self.out_five = block(32 + 48, 48), block(48 + 64, 64)
        self.heads = nn.ModuleList(nn.Conv2d(w, 15, 1) for w in (32, 48, 64))

    def forward(self, x: Tensor) -> list[Tensor]:
        three = self.three(self.stem(x))
        four = self.four(three)
        five = self.five(four)
        four = self.up_four(torch.cat([F.interpolate(five, scale_factor=2), four], 1))
        three = self.up_three(torch.cat([F.interpolate(four, scale_factor=2), three], 1))
        four = self.out_four(torch.cat([self.down_four(three), four], 1))
        five = self.out_five(torch.cat([self.down_five(four), five], 1))
        return [head(x) for head, x in zip(self.heads, (three, four, five), strict=True)]


def csp_net() -> nn.Module:
    return nn.Sequential(
        conv(3, 16, stride=2), C3(16, 32), conv(32, 48, stride=2), C3(48, 48), head(48)
    )


def c2f_net() -> nn.Module:
    return nn.Sequential(conv(3, 16, stride=2), C2f(16, 32), C2f(32, 48), Sppf(48, 48), head(48))


class ChannelAndPlace(nn.Module):
    """CBAM: a gate of each channel, then one of each place."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Conv2d(channels, 8, 1), nn.ReLU(), nn.Conv2d(8, channels, 1))
        self.place = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        mean, top = x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
        x = x * (self.mlp(mean) + self.mlp(top)).sigmoid()
        seen = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        out: Tensor = x * self.place(seen).sigmoid()
        return out


def cbam_net() -> nn.Module:
    blocks = (Residual(conv(16, 16), ChannelAndPlace(16)), conv(16, 32), ChannelAndPlace(32))
    return nn.Sequential(conv(3, 16), *blocks, head(32))


def two_branches() -> nn.Module:
    """Siamese: one trunk over two images."""

    def forward(net: Net, a: Tensor, b: Tensor) -> Tensor:
        out: Tensor = net.head(torch.cat([net.trunk(a), net.trunk(b)], 1))
        return out

    trunk = nn.Sequential(conv(3, 16, stride=2), conv(16, 32, stride=2), head(32, 24))
    return Net(forward, trunk=trunk, head=nn.Sequential(nn.ReLU(), nn.Linear(48, 2)))


def several_tasks() -> nn.Module:
    """A trunk with heads by name."""

    def forward(net: Net, x: Tensor) -> dict[str, Tensor]:
        x = net.trunk(x)
        return {"classes": net.classes(x), "depth": net.depth(x), "boxes": net.boxes(x)}

    return Net(
        forward,
        trunk=nn.Sequential(conv(3, 16, stride=2), conv(16, 32), conv(32, 32)),
        classes=head(32),
        depth=nn.Sequential(conv(32, 16), nn.Conv2d(16, 1, 1)),
        boxes=nn.Sequential(conv(32, 16), nn.Conv2d(16, 4, 1)),
    )


def networks() -> dict[str, Network]:
    """All of them, by name."""
    images = pictures(32)
    builders = {
        "U-Net": UNet,
        "U-Net, group-norm": lambda: UNet(groups_of_four, "upsample"),
        "U-Net, instance-norm": lambda: UNet(lambda c: nn.InstanceNorm2d(c, affine=True)),
        "U-Net, gated": lambda: UNet(attention=True),
        "DCGAN discriminator": dcgan_discriminator,
        "CycleGAN generator": cyclegan_generator,
        "SRResNet": sr_resnet,
        "DnCNN": dn_cnn,
        "autoencoder": autoencoder,
        "C2f and SPPF": c2f_net,
        "CSP": csp_net,
        "YOLO of C2f": lambda: Detector(C2f),
        "YOLO of C3": lambda: Detector(C3),
        "CBAM": cbam_net,
        "several tasks": several_tasks,
    }
    found = {name: Network(build, images) for name, build in builders.items()}
    found["DCGAN generator"] = Network(dcgan_generator, noise(24, 1, 1))
    found["siamese"] = Network(two_branches, lambda n: tuple(noise(6, 32, 32)(n).split(3, 1)))
    return found
