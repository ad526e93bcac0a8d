"""What a layer's outputs have become when the next layer reads them: normalised, added, bent.

Found with torch.fx: from the layer on, as long as a value has one reader, through normalisation,
addition and dropout up to the first nonlinearity. All of these keep the shape, so that the rows
of a target lie at the same positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Literal

from torch import Tensor, fx, nn
from torch.nn.modules import activation

from mipp.errors import ActivationError
from mipp.evaluation import evaluating
from mipp.graph.kinds import CONSUMERS, LAYER_NORMS, NORMS

Targets = Literal["pre-activation", "activation"]
Observe = Callable[[str, Tensor], None]
Kind = Literal["linear", "bend"]

LINEAR_MODULES = (*NORMS, *LAYER_NORMS, nn.GroupNorm, nn.Identity, nn.modules.dropout._DropoutNd)
BENDS = tuple(
    found
    for found in vars(activation).values()
    if isinstance(found, type)
    and issubclass(found, nn.Module)
    and found not in (nn.Module, nn.MultiheadAttention, nn.GLU)
)
LINEAR_NAMES = {"add", "iadd", "add_", "batch_norm", "layer_norm", "group_norm", "dropout",
                "stochastic_depth", "contiguous"}  # fmt: skip
BEND_NAMES = {"relu", "relu_", "relu6", "leaky_relu", "gelu", "silu", "elu", "celu", "selu", "mish",
              "sigmoid", "tanh", "hardswish", "hardsigmoid", "hardtanh", "softplus", "prelu",
              "softsign", "clamp", "clamp_min"}  # fmt: skip
WATCH = "mipp_watch"


def observed(model: nn.Module, layers: Sequence[str], observe: Observe) -> nn.Module:
    """The same network, which shows what each layer's outputs become whenever it runs.

    It shares every module with the network given. A layer whose outputs are read as they are,
    such as the last one, is not shown; nor is one inside of an attention, or one that runs twice.

    Parameters
    ----------
    layers : names of modules.
    observe : called with a layer's name and the tensor, of the shape of the layer's output.

    Raises
    ------
    ActivationError : torch.fx cannot trace the network, or cannot see a layer in it.
    """
    with evaluating(model):
        graph = _trace(model)
    calls = {layer: _calls_of(graph, layer) for layer in layers if not _inside(model, layer)}
    observers: dict[str, nn.Module] = {}
    for layer, found in calls.items():
        if not found:
            raise _hidden(f"layer {layer!r} is hidden in a module that it does not enter")
        end = _what_becomes_of(model, found[0])
        if len(found) == 1 and end is not found[0]:
            name = f"{WATCH}_{len(observers)}"
            observers[name] = _Observer(layer, observe)
            with graph.inserting_after(end):
                graph.create_node("call_module", name, (end,))
    used = {str(node.target) for node in graph.nodes if node.op in ("call_module", "get_attr")}
    own = {name: attrgetter(name)(model) for name in used - observers.keys()}
    return fx.GraphModule({**own, **observers}, graph)


def _trace(model: nn.Module) -> fx.Graph:
    try:
        return _Tracer().trace(model)
    except Exception as error:
        raise _hidden(f"{type(error).__name__}: {error}") from error


def _hidden(reason: str) -> ActivationError:
    return ActivationError(
        f"extract.targets=activation cannot be had for this network: torch.fx: {reason}.\n"
        "Expected a forward without branches on values, got one whose operations cannot be "
        "followed; set extract.targets=pre-activation."
    )


class _Tracer(fx.Tracer):
    """Does not look into the modules whose rows are read."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, CONSUMERS) or super().is_leaf_module(m, module_qualified_name)


class _Observer(nn.Module):
    """Shows every value to a callback."""

    def __init__(self, layer: str, observe: Observe) -> None:
        super().__init__()
        self._layer, self._observe = layer, observe

    def forward(self, value: Tensor) -> None:
        self._observe(self._layer, value)


def _inside(model: nn.Module, layer: str) -> bool:
    """Whether a layer is an attention or a part of one, which is traced as a whole."""
    parts = layer.split(".")
    names = (".".join(parts[:i]) for i in range(1, len(parts) + 1))
    return any(isinstance(model.get_submodule(name), nn.MultiheadAttention) for name in names)


def _calls_of(graph: fx.Graph, layer: str) -> list[fx.Node]:
    return [node for node in graph.nodes if node.op == "call_module" and node.target == layer]


def _what_becomes_of(model: nn.Module, layer: fx.Node) -> fx.Node:
    """The last node of the norm, sum and nonlinearity that follow a layer."""
    end = layer
    while len(end.users) == 1:
        [following] = end.users
        kind = _kind(model, following)
        if kind is None:
            break
        end = following
        if kind == "bend":
            break
    return end


def _kind(model: nn.Module, node: fx.Node) -> Kind | None:
    """What a node does to its first input, where it keeps every value at its place."""
    if node.op == "call_module":
        module = model.get_submodule(str(node.target))
        if isinstance(module, BENDS):
            return "bend"
        return "linear" if isinstance(module, LINEAR_MODULES) else None
    if node.op not in ("call_function", "call_method"):
        return None
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    if name in BEND_NAMES:
        return "bend"
    return "linear" if name in LINEAR_NAMES else None
