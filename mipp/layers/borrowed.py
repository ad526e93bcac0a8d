"""Linear layers whose weights forward hands to a function, beside those that it calls as modules.

F.linear(x, self.w.weight, self.w.bias)      as self.w(x): what watches modules sees it too
F.linear(x, self.w.weight, bias)             as self.w(x) + bias, such as one of several parameters
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import linear
from torch.overrides import TorchFunctionMode

from mipp.hooked_mode import Hooked


class CallsOfModules(Hooked, TorchFunctionMode):
    """A context in which such a function is a call of the module that holds its weights."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._holders = {id(m.weight): m for m in model.modules() if type(m) is nn.Linear}
        self._running: set[tuple[int, nn.Module]] = set()  # calls by thread

    def hooks(self) -> Iterator[Any]:
        for module in self._holders.values():
            yield module.register_forward_pre_hook(lambda m, _: self._running.add(_here(m)))
            yield module.register_forward_hook(lambda m, *_: self._running.discard(_here(m)))

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function is linear:
            x, weight, bias = _operands(*args, **kwargs)
            module = self._holders.get(id(weight))
            if module is not None and _here(module) not in self._running:
                if module.bias is bias:
                    return module(x)
                if module.bias is None:
                    return module(x) + bias
        return function(*args, **kwargs)


def _here(module: nn.Module) -> tuple[int, nn.Module]:
    return threading.get_ident(), module


def may_borrow(model: nn.Module) -> bool:
    """Whether some forward names both a linear function and a weight; cheap, and never too strict.

    >>> may_borrow(nn.Sequential(nn.Linear(3, 2)))
    False
    """
    kinds = {type(m) for m in model.modules() if not type(m).__module__.startswith("torch.")}
    return any(_names_both(getattr(kind.forward, "__code__", None)) for kind in kinds)


def _names_both(code: Any) -> bool:
    return code is not None and {"linear", "weight"} <= set(code.co_names)


def _operands(
    input: Tensor, weight: Tensor, bias: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """What `linear` is given, by whatever name."""
    return input, weight, bias
