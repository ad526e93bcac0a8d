"""Networks that somebody might pass, sound and unsound, each by what is odd about it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils import prune as masks

CALLS = [0]  # of all networks that remember it


class Net(nn.Module):
    """Two convolutions, a norm and two linear layers; `around` is what is odd about forward."""

    def __init__(self, around: Callable[[Net, Tensor], object] | None = None) -> None:
        super().__init__()
        self.conv, self.norm, self.next = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 6, 1)
        self.hidden, self.head, self.around = nn.Linear(6, 8), nn.Linear(8, 4), around

    def trunk(self, x: Tensor) -> Tensor:
        return self.next(self.norm(self.conv(x)).relu()).relu().mean((2, 3))

    def plain(self, x: Tensor) -> Tensor:
        return self.head(self.hidden(self.trunk(x)).relu())

    def forward(self, x: Tensor) -> object:
        return self.around(self, x) if self.around else self.plain(x)


@dataclasses.dataclass
class Output:
    logits: Tensor
    trunk: Tensor


class NeedsKeyword(Net):
    def forward(self, x, *, scale):
        return self.plain(x) * scale


class TwoInputs(Net):
    def forward(self, x, y):
        return self.plain(x + y)


class NoForward(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)


class NotCopied(Net):
    def __deepcopy__(self, memo):
        raise RuntimeError("this network is not to be copied")


class SlottedProperty(Net):
    @property
    def broken(self):
        raise ValueError("a property that fails")


class OwnLinear(nn.Linear):
    def forward(self, x):
        return super().forward(x) * 2


class Scaled(nn.Module):
    """Weights that forward multiplies itself."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.randn(8, 3)), nn.Parameter(torch.randn(4, 8))

    def forward(self, x):
        return (x.mean((2, 3)) @ self.a.T).relu() @ self.b.T


class Changing(Net):
    """Replaces a layer of its own every time it runs."""

    def forward(self, x):
        with torch.no_grad():
            self.hidden = nn.Linear(6, 8)
        return self.plain(x)


class Growing(Net):
    def forward(self, x):
        self.add_module(f"more{len(self._modules)}", nn.Linear(4, 4))
        return self.plain(x)


class Drifting(Net):
    """Adds to a weight whenever it runs."""

    def forward(self, x):
        with torch.no_grad():
            self.head.bias.add_(1.0)
        return self.plain(x)


class Switching(Net):
    """Puts itself into train mode."""

    def forward(self, x):
        self.train()
        return self.plain(x)


def _raise(error):
    def around(net, x):
        raise error

    return around


def _after(calls, then):
    """Something else from a certain call on."""

    def build():
        seen = [0]

        def around(net, x):
            seen[0] += 1
            return then(net, x) if seen[0] > calls else net.plain(x)

        return Net(around)

    return build


def _remembering(net, x):
    CALLS[0] += 1
    return net.plain(x) * (1 + CALLS[0] % 3)


def _filled(value, *names):
    def change(net):
        with torch.no_grad():
            for name in names or ("conv.weight",):
                net.get_parameter(name).fill_(value)

    return change


def _one(value):
    def change(net):
        with torch.no_grad():
            net.hidden.weight[0, 0] = value

    return change


def _buffer(net):
    net.norm.running_var[0] = torch.nan


def _half_of_it(kind):
    def change(net):
        net.next.to(kind)
        net.hidden.to(kind)

    return change


def _frozen(net):
    net.requires_grad_(False)


def _with_grads(net):
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)


def _shared(net):
    net.again = nn.Linear(6, 8)
    net.again.weight = net.hidden.weight
    net.around = lambda net, x: net.head(net.hidden(net.trunk(x)) + net.again(net.trunk(x)))


def _hooked(net):
    net.hidden.register_forward_hook(lambda module, inputs, output: output * 2)


def _bad_hook(net):
    net.hidden.register_forward_hook(_raise(KeyError("hook")))


def _pre_hook(net):
    net.conv.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 0.5,))


def _masked(net):
    masks.random_unstructured(net.conv, "weight", 0.5)


def _normed(net):
    parametrizations.weight_norm(net.hidden)


def _spectral(net):
    parametrizations.spectral_norm(net.hidden)


def _replaced(net):
    net.hidden.forward = lambda x: x.repeat(1, 2)[:, :8]


def _no_hidden(net):
    net.hidden = None


def _lambda_attribute(net):
    net.fun = lambda x: x
    net.lock = __import__("threading").Lock()


def _generator_attribute(net):
    net.stream = (n for n in range(3))


def _changed(*changes):
    def build():
        net = Net()
        for change in changes:
            change(net)
        return net

    return build


