"""Networks over sequences, volumes and points, written here."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.validation.networks.blocks import Net, Residual, conv
from benchmarks.validation.networks.network import Network, noise

LENGTH = 64


def conv1d(inputs: int, outputs: int, size: int = 3, **options: int) -> nn.Sequential:
    layer = nn.Conv1d(inputs, outputs, size, padding=size // 2, **options)
    return nn.Sequential(layer, nn.BatchNorm1d(outputs), nn.ReLU())


def conv3d(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    layer = nn.Conv3d(inputs, outputs, 3, stride, 1)
    return nn.Sequential(layer, nn.BatchNorm3d(outputs), nn.ReLU())


def pooled(channels: int, classes: int = 10) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(channels, classes))


def resnet_1d() -> nn.Module:
    blocks = [Residual(conv1d(16, 24), nn.Conv1d(24, 16, 3, padding=1)) for _ in range(2)]
    return nn.Sequential(conv1d(4, 16, 7), *blocks, conv1d(16, 32), pooled(32))


class Dilated(nn.Module):
    """A gated step of WaveNet: half of a convolution gates the other; a skip leaves to the side."""

    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.both = nn.Conv1d(16, 48, 3, padding=dilation, dilation=dilation)
        self.back, self.skip = nn.Conv1d(24, 16, 1), nn.Conv1d(24, 20, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        signal, gate = self.both(x).chunk(2, 1)
        mixed = signal.tanh() * gate.sigmoid()
        return x + self.back(mixed), self.skip(mixed)


class WaveNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(4, 16, 1)
        self.steps = nn.ModuleList(Dilated(dilation) for dilation in (1, 2, 4))
        self.last = nn.Sequential(nn.ReLU(), nn.Conv1d(20, 20, 1), nn.ReLU(), nn.Conv1d(20, 8, 1))

    def forward(self, x: Tensor) -> Tensor:
        x, total = self.first(x), torch.zeros(())
        for step in self.steps:
            x, skip = step(x)
            total = total + skip
        out: Tensor = self.last(total)
        return out


def temporal() -> nn.Module:
    """Causal dilated convolutions under weight norm."""

    def causal(i: int, o: int, dilation: int) -> nn.Sequential:
        layer = nn.Conv1d(i, o, 3, dilation=dilation)
        normed = nn.utils.parametrizations.weight_norm(layer)
        return nn.Sequential(nn.ConstantPad1d((2 * dilation, 0), 0.0), normed, nn.ReLU())

    return nn.Sequential(
        causal(4, 32, 1), Residual(causal(32, 48, 2), causal(48, 32, 4)), pooled(32)
    )


def unet_1d() -> nn.Module:
    def forward(net: Net, x: Tensor) -> Tensor:
        a = net.a(x)
        b = net.b(F.max_pool1d(a, 2))
        out: Tensor = net.last(torch.cat([net.up(b), a], 1))
        return out

    return Net(
        forward,
        a=conv1d(4, 16),
        b=conv1d(16, 32),
        up=nn.ConvTranspose1d(32, 16, 2, 2),
        last=nn.Sequential(conv1d(32, 16), nn.Conv1d(16, 4, 1)),
    )


def point_net() -> nn.Module:
    def forward(net: Net, x: Tensor) -> Tensor:
        out: Tensor = net.head(net.points(x).amax(2))
        return out

    points = nn.Sequential(conv1d(3, 16, 1), conv1d(16, 32, 1), conv1d(32, 64, 1))
    head = nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10))
    return Net(forward, points=points, head=head)


def unet_3d() -> nn.Module:
    def forward(net: Net, x: Tensor) -> Tensor:
        a = net.a(x)
        b = net.b(F.max_pool3d(a, 2))
        out: Tensor = net.last(torch.cat([net.up(b), a], 1))
        return out

    return Net(
        forward,
        a=conv3d(2, 8),
        b=nn.Sequential(conv3d(8, 16), conv3d(16, 16)),
        up=nn.ConvTranspose3d(16, 8, 2, 2),
        last=nn.Sequential(conv3d(16, 8), nn.Conv3d(8, 3, 1)),
    )


def resnet_3d() -> nn.Module:
    block = Residual(conv3d(16, 24), nn.Conv3d(24, 16, 3, padding=1), nn.BatchNorm3d(16))
    last = (nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(16, 10))
    return nn.Sequential(conv3d(2, 16, 2), block, nn.ReLU(), *last)


class Recurrent(nn.Module):
    """Convolutions read by a recurrent layer over the columns, as for written lines."""

    def __init__(self, layer: type[nn.LSTM] | type[nn.GRU]) -> None:
        super().__init__()
        self.trunk = nn.Sequential(conv(3, 16), nn.MaxPool2d(2), conv(16, 32))
        self.recurrent = layer(32, 24, batch_first=True, bidirectional=True)
        self.head = nn.Linear(48, 11)

    def forward(self, x: Tensor) -> Tensor:
        columns = self.trunk(x).mean(2).transpose(1, 2)
        out: Tensor = self.head(self.recurrent(columns)[0])
        return out


class Tokens(nn.Module):
    """torch's encoder over embedded tokens and places."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(50, 32), nn.Embedding(12, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, 0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, 10)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.words(tokens) + self.places(torch.arange(tokens.shape[1]))
        out: Tensor = self.head(self.encoder(x).mean(1))
        return out


def tokens(n: int) -> Tensor:
    return torch.randint(50, (n, 12), generator=torch.Generator().manual_seed(1))


def radiance_field() -> nn.Module:
    """A perceptron that reads its input again half way."""

    def forward(net: Net, x: Tensor) -> Tensor:
        out: Tensor = net.second(torch.cat([net.first(x), x], 1))
        return out

    first = nn.Sequential(nn.Linear(12, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU())
    second = nn.Sequential(nn.Linear(60, 48), nn.ReLU(), nn.Linear(48, 4))
    return Net(forward, first=first, second=second)


def networks() -> dict[str, Network]:
    """All of them, by name."""
    signal, volume = noise(4, LENGTH), noise(2, 8, 16, 16)
    return {
        "1-D residual": Network(resnet_1d, signal),
        "1-D WaveNet": Network(WaveNet, signal),
        "1-D causal, weight-norm": Network(temporal, signal),
        "1-D U-Net": Network(unet_1d, signal),
        "PointNet": Network(point_net, noise(3, 64)),
        "3-D U-Net": Network(unet_3d, volume),
        "3-D residual": Network(resnet_3d, volume),
        "convolutions and LSTM": Network(lambda: Recurrent(nn.LSTM), noise(3, 16, 32)),
        "convolutions and GRU": Network(lambda: Recurrent(nn.GRU), noise(3, 16, 32)),
        "encoder of tokens": Network(Tokens, tokens),
        "perceptron, input again": Network(radiance_field, noise(12)),
    }
