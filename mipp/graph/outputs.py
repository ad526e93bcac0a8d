"""What becomes of the outputs of layers: the sums they go into, and what a ReLU alone reads.

y = norm(conv(x)); z = y + skip; relu(z)      conv: one sum, without a partner; rectified
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from mipp.inputs import tensors_in

RECTIFIERS = ("relu", "relu_")


class Outputs:
    """Knows of each tensor which layers' outputs it is, up to the first operator that reads it.

    A layer's output is what its batch-norm makes of it where one follows.
    """

    def __init__(self) -> None:
        self._made: dict[int, tuple[frozenset[str], Tensor]] = {}  # the tensor is kept alive
        self._alone: set[int] = set()  # tensors that are one layer's output, and no sum yet
        self._calls: dict[str, int] = {}
        self._sums: dict[str, list[str]] = {}
        self._rectified: set[str] = set()
        self._spoilt: set[str] = set()

    @property
    def sums(self) -> dict[str, str]:
        """Layers that run once and are added to one tensor, and the layer that makes that one."""
        once = {layer: others for layer, others in self._sums.items() if len(others) == 1}
        return {layer: other for layer, [other] in once.items() if self._calls[layer] == 1}

    @property
    def rectified(self) -> frozenset[str]:
        """Layers whose outputs a ReLU alone reads, as they are or in the one sum they go into."""
        several = self._sums.keys() - self.sums.keys()
        return frozenset(self._rectified - self._spoilt - several)

    def put(self, layer: str, output: Any) -> None:
        """From here on this is the output of a layer."""
        if isinstance(output, Tensor):
            self._put(frozenset([layer]), output)
            self._alone.add(id(output))
            self._calls[layer] = self._calls.get(layer, 0) + 1

    def spoil(self, tensors: Iterable[Tensor]) -> None:
        """Something else than a ReLU reads these."""
        for tensor in tensors:
            self._spoilt |= self._layers(tensor)

    def spoil_as(self, other: Outputs) -> None:
        """Something else than a ReLU reads what it reads in another call."""
        self._spoilt |= other._spoilt

    def follow(self, function: Any, args: Any, kwargs: Any, output: Any) -> None:
        """An operator has read and made tensors."""
        operands = tensors_in((args, kwargs))
        read = [tensor for tensor in operands if id(tensor) in self._made]
        if not read:
            return
        layers = frozenset().union(*map(self._layers, read))
        if getattr(function, "__name__", "").partition(".")[0] in RECTIFIERS:
            self._rectified |= layers
        elif is_plain_sum(function, args, kwargs):
            for mine, other in (args, args[::-1]):
                if id(mine) in self._alone:
                    [layer] = self._layers(mine)
                    self._sums.setdefault(layer, []).append(self._layer(other))
            self._put(layers, output)
            return
        else:
            self.spoil(read)
        for tensor in tensors_in(output):  # in place, the same tensor is now something else
            self._forget(tensor)

    def _put(self, layers: frozenset[str], tensor: Tensor) -> None:
        self._forget(tensor)
        self._made[id(tensor)] = (layers, tensor)

    def _forget(self, tensor: Tensor) -> None:
        self._made.pop(id(tensor), None)
        self._alone.discard(id(tensor))

    def _layers(self, tensor: Tensor) -> frozenset[str]:
        return self._made[id(tensor)][0] if id(tensor) in self._made else frozenset()

    def _layer(self, tensor: Tensor) -> str:
        """The layer whose output a tensor is, empty for a sum and for what none makes."""
        return next(iter(self._layers(tensor))) if id(tensor) in self._alone else ""


def is_plain_sum(operator: Any, args: tuple[Any, ...], kwargs: Any) -> bool:
    """Whether an ATen operator adds two tensors of one shape and type, in place or not."""
    return (
        getattr(operator, "_schema", None) is not None
        and operator._schema.name in ("aten::add", "aten::add_")
        and len(args) == 2
        and all(isinstance(side, Tensor) for side in args)
        and args[0].shape == args[1].shape
        and args[0].dtype == args[1].dtype
        and (kwargs or {}).get("alpha", 1) == 1
    )
