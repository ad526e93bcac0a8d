"""Formats of programs: how each is written, and how it is run again from its file."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from mipp.errors import ConfigError, did_you_mean, option
from mipp.inputs import Inputs, call, tensors_of

ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
ONE = "input"  # name of an ONNX program's only input; several have those of the network's forward


@dataclass(frozen=True)
class Kind:
    """One format: its file, the packages it needs beside torch, how to write it and to run it."""

    file: str
    packages: tuple[str, ...]
    write: Callable[[ExportedProgram, Path], None]
    load: Callable[[Path], Callable[[Inputs], Any]]


def require_exportable(kinds: Sequence[str]) -> None:
    """Refuse kinds that there are not, or that lack their packages here.

    Raises
    ------
    ConfigError : names the kind, or the packages and the command that installs them.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise ConfigError(
                f"export kind {kind!r} ({option('kinds')}) is unknown; {did_you_mean(kind, KINDS)}."
            )
        needed = KINDS[kind].packages
        missing = [name for name in needed if importlib.util.find_spec(name) is None]
        if missing:
            raise ConfigError(
                f"export kind {kind!r} ({option('kinds')}) cannot be written here.\nExpected the "
                f"packages {', '.join(needed)}, got no {', '.join(missing)}; run `pip install "
                f"{' '.join(missing)}`, or set {option('kinds')}=['torch']."
            )


def _write_torch(program: ExportedProgram, path: Path) -> None:
    torch.export.save(program, path)


def _load_torch(path: Path) -> Callable[[Inputs], Any]:
    with torch.device("cpu"):  # where the program was made, whatever torch's default device is
        return partial(call, torch.export.load(path).module())


def _write_onnx(program: ExportedProgram, path: Path) -> None:
    signature = program.graph_signature
    inputs, outputs = len(signature.user_inputs), len(signature.user_outputs)
    with warnings.catch_warnings():
        # torch 2.13 copies its own deprecated class while it decomposes the program
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)`", FutureWarning)
        torch.onnx.export(
            program,
            (),
            path,
            input_names=[ONE] if inputs == 1 else None,
            output_names=["output"] if outputs == 1 else None,
            # the first names the axis of all
            dynamic_shapes=({0: "batch"}, *[None] * (inputs - 1))
            if program.range_constraints
            else None,
            dynamo=True,
            external_data=False,  # one file; a network above 2 GB is refused by the format
            verbose=False,
        )


def _load_onnx(path: Path) -> Callable[[Inputs], Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    asked = [known.name for known in session.get_inputs()]

    def run(inputs: Inputs) -> list[Tensor]:
        names = inputs if isinstance(inputs, Mapping) and asked != [ONE] else asked
        arrays = {name: x.numpy() for name, x in zip(names, tensors_of(inputs), strict=True)}
        return [torch.from_numpy(array) for array in session.run(None, arrays)]

    return run


KINDS: Mapping[str, Kind] = {
    "torch": Kind("model.pt2", (), _write_torch, _load_torch),
    "onnx": Kind("model.onnx", ONNX_PACKAGES, _write_onnx, _load_onnx),
}
