"""Weights from a file into a network, all of them or none."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mipp.errors import CheckpointError

_PARALLEL = "module."  # what nn.DataParallel puts before every name


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Fill the network with the weights of a file: `.safetensors`, or a state dict of `torch.save`.

    A `{"state_dict": ...}` around them and a `module.` before every name are taken off.

    Raises
    ------
    CheckpointError : the file is missing, unreadable, or does not fit the network exactly.
    """
    weights = _read(Path(path))
    if weights and all(name.startswith(_PARALLEL) for name in weights):
        weights = {name.removeprefix(_PARALLEL): value for name, value in weights.items()}
    _check_fits(model, weights, Path(path))
    # `strict` would refuse files older than batch norm's step counter, which nothing here reads.
    model.load_state_dict(weights, strict=False)


def _read(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(
            f"weight file {path} does not exist.\n"
            f"Expected a .safetensors file or a state dict, got nothing at {path.resolve()}.\n"
            "Correct model.weights, or set it to null to start from random weights."
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        _require_stored(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (
        SafetensorError,
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        OSError,
        LookupError,
        ValueError,
        TypeError,
        AttributeError,
        zipfile.BadZipFile,
    ) as error:
        raise _unreadable(path, str(error).partition("\n")[0] or type(error).__name__) from error
    return _state_dict(content, path)


def _state_dict(content: Any, path: Path) -> Mapping[str, Tensor]:
    inner = content.get("state_dict", content) if isinstance(content, Mapping) else content
    if not isinstance(inner, Mapping):
        raise _unreadable(path, f"a {type(inner).__name__}")
    for name, value in inner.items():
        if not isinstance(name, str):
            raise _unreadable(path, f"the key {name!r}, which is no name")
        if not isinstance(value, Tensor):
            raise _unreadable(path, f"a {type(value).__name__} under {name!r}")
        if kind := _without_numbers(value):
            raise _unreadable(path, f"a {kind} tensor under {name!r}")
    return inner


def _without_numbers(value: Tensor) -> str:
    """What a tensor is that does not simply hold its numbers; empty where it does."""
    if value.is_quantized:
        return "quantised"
    if value.layout is not torch.strided:
        return str(value.layout).removeprefix("torch.")
    return "meta" if value.is_meta else ""


def _require_stored(path: Path) -> None:
    """Refuse an archive that unpacks to more than it is; `torch.save` compresses nothing.

    Raises
    ------
    RuntimeError : it does.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > path.stat().st_size:
            raise RuntimeError(f"{path.stat().st_size} bytes that unpack to {size}")


def _unreadable(path: Path, got: str) -> CheckpointError:
    return CheckpointError(
        f"weight file {path} cannot be read.\n"
        f"Expected a .safetensors file or a state dict of tensors, got: {got}.\n"
        "Write it with torch.save(model.state_dict(), path); pickled modules are never loaded."
    )


def _check_fits(model: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    own = model.state_dict()
    missing = [n for n in own if n not in weights and not n.endswith("num_batches_tracked")]
    unexpected = [name for name in weights if name not in own]
    misshaped = [
        f"{name} (expected {tuple(own[name].shape)}, got {tuple(weights[name].shape)})"
        for name in own
        if name in weights and own[name].shape != weights[name].shape
    ]
    cast = [
        f"{name} (expected {own[name].dtype}, got {weights[name].dtype})"
        for name in own
        if name in weights and _kind(own[name]) != _kind(weights[name])
    ]
    found = {
        "missing": missing,
        "unexpected": unexpected,
        "of another shape": misshaped,
        "of another kind of numbers": cast,
    }
    if any(found.values()):
        lines = "; ".join(f"{kind}: {_first(names)}" for kind, names in found.items() if names)
        raise CheckpointError(
            f"weight file {path} does not fit the model.\n"
            f"Expected its {len(own)} tensors, got {len(weights)}; {lines}.\n"
            "Set model.name and data to what these weights were trained for."
        )


def _kind(tensor: Tensor) -> tuple[bool, bool]:
    """Whether numbers are complex, and floating: what no copy from one to the other keeps."""
    return tensor.is_complex(), tensor.is_floating_point()


def _first(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
