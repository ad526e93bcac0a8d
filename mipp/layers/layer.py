"""What everything else asks of a layer, with an answer that suits most kinds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from mipp.layers.answers import Cost, Heads, IntArray, LinearMap, Side, Statistics, Window
from mipp.layers.weights import make_plain, replace_weight, write_weight

Role = Literal["makes", "carries", "both", "fixed", "parts"]
SideName = Literal["inputs", "outputs"]


class Layer:
    """An adapter: what is known of one module of some kind. Derive from it and `register_layer`.

    A kind says at least its `types`, its `role` and its `outputs`, and its `inputs` where they
    are others; what it does not say has an answer that suits most.

    >>> class Scale(nn.Module):
    ...     def __init__(self, channels):
    ...         super().__init__()
    ...         self.factors = nn.Parameter(torch.ones(channels))
    ...     def forward(self, x):
    ...         return x * self.factors[:, None, None]
    >>> class ScaleLayer(Layer):
    ...     types, kind, role = (Scale,), "scale", "carries"
    ...     @property
    ...     def outputs(self):
    ...         return Side(len(self.module.factors), tensors={"factors": 0})
    >>> scale = Scale(5)
    >>> ScaleLayer(scale).cut("outputs", np.array([1, 2]))
    >>> scale.factors.shape
    torch.Size([3])
    """

    types: ClassVar[tuple[type | str, ...]] = ()  # classes, or where to find them: "package.Class"
    kind: ClassVar[str] = ""
    # makes: reads features and makes others; carries: its outputs are its inputs' features;
    # both: makes each unit of outputs from its own unit of inputs; fixed: neither side can be cut;
    # parts: has no features of its own, but its parts have, or its parameters as such
    role: ClassVar[Role] = "makes"
    # Functions and operators of torch that do this layer's work, by name, where a subclass may
    # lay out axes or bend outputs around them; none: a call of the module is the work.
    operators: ClassVar[frozenset[str]] = frozenset()
    weight: ClassVar[str | None] = None  # of the linear map
    bias: ClassVar[str | None] = None
    filters: ClassVar[str | None] = None  # what makes the outputs and is trained
    inner: ClassVar[bool] = False  # its map is inside of it: its outputs are not the map's
    names_groups: ClassVar[bool] = True  # whether a group may bear its name

    def __init__(self, module: Any) -> None:
        self.module: Any = module

    @classmethod
    def fits(cls, module: Any) -> bool:
        """Whether a module of these types is one of this kind."""
        return True

    # Sides

    @property
    def outputs(self) -> Side:
        """The side that is read by others."""
        raise NotImplementedError

    @property
    def inputs(self) -> Side:
        """The side that is read."""
        return self.outputs

    @property
    def couples(self) -> bool:
        """Whether its statistics run over features; see `on_kept`."""
        return False

    @property
    def whole_because(self) -> str:
        """What to add where it is said that the layer keeps what it reads whole."""
        return ""

    # Cutting

    def cut(self, side: SideName, gone: IntArray) -> None:
        """Remove features of one side from the module, in place; of a carrier from both."""
        if side == "inputs" and self.role in ("carries", "both"):
            units = np.isin(self.inputs.each(), gone).any(1)
            gone = self.outputs.each()[units].ravel()
            side = "outputs"
        whole = self.inputs if side == "inputs" else self.outputs
        kept = np.setdiff1d(np.arange(whole.features), gone)
        for name, axis in whole.tensors.items():
            keep_indices(self.module, name, kept, axis)
        for name in whole.sizes:
            size = getattr(self.module, name)
            setattr(self.module, name, size * len(kept) // whole.features)

    def settle(self) -> None:
        """Make the module agree with what else in its network was cut, parts of it among them."""

    # Cost

    @property
    def cost(self) -> Cost:
        """Parameters by what they grow with."""
        if self.role == "fixed":
            return Cost(1, 1)
        outputs = self.outputs.features
        if self.filters is None:
            own = sum(p.numel() for p in self.module.parameters(recurse=False))
            return Cost(1, outputs, per_output=own // outputs)
        weight = getattr(self.module, self.filters)
        inputs = self.inputs.features if self.role == "makes" else 1
        has_bias = self.bias is not None and getattr(self.module, self.bias) is not None
        return Cost(inputs, outputs, weight.numel(), int(has_bias))

    # One call

    def sides(self, inputs: tuple[Any, ...], output: Any) -> tuple[Tensor, Tensor]:
        """What a call reads, as rows are sampled from it, and what the linear map makes of it."""
        return inputs[0], output

    def made_shape(self, inputs: tuple[Any, ...], output: Any) -> torch.Size:
        """Shape of what the linear map makes in a call."""
        return output.shape  # type: ignore[no-any-return]

    def with_input(self, inputs: tuple[Any, ...], x: Tensor) -> tuple[Any, ...]:
        """The arguments of a call with another input."""
        return (x, *inputs[1:])

    def axis_of(self, x: torch.Size) -> int:
        """Axis of a call's input along which the features lie; a subclass may lay it out anew."""
        side = self.inputs
        return side.axis if x[side.axis] == side.features else x.index(side.features, 1)

    def objection(self, inputs: tuple[Any, ...]) -> str:
        """Why what a call reads cannot be cut, to be added to "it reads it"; empty if it can."""
        return ""

    def images_axis(self, x: Tensor) -> int:
        """Axis of an input along which the images lie."""
        return 0

    @property
    def activates(self) -> bool:
        """Whether a call ends with more than the layer's own work, such as an activation."""
        return False

    def twin(self) -> Callable[..., Any] | None:
        """What computes the same as the module's forward, and lets hooks on its parts run."""
        return None

    # Sampling

    @property
    def sampled(self) -> bool:
        """Whether rows can be sampled, so that its inputs can be selected."""
        return False

    @property
    def window(self) -> Window | None:
        """The places of its input that each place of its output reads; None for a single one."""
        return None

    def positions(self, made: torch.Size) -> int:
        """Number of positions that one image has in what the layer makes, of this shape."""
        return made[2:].numel()

    def rows_read(self, x: Tensor, at: Tensor, made: torch.Size) -> Tensor:
        """Rows (images * rows, features, block) of the input at positions (images, rows)."""
        raise NotImplementedError

    def rows_made(self, y: Tensor, at: Tensor) -> Tensor:
        """Rows (images * rows, outputs) of what the layer makes at positions (images, rows)."""
        raise NotImplementedError

    # Weights

    def by_output(self, values: Tensor) -> Tensor:
        """Values of the shape of the filters, by output: (outputs, others)."""
        assert self.filters is not None
        return values.movedim(self.outputs.tensors[self.filters], 0).flatten(1)

    @property
    def map(self) -> LinearMap | None:
        """The linear map from sampled rows to outputs, if the layer is one."""
        if self.weight is None:
            return None
        weight = getattr(self.module, self.weight)
        bias = None if self.bias is None else getattr(self.module, self.bias)
        return LinearMap(self.laid_out(weight), bias)

    def laid_out(self, weight: Tensor) -> Tensor:
        """A weight as it lies in the module as one of a map, (outputs, features, block)."""
        return weight.reshape(*weight.shape[:2], -1)

    def set_map(self, weight: Tensor, bias: Tensor) -> None:
        """Write a linear map into the module: weight (outputs, inputs), bias where it has one."""
        assert self.weight is not None
        write_weight(self.module, self.weight, weight)
        if self.bias is not None and getattr(self.module, self.bias) is not None:
            write_weight(self.module, self.bias, bias)

    @property
    def statistics(self) -> Statistics | None:
        """Means and variances that the module has taken over batches, and normalises by."""
        return None

    @property
    def factors(self) -> Tensor | None:
        """What multiplies each feature once a batch-norm has brought all to one scale."""
        return None

    def heads(self) -> Heads | None:
        """Attention heads, which are channels that bear the module's name."""
        return None

    @property
    def width(self) -> int:
        """Features that a group which bears the module's name divides among its channels."""
        heads = self.heads()
        if heads is not None:
            return len(next(iter(heads.makes.values())))
        return 0 if self.role == "parts" else self.outputs.features

    def on_kept(self, function: Callable[..., Tensor], args: Any, kwargs: Any, kept: Tensor) -> Any:
        """What an operator of a layer whose statistics run over features gives for some of them.

        Parameters
        ----------
        kept : which features count, bool (features,); the others are zero in the result.
        """
        raise NotImplementedError

    def alone(self) -> None:
        """Remove parts that are layers of their own, so that the module's own work is timed."""


def keep_indices(module: nn.Module, name: str, kept: IntArray, axis: int) -> None:
    """Cut a parameter or a buffer to these indices along an axis; one that is None stays so."""
    make_plain(module, name)
    old = getattr(module, name, None)
    if isinstance(old, Tensor):
        new = old.detach().index_select(axis, torch.from_numpy(kept).to(old.device))
        replace_weight(module, name, new)