def _inference():
    with torch.inference_mode():
        return Net()


def _meta():
    with torch.device("meta"):
        return Net()


def _half_meta():
    net = Net()
    net.head = nn.Linear(8, 4, device="meta")
    return net


def _lazy():
    return nn.Sequential(nn.LazyConv2d(8, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(4))


def _cast(kind):
    return lambda: Net().to(kind)


def _in_train():
    return Net().train()


def _non_leaf():
    net = Net()
    weight = net.hidden.weight * 2
    del net.hidden.weight
    net.hidden.weight = weight
    return net


def _around(function):
    return lambda: Net(function)


def _sequential(*layers):
    return lambda: nn.Sequential(*(layer() for layer in layers))


def _flat(*layers):
    return _sequential(lambda: nn.AdaptiveAvgPool2d(1), nn.Flatten, *layers)


NETWORKS = {
    "sound": Net,
    "in train mode": _in_train,
    # weights
    "one NaN": _changed(_one(torch.nan)),
    "one infinity": _changed(_one(torch.inf)),
    "NaN in a buffer": _changed(_buffer),
    "all NaN": _changed(_filled(torch.nan, "conv.weight", "hidden.weight")),
    "zero convolution": _changed(_filled(0.0)),
    "all zero": _changed(_filled(0.0, *(n for n, _ in Net().named_parameters()))),
    "zero head": _changed(_filled(0.0, "head.weight", "head.bias")),
    "ones": _changed(_filled(1.0, "conv.weight", "next.weight", "hidden.weight")),
    "huge": _changed(_filled(1e30)),
    "largest": _changed(_filled(3e38, "hidden.weight")),
    "huge all along": _changed(_filled(1e18, "conv.weight", "next.weight", "hidden.weight")),
    "huge head": _changed(_filled(1e30, "head.weight")),
    "denormal": _changed(_filled(1e-42)),
    "tiny": _changed(_filled(1e-30, "conv.weight", "next.weight", "hidden.weight")),
    "negative variance": _changed(lambda net: net.norm.running_var.fill_(-5.0)),
    "zero variance": _changed(lambda net: net.norm.running_var.fill_(0.0)),
    "huge statistics": _changed(lambda net: net.norm.running_mean.fill_(1e30)),
    "dead units": _changed(_filled(-1e3, "conv.bias"), _filled(-1e3, "norm.bias")),
    # types and places
    "half": _cast(torch.float16),
    "bfloat16": _cast(torch.bfloat16),
    "double": _cast(torch.float64),
    "complex": _cast(torch.complex64),
    "half of it half": _changed(_half_of_it(torch.float16)),
    "half of it double": _changed(_half_of_it(torch.float64)),
    "meta": _meta,
    "partly meta": _half_meta,
    "lazy": _lazy,
    "made in inference mode": _inference,
    "frozen": _changed(_frozen),
    "with gradients": _changed(_with_grads),
    "weight computed before": _non_leaf,
    "a weight of None": _changed(lambda net: setattr(net.hidden, "weight", None)),
    "a layer of None": _changed(_no_hidden),
    "empty weight": _changed(lambda net: setattr(net, "empty", nn.Parameter(torch.empty(0)))),
    "no outputs": _flat(lambda: nn.Linear(3, 8), nn.ReLU, lambda: nn.Linear(8, 0)),
    "no units": _flat(lambda: nn.Linear(3, 0), nn.ReLU, lambda: nn.Linear(0, 4)),
    "integer buffer": _changed(lambda net: net.register_buffer("steps", torch.tensor(3))),
    "mask of infinity": _changed(
        lambda net: net.register_buffer("mask", torch.full((3,), -torch.inf))
    ),
    # kinds
    "scripted": lambda: torch.jit.script(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3))),
    "traced": lambda: torch.jit.trace(Net().eval(), torch.randn(1, 3, 6, 6)),
    "compiled": lambda: torch.compile(Net()),
    "parallel": lambda: nn.DataParallel(Net()),
    "quantised": lambda: nn.Sequential(torch.ao.nn.quantized.ReLU6(), nn.Linear(3, 3)),
    "masked": _changed(_masked),
    "weight norm": _changed(_normed),
    "spectral norm": _changed(_spectral),
    "shared weight": _changed(_shared),
    "own linear": _changed(lambda net: setattr(net, "hidden", OwnLinear(6, 8))),
    "bare weights": Scaled,
    "forward of its own": _changed(_replaced),
    "no forward": NoForward,
    "not to be copied": NotCopied,
    "a lock": _changed(_lambda_attribute),
    "a generator": _changed(_generator_attribute),
    "a broken property": SlottedProperty,
    "no layers": nn.Identity,
    "one layer": _flat(lambda: nn.Linear(3, 4)),
    "empty sequence": nn.Sequential,
    "module list": lambda: nn.ModuleList([nn.Linear(3, 4)]),
    "a class": lambda: Net,
    "a function": lambda: torch.relu,
    "None": lambda: None,
    "text": lambda: "resnet18",
    "a state": lambda: Net().state_dict(),
    "a list of networks": lambda: [Net()],
    # hooks
    "a hook that changes": _changed(_hooked),
    "a hook that fails": _changed(_bad_hook),
    "a hook before": _changed(_pre_hook),
    # outputs
    "None out": _around(lambda net, x: (net.plain(x), None)[1]),
    "text out": _around(lambda net, x: str(net.plain(x).shape)),
    "float out": _around(lambda net, x: float(net.plain(x).sum())),
    "list out": _around(lambda net, x: list(net.plain(x))),
    "generator out": _around(lambda net, x: (row for row in net.plain(x))),
    "tuple and None out": _around(lambda net, x: (net.plain(x), None)),
    "dict out": _around(lambda net, x: {"logits": net.plain(x), "names": ["a"]}),
    "data class out": _around(lambda net, x: Output(net.plain(x), net.trunk(x))),
    "numpy out": _around(lambda net, x: net.plain(x).detach().numpy()),
    "classes out": _around(lambda net, x: net.plain(x).argmax(1)),
    "NaN out": _around(lambda net, x: net.plain(x) * torch.nan),
    "infinity out": _around(lambda net, x: net.plain(x) / 0),
    "input out": _around(lambda net, x: (net.plain(x), x)[1]),
    "scalar out": _around(lambda net, x: net.plain(x).sum()),
    "empty out": _around(lambda net, x: net.plain(x)[:, :0]),
    "no batch out": _around(lambda net, x: net.plain(x).mean(0)),
    "sparse out": _around(lambda net, x: net.plain(x).to_sparse()),
    "complex out": _around(lambda net, x: torch.complex(net.plain(x), net.plain(x))),
    # forwards
    "fails": _around(_raise(RuntimeError("out of order"))),
    "fails without words": _around(_raise(ValueError())),
    "fails an assertion": _around(_raise(AssertionError())),
    "stops": _around(_raise(StopIteration())),
    "fails later": _after(2, _raise(OSError("gone"))),
    "fails much later": _after(12, _raise(OSError("gone"))),
    "fails at the end": _after(30, _raise(OSError("gone"))),
    "None later": _after(3, lambda net, x: None),
    "NaN later": _after(4, lambda net, x: net.plain(x) * torch.nan),
    "other shapes later": _after(3, lambda net, x: net.plain(x)[:, :2]),
    "random": _around(lambda net, x: net.plain(x) + torch.rand(4)),
    "random branch": _around(lambda net, x: net.plain(x if torch.rand(()) < 0.5 else 2 * x)),
    "remembers its calls": _around(_remembering),
    "by the data": _around(lambda net, x: net.plain(x) if x.mean() > 0 else net.plain(x).exp()),
    "by the batch": _around(lambda net, x: net.plain(x) if len(x) > 1 else net.plain(x) * 2),
    "in place": _around(lambda net, x: net.plain(x.mul_(0.5))),
    "detached": _around(lambda net, x: net.plain(x).detach()),
    "no gradients": _around(torch.no_grad()(lambda net, x: net.plain(x))),
    "through numpy": _around(lambda net, x: torch.from_numpy(net.plain(x).detach().numpy())),
    "an item": _around(lambda net, x: net.plain(x) * float(net.trunk(x).sum())),
    "fixed batch": _around(lambda net, x: net.plain(x).view(16, 4)),
    "permuted": _around(lambda net, x: net.head(net.hidden(net.trunk(x)).flip(1).roll(3, 1))),
    "softmax": _around(lambda net, x: net.head(net.hidden(net.trunk(x)).softmax(1))),
    "sorted": _around(lambda net, x: net.head(net.hidden(net.trunk(x)).sort(1).values)),
    "width in forward": _around(lambda net, x: net.head(net.hidden(net.trunk(x)).view(-1, 8))),
    "not used": _around(lambda net, x: x.mean((2, 3))),
    "partly used": _around(lambda net, x: net.trunk(x)),
    "changes a layer": Changing,
    "grows": Growing,
    "drifts": Drifting,
    "goes into train mode": Switching,
    "needs a keyword": NeedsKeyword,
    "needs two inputs": TwoInputs,
    "calls itself": _around(lambda net, x: net(x)),
    "asks for train mode": _around(lambda net, x: net.plain(x) if net.training else x.foo),
}
