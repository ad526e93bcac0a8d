"""Networks as programs that run without mipp and without the network's code."""

from __future__ import annotations

import copy
import importlib.util
import logging
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from mipp.device import dtype_of
from mipp.errors import ConfigError, ExportError, did_you_mean, reason_of

logger = logging.getLogger(__name__)
TRACED = 2  # images: of a single one torch.export takes the batch size for a constant
OTHERS = (1, 3)  # further batch sizes that a program is compared at
# What torch itself brings; the operators of another package are known only where it is imported.
BUILT_IN = ("aten", "prim", "prims", "higher_order")
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class Exported:
    """One program on disk."""

    kind: str  # one of `KINDS`
    path: Path
    bytes: int
    batch: int | None  # the only batch size it takes; None: any


@dataclass(frozen=True)
class Kind:
    """One format: its file, the packages it needs beside torch, how to write it and to run it."""

    file: str
    packages: tuple[str, ...]
    write: Callable[[ExportedProgram, Path], None]
    load: Callable[[Path], Callable[[Tensor], Any]]


def export_network(
    model: nn.Module, shape: Sequence[int], folder: Path, *, kinds: Sequence[str] = ("torch",)
) -> tuple[Exported, ...]:
    """Write a network as programs for inference on the CPU, each compared with the network.

    `model.pt2` runs where torch is, by `torch.export.load(path).module()`; `model.onnx` in
    onnxruntime and its like. Both are read back from disk and given random inputs; no output may
    differ from the network's by more than the square root of its precision, as a share of the
    largest output (3.5e-4 in float32). The network is left as it was.

    Parameters
    ----------
    model : takes one tensor and returns a tensor, or tuples, lists and dicts of them.
    shape : one input without the batch axis, such as (c, h, w).
    folder : where the files go; made if need be.
    kinds : `torch`, `onnx`, or both.

    Returns
    -------
    One entry per kind. A program takes any batch size; where the network allows none but a fixed
    one, it takes single inputs and its entry has `batch` 1.

    Raises
    ------
    ConfigError : a kind is unknown, or packages that it needs are missing.
    ExportError : the network cannot be exported, or a program's outputs differ.
    """
    require_exportable(kinds)
    try:
        network = copy.deepcopy(model).cpu().eval().requires_grad_(False)
    except Exception as error:  # of whatever the network holds
        raise _refused(model, "cannot be copied", error) from error
    answers = _answers(network, shape)
    program, batch = _trace(network, answers)
    folder.mkdir(parents=True, exist_ok=True)
    done = []
    for name in dict.fromkeys(kinds):
        kind, path = KINDS[name], folder / KINDS[name].file
        with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as partial:
            written = Path(partial) / kind.file
            try:
                kind.write(program, written)
                run = kind.load(written)
            except Exception as error:  # exporters raise what they like
                raise _refused(model, f"cannot be written as {name} ({path})", error) from error
            for size, (inputs, expected) in answers.items():
                if batch in (None, size):
                    _compare(model, name, run, inputs, expected)
            written.replace(path)
        done.append(Exported(name, path, path.stat().st_size, batch))
    return tuple(done)


def require_exportable(kinds: Sequence[str]) -> None:
    """Refuse kinds that there are not, or that lack their packages here.

    Raises
    ------
    ConfigError : names the kind, or the packages and the command that installs them.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise ConfigError(
                f"export kind {kind!r} (evaluate.export) is unknown; {did_you_mean(kind, KINDS)}."
            )
        needed = KINDS[kind].packages
        missing = [name for name in needed if importlib.util.find_spec(name) is None]
        if missing:
            raise ConfigError(
                f"export kind {kind!r} (evaluate.export) cannot be written here.\nExpected the "
                f"packages {', '.join(needed)}, got no {', '.join(missing)}; run `pip install "
                f"{' '.join(missing)}`, or set evaluate.export=[torch]."
            )


Answers = Mapping[int, tuple[Tensor, list[Tensor]]]


def _answers(network: nn.Module, shape: Sequence[int]) -> Answers:
    """Batch size -> random inputs of that size and the network's outputs."""
    generator = torch.Generator().manual_seed(0)
    dtype = dtype_of(network)
    answers = {}
    for size in (TRACED, *OTHERS):
        inputs = torch.randn(size, *shape, generator=generator).to(dtype)
        try:
            with torch.no_grad():
                outputs = network(inputs)
        except Exception as error:  # the network's own code
            what = f"does not take {size} inputs of shape {tuple(shape)}"
            raise _refused(network, what, error) from error
        answers[size] = (inputs, _tensors(outputs, network))
    return answers


