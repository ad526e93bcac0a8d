"""Networks from disk: the dense one is made, its selection replayed, its weights loaded."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from mipp.checkpoint.calls import KEY, read_calls
from mipp.checkpoint.recipe import FORMAT, Checkpoint
from mipp.cut import apply_selection
from mipp.errors import CheckpointError, CutError, ModelError
from mipp.inputs import Call, Shape, zeros
from mipp.models import ModelSpec, build_model
from mipp.selection.selection import Selection


def load_checkpoint(
    path: Path, build: Callable[[], nn.Module] | None = None, calls: Sequence[Call] = ()
) -> Checkpoint:
    """The network that `save_checkpoint` wrote, rebuilt by replaying its selection.

    Parameters
    ----------
    build : makes the dense network, for one that `mipp.prune` was given without a name.
    calls : those that it was pruned with; where none are given, those that the file names.

    Raises
    ------
    CheckpointError : the file is missing or was not written by `save_checkpoint`, its network
        has no name, or one that is not found here, and no `build` is given, the weights do not
        fit, or it was pruned with calls that cannot be found here.
    """
    recipe, tensors = _read(path)
    spec = ModelSpec(**recipe["spec"]) if recipe["spec"] else None
    model = build() if build is not None else _dense(path, spec)
    shape = _shape(recipe["shape"])
    selection = Selection.from_json(recipe["selection"]) if recipe["selection"] else None
    try:
        if selection is not None:
            calls = calls or read_calls(selection.provenance.get(KEY, ""), path)
            dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), None)
            model = apply_selection(model, selection, zeros(shape, dtype=dtype), calls)
        state = OrderedDict(tensors)
        # versions of modules, which some (MNASNet) insist on and safetensors does not keep
        state._metadata = model.state_dict()._metadata  # type: ignore[attr-defined]
        _take_types(model, tensors)
        model.load_state_dict(state)
    except (RuntimeError, CutError) as error:
        raise CheckpointError(
            f"checkpoint {path} does not fit the network that its recipe rebuilds.\n{error}\n"
            "Use the build function of the network that was saved, and the calls= that it was "
            "pruned with."
        ) from error
    return Checkpoint(model, spec, selection, shape)


def _take_types(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Let each tensor of a network have the type that it was saved with, tied ones included."""
    for name, own in model.state_dict(keep_vars=True).items():
        if name in tensors:
            own.data = own.data.to(tensors[name].dtype)


def _dense(path: Path, spec: ModelSpec | None) -> nn.Module:
    """The network before it was pruned, by its name."""
    mend = "call load_checkpoint(path, build=MyNet)"
    if spec is None:
        raise CheckpointError(
            f"checkpoint {path} holds a network of your own.\nExpected build= with a function "
            f"that makes the dense network, got none; {mend}."
        )
    try:
        return build_model(spec, seed=0)
    except ModelError as error:
        raise CheckpointError(
            f"checkpoint {path} holds a network that cannot be made here.\n{error}\n"
            f"Start where it can be imported, or {mend}."
        ) from error


def _shape(found: Any) -> Shape:
    """JSON's lists as the tuples that they were."""
    if isinstance(found, dict):
        return {name: tuple(part) for name, part in found.items()}
    return tuple(tuple(part) if isinstance(part, list) else part for part in found)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"checkpoint {path} cannot be read: {error}.\nExpected a file written by "
            "`mipp train`, `mipp prune` or `mipp finetune`; run that stage again."
        ) from error
    recipe: dict[str, Any] = json.loads(metadata.get("mipp", "{}"))
    if recipe.get("format") != FORMAT:
        raise CheckpointError(
            f"checkpoint {path} has no recipe.\nExpected safetensors with a {FORMAT} header, "
            f"got {recipe.get('format', 'none')!r}; give plain weights as model.weights instead."
        )
    return recipe, tensors
