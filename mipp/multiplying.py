"""Multiply-accumulates of operators: torch's own counts, halved, and those that it leaves out.

Torch does not count what its CPU does in one operator: a fused attention, a layer of an LSTM.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from mipp.inputs import tensors_in

ATTENTION = "_scaled_dot_product"  # how operators begin that do all of it


class Multiplications(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A context in which the multiply-accumulates of all operators are added up.

    >>> import torch
    >>> with Multiplications() as counted:
    ...     _ = torch.ones(2, 3) @ torch.ones(3, 5)
    >>> counted.macs
    30
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.macs = 0

    def __enter__(self) -> Self:
        self._fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)  # one operator, which nobody looks into
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        torch.backends.mha.set_fastpath_enabled(self._fast)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        self.macs += macs_of(func, args, kwargs or {}, output)
        return output


def macs_of(func: Any, args: tuple[Any, ...], kwargs: Any, output: Any) -> int:
    """Multiply-accumulates of one call of an operator; none of what only adds or moves."""
    packet = func.overloadpacket
    name = packet.__name__
    if name.startswith(ATTENTION) and "backward" not in name:
        return sum(attention_macs(*tensors_in((args, kwargs))[:3]))
    if name in _UNCOUNTED:
        return int(_UNCOUNTED[name](args, output))
    if packet not in flop_registry:
        return 0
    return int(flop_registry[packet](*args, **kwargs, out_val=output)) // 2


def attention_macs(query: Tensor, key: Tensor, value: Tensor) -> tuple[int, int]:
    """Of scaled dot products: queries with keys, and shares of attention with values."""
    pairs = query.shape[:-1].numel() * key.shape[-2]
    return pairs * query.shape[-1], pairs * value.shape[-1]


def _recurrent(x: Tensor, weights: Sequence[Tensor]) -> int:
    steps = x.shape[:-1].numel()
    return steps * sum(weight.numel() for weight in weights if weight.ndim == 2)


_UNCOUNTED: Mapping[str, Callable[[tuple[Any, ...], Any], int]] = {
    "mkldnn_rnn_layer": lambda args, _: _recurrent(args[0], args[1:3]),
    "_cudnn_rnn": lambda args, _: _recurrent(args[0], args[1]),
    "miopen_rnn": lambda args, _: _recurrent(args[0], args[1]),
    "mv": lambda args, _: args[0].numel(),
    "addmv": lambda args, _: args[1].numel(),
    "dot": lambda args, _: args[0].numel(),
    "addbmm": lambda args, _: args[1].numel() * args[2].shape[2],
    "_trilinear": lambda args, made: made.numel() * args[1][0].numel(),
}
