"""What the zoo reads off a network, counted by torch and not by this project."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.validation.networks.network import Network
from mipp.evaluation import evaluating
from mipp.inputs import Inputs, call, each, tensors_in

IDENTICAL = 1e-9  # as a share of the largest output, in double precision
SINGLE = 1e-4  # where forward makes tensors of single precision, so that it runs in no other


def built(network: Network) -> nn.Module:
    """The network in eval mode, without a zero or a one that a mistake could hide behind."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = network.build().eval()
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(getattr(module, "running_mean", None), Tensor):
            module.running_mean.normal_(std=0.3, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    for parameter in model.parameters():
        constant = bool((parameter == parameter.flatten()[:1]).all())
        if constant and parameter.numel() > 1:  # a norm's ones, zeroed biases, layer scales
            near = float(parameter.detach().flatten()[0])
            near = 0 if near == 0 else max(0.5, near)
            drawn = torch.randn(parameter.shape, generator=generator)
            parameter.data.copy_(near + 0.02 * drawn)
    return model


@contextlib.contextmanager
def plainly() -> Iterator[None]:
    """No fused operators, which torch's counter does not know."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own, of the flags that it sets here
            with sdpa_kernel(SDPBackend.MATH), torch.backends.mkldnn.flags(enabled=False):
                yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def flops(model: nn.Module, inputs: Inputs) -> int:
    """Floating-point operations of the outputs, by torch's counter."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:  # the counter follows gradients
        parameter.requires_grad_(False)
    try:
        with torch.no_grad(), plainly(), FlopCounterMode(display=False) as counter:
            call(model, inputs)
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
    return int(counter.get_total_flops())


def doubled(inputs: Inputs) -> Inputs:
    """Real tensors in double precision."""
    return each(inputs, lambda tensor: tensor.double() if tensor.is_floating_point() else tensor)


def outputs(model: nn.Module, inputs: Inputs) -> list[Tensor]:
    """All real tensors that come out."""
    with torch.no_grad(), evaluating(model):
        return [out for out in tensors_in(call(model, inputs)) if out.is_floating_point()]


def farthest(found: list[Tensor], expected: list[Tensor]) -> float:
    """The largest difference, as a share of each output's largest value; infinite if shapes do."""
    if [out.shape for out in found] != [out.shape for out in expected]:
        return float("inf")
    shares = [
        float((one - other).abs().max() / other.abs().max().clamp(min=1e-300))
        for one, other in zip(found, expected, strict=True)
    ]
    return max(shares) if all(share == share for share in shares) else float("inf")


def trains(model: nn.Module, inputs: Inputs) -> bool:
    """Whether, in train mode, every parameter that is used gets a finite gradient."""
    model.train()
    model.zero_grad()
    found = [out for out in tensors_in(call(model, inputs)) if out.is_floating_point()]
    torch.stack([out.square().mean() for out in found]).sum().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    model.eval()
    return bool(gradients) and all(bool(g.isfinite().all()) for g in gradients)