def _trace(network: nn.Module, answers: Answers) -> tuple[ExportedProgram, int | None]:
    """The network's program and the one batch size that it takes, None for any."""
    batch: int | None = None
    try:
        # A named dimension, unlike an automatic one, may not be narrowed by what the code does.
        program = torch.export.export(
            network, (answers[TRACED][0],), dynamic_shapes=({0: Dim("batch", min=1)},)
        )
    except Exception as narrowed:  # or not traceable at all, which the second try tells
        batch = 1
        name, reason = type(network).__name__, reason_of(narrowed)
        logger.info("the program of %s takes single inputs only: %s", name, reason)
        try:
            program = torch.export.export(network, (answers[batch][0],))
        except Exception as error:
            raise _refused(network, "cannot be traced by torch.export", error) from error
    foreign = _foreign_operators(program)
    if foreign:
        raise ExportError(
            f"network {type(network).__name__} cannot be exported.\nExpected operators of torch "
            f"alone, got {', '.join(foreign)}, which a program does not carry with it; write them "
            "with torch's own, or leave the export out."
        )
    return program, batch


def _foreign_operators(program: ExportedProgram) -> list[str]:
    """Operators that another package registers, which a reader would have to import."""
    graphs = [m for m in program.graph_module.modules() if isinstance(m, torch.fx.GraphModule)]
    targets = {n.target for m in graphs for n in m.graph.nodes if n.op == "call_function"}
    return sorted(
        str(target) for target in targets if getattr(target, "namespace", "aten") not in BUILT_IN
    )


def _compare(
    model: nn.Module,
    kind: str,
    run: Callable[[Tensor], Any],
    inputs: Tensor,
    expected: Sequence[Tensor],
) -> None:
    """Refuse a program whose outputs are not the network's."""
    where = f"program {kind!r} of network {type(model).__name__}, batch size {len(inputs)}"
    try:
        found = _tensors(run(inputs), model)
    except Exception as error:  # of torch's guards or of onnxruntime
        raise ExportError(
            f"{where}: it does not run.\nExpected the network's outputs, got {reason_of(error)}; "
            "leave this kind out (evaluate.export)."
        ) from error
    shapes = [[tuple(tensor.shape) for tensor in tensors] for tensors in (expected, found)]
    if shapes[0] != shapes[1]:
        raise ExportError(
            f"{where}: its outputs have other shapes.\nExpected {shapes[0]}, got {shapes[1]}; "
            "forward may be random or remember its calls."
        )
    for want, got in zip(expected, found, strict=True):
        exact = not want.is_floating_point()
        scale = float(want.double().abs().max()) if want.numel() else 0.0
        allowed = 0.0 if exact else torch.finfo(want.dtype).eps ** 0.5 * scale
        off = float((want.double() - got.double()).abs().max()) if want.numel() else 0.0
        if not off <= allowed:  # neither is NaN
            raise ExportError(
                f"{where}: its outputs differ from the network's.\nExpected at most {allowed:.2g} "
                f"(largest output {scale:.2g}), got {off:.2g}; forward may be random, depend on "
                "the batch size or give values that are not finite."
            )


def _tensors(outputs: Any, model: nn.Module) -> list[Tensor]:
    """The tensors of an output, in order."""
    if isinstance(outputs, Tensor):
        return [outputs]
    # Exactly these: a subclass, such as a data class of outputs, is the network's own code.
    if type(outputs) in (tuple, list, dict):
        parts = outputs.values() if type(outputs) is dict else outputs
        return [tensor for part in parts for tensor in _tensors(part, model)]
    raise ExportError(
        f"network {type(model).__name__} cannot be exported.\nExpected a tensor, or tuples, lists "
        f"and dicts of tensors, from forward, got {type(outputs).__name__}; wrap the network in a "
        "module that returns its tensors."
    )


def _refused(model: nn.Module, what: str, error: Exception) -> ExportError:
    return ExportError(
        f"network {type(model).__name__} {what}.\nExpected the code of forward to run on any "
        f"input, got {reason_of(error)}\nMend forward, or leave the export out "
        "(evaluate.export=[])."
    )


def _write_torch(program: ExportedProgram, path: Path) -> None:
    torch.export.save(program, path)


def _load_torch(path: Path) -> Callable[[Tensor], Any]:
    return torch.export.load(path).module()


def _write_onnx(program: ExportedProgram, path: Path) -> None:
    single = len(program.graph_signature.user_outputs) == 1
    with warnings.catch_warnings():
        # torch 2.13 copies its own deprecated class while it decomposes the program
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)`", FutureWarning)
        torch.onnx.export(
            program,
            (),
            path,
            input_names=["input"],
            output_names=["output"] if single else None,
            dynamic_shapes=({0: "batch"},) if program.range_constraints else None,
            dynamo=True,
            external_data=False,  # one file; a network above 2 GB is refused by the format
            verbose=False,
        )


def _load_onnx(path: Path) -> Callable[[Tensor], Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(inputs: Tensor) -> list[Tensor]:
        return [torch.from_numpy(array) for array in session.run(None, {"input": inputs.numpy()})]

    return run


KINDS: Mapping[str, Kind] = {
    "torch": Kind("model.pt2", (), _write_torch, _load_torch),
    "onnx": Kind("model.onnx", ONNX_PACKAGES, _write_onnx, _load_onnx),
}
