"""Networks from disk: the dense one is made, its selection replayed, its weights loaded."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from mipp.checkpoint.calls import KEY, read_calls, require_no_standard_library
from mipp.checkpoint.recipe import FORMAT, Checkpoint
from mipp.copies import unwrapped
from mipp.cut import apply_selection
from mipp.disk.manifest import json_object
from mipp.errors import CheckpointError, CutError, ModelError
from mipp.inputs import Call, Shape, zeros
from mipp.models import ModelSpec, build_model
from mipp.selection.selection import Selection

LARGEST = {"classes": 2**20, "channels": 2**12, "size": 2**13}  # of a network that a file names
MOST_NUMBERS = 2**28  # of one input that a file tells the shape of


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
        fit, its recipe is none, or it was pruned with calls that cannot be found here.

    Example
    -------
    >>> import tempfile, mipp
    >>> from torch import nn
    >>> build = lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "net.safetensors"
    ...     mipp.prune(build(), torch.randn(32, 4), "ratio:0.5").save(path)
    ...     load_checkpoint(path, build).selection.counts()
    {'0': 4}
    """
    recipe, tensors = _read(path)
    spec = _spec(recipe.get("spec"), path)
    shape = _shape(recipe.get("shape"), path)
    selection = _selection(recipe.get("selection"), path)
    model = unwrapped(build()) if build is not None else _dense(path, spec)
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
            f"checkpoint {path} does not fit the network that its recipe rebuilds.\nExpected the "
            f"weights of that network, got: {error}\nUse the build function of the network that "
            "was saved, and the calls= that it was pruned with."
        ) from error
    return Checkpoint(model, spec, selection, shape)


def load(
    path: str | Path, build: Callable[[], nn.Module] | None = None, calls: Sequence[Call] = ()
) -> nn.Module:
    """The network that `Pruned.save`, or a stage of a pipeline, wrote; in eval mode, on the CPU.

    Parameters
    ----------
    build : makes the dense network that was pruned, as a class or a function; a pipeline's file
        names it.
    calls : those that it was pruned with; where none are given, those that the file names.

    Raises
    ------
    CheckpointError : as for `load_checkpoint`.

    Example
    -------
    >>> import tempfile, mipp
    >>> from torch import nn
    >>> build = lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "net.safetensors"
    ...     mipp.prune(build(), torch.randn(32, 4), "ratio:0.5").save(path)
    ...     mipp.load(path, build)[0].out_features
    4
    """
    return load_checkpoint(Path(path), build, calls).model.eval()


def _take_types(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Let each tensor of a network have the type that it was saved with, tied ones included."""
    for name, own in model.state_dict(keep_vars=True).items():
        if name in tensors:
            own.data = own.data.to(tensors[name].dtype)


def _dense(path: Path, spec: ModelSpec | None) -> nn.Module:
    """The network before it was pruned, by its name."""
    mend = "call mipp.load(path, build=MyNet)"
    if spec is None:
        raise CheckpointError(
            f"checkpoint {path} holds a network of your own.\nExpected build= with a function "
            f"that makes the dense network, got none; {mend}."
        )
    require_no_standard_library(spec.name, path)
    try:
        return build_model(spec, seed=0)
    except ModelError as error:
        raise CheckpointError(
            f"checkpoint {path} holds a network that cannot be made here.\n{error}\n"
            f"Start where it can be imported, or {mend}."
        ) from error


def _spec(found: Any, path: Path) -> ModelSpec | None:
    """The network's name and sizes, none larger than parameters may say."""
    if found is None:
        return None
    keys = {field.name for field in fields(ModelSpec)}
    if not isinstance(found, dict) or found.keys() != keys or not isinstance(found["name"], str):
        raise _no_recipe(path, f"a network with {', '.join(sorted(keys))}", found)
    for key, most in LARGEST.items():
        if type(found[key]) is not int or not 0 < found[key] <= most:
            raise _no_recipe(path, f"{key} from 1 to {most}", found[key])
    return ModelSpec(**found)


def _selection(found: Any, path: Path) -> Selection | None:
    if found is None or isinstance(found, str):
        return Selection.from_json(found) if found else None
    raise _no_recipe(path, "a selection's text", found)


def _shape(found: Any, path: Path) -> Shape:
    """JSON's lists as the tuples that they were: of one input, of several, or of named ones."""
    if isinstance(found, dict):
        return {name: _own_shape(part, path) for name, part in found.items()}
    if isinstance(found, list) and any(isinstance(part, list) for part in found):
        return tuple(_own_shape(part, path) for part in found)
    return _own_shape(found, path)


def _own_shape(found: Any, path: Path) -> Shape:
    """Of one tensor: whole numbers, after its type where it is not real."""
    kind = found[:1] if isinstance(found, list) and found and isinstance(found[0], str) else []
    known = all(isinstance(getattr(torch, name, None), torch.dtype) for name in kind)
    axes = found[len(kind) :] if isinstance(found, list) else [None]
    whole = known and all(type(axis) is int and axis >= 0 for axis in axes)
    if not whole or math.prod(axes) > MOST_NUMBERS:
        raise _no_recipe(path, f"an input's shape of at most {MOST_NUMBERS:,} numbers", found)
    return (*kind, *axes)


def _no_recipe(path: Path, expected: str, got: Any) -> CheckpointError:
    return CheckpointError(
        f"checkpoint {path} has a recipe that `save_checkpoint` does not write.\nExpected "
        f"{expected}, got {str(got)[:80]!r}; take the file from where it was saved again."
    )


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"checkpoint {path} cannot be read: {error}.\nExpected a file that "
            "`Pruned.save`, `mipp.save_checkpoint`, `mipp prune` or a stage wrote; write it again."
        ) from error
    recipe = json_object(metadata.get("mipp", "{}").encode(errors="replace"))
    if recipe.get("format") != FORMAT:
        raise CheckpointError(
            f"checkpoint {path} has no recipe.\nExpected safetensors with a {FORMAT} header, "
            f"got {recipe.get('format', 'none')!r}; plain weights are for load_state_dict, or "
            "model.weights of a run."
        )
    return recipe, tensors
