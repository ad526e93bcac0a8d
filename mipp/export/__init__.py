"""Networks as programs that run without mipp and without the network's code.

`formats` writes and runs them, `comparison` holds each against the network.
"""

from __future__ import annotations

import inspect
import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from mipp.copies import copy_of
from mipp.errors import ExportError, reason_of
from mipp.export.comparison import (
    TRACED,
    Answers,
    answer_plainly,
    compare,
    network_answers,
    refused,
)
from mipp.export.formats import KINDS, require_exportable
from mipp.inputs import Inputs, Shape, beside, tensors_of

logger = logging.getLogger(__name__)
# What torch itself brings; the operators of another package are known only where it is imported.
BUILT_IN = ("aten", "prim", "prims", "higher_order")


@dataclass(frozen=True)
class Exported:
    """One program on disk, as `export_network` returns it.

    Example
    -------
    >>> done = Exported("onnx", Path("net/model.onnx"), bytes=2048, batch=None)
    >>> f"{done.path.name}: {done.bytes} bytes, {done.batch or 'any'} inputs at once"
    'model.onnx: 2048 bytes, any inputs at once'
    """

    kind: str  # one of `KINDS`
    path: Path
    bytes: int
    batch: int | None  # the only batch size it takes; None: any


def export_network(
    model: nn.Module,
    inputs: Inputs | Shape,
    folder: str | Path,
    *,
    kinds: Sequence[str] = ("torch",),
) -> tuple[Exported, ...]:
    """Write a network as programs for inference on the CPU, each compared with the network.

    `model.pt2` runs where torch is, by `torch.export.load(path).module()`; `model.onnx` in
    onnxruntime and its like. Both are read back from disk and given inputs; no output may differ
    from the network's by more than the square root of its precision, as a share of the largest
    output (3.5e-4 in float32). The network is left as it was.

    Parameters
    ----------
    model : takes one tensor, several, or several by keyword, and returns a tensor, or tuples,
        lists, dicts and data classes of them; of a data class a program makes a dict.
    inputs : a few examples as forward takes them, the batch axis first: a tensor, a tuple of
        tensors, or a mapping. Or the shape of one, without the batch axis, such as (c, h, w), a
        tuple or mapping of such, after a type where it is not real, such as ("int64", tokens):
        random numbers are drawn then, or zeros.
    folder : where the files go; made if need be.
    kinds : `torch`, `onnx`, or both.

    Returns
    -------
    One entry per kind. A program takes any batch size; where the network allows none but a fixed
    one, it takes single inputs and its entry has `batch` 1.

    Raises
    ------
    ConfigError : a kind is unknown, or packages that it needs are missing.
    ModelError : the network cannot be copied.
    ExportError : the network cannot be exported, or a program's outputs differ.

    Example
    -------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [done] = export_network(nn.Linear(3, 2), (3,), folder)
    >>> done.kind, done.path.name, done.batch
    ('torch', 'model.pt2', None)
    """
    require_exportable(kinds)
    network = copy_of(model).cpu().eval().requires_grad_(False)
    answer_plainly(network)
    answers = network_answers(network, inputs)
    program, batch = _trace(network, answers)
    folder = Path(folder)
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
                raise refused(model, f"cannot be written as {name} ({path})", error) from error
            for size, (batched, expected) in answers.items():
                if batch in (None, size):
                    compare(model, name, run, batched, expected)
            written.replace(path)
        done.append(Exported(name, path, path.stat().st_size, batch))
    return tuple(done)


def _trace(network: nn.Module, answers: Answers) -> tuple[ExportedProgram, int | None]:
    """The network's program and the one batch size that it takes, None for any."""
    batch: int | None = None
    try:
        # A named dimension, unlike an automatic one, may not be narrowed by what the code does.
        program = _export(network, answers[TRACED][0], Dim("batch", min=1))
    except Exception as narrowed:  # or not traceable at all, which the second try tells
        batch = 1
        name, reason = type(network).__name__, reason_of(narrowed)
        logger.info("the program of %s takes single inputs only: %s", name, reason)
        try:
            program = _export(network, answers[batch][0])
        except Exception as error:
            raise refused(network, "cannot be traced by torch.export", error) from error
    foreign = _foreign_operators(program)
    if foreign:
        raise ExportError(
            f"network {type(network).__name__} cannot be exported.\nExpected operators of torch "
            f"alone, got {', '.join(foreign)}, which a program does not carry with it; write them "
            "with torch's own, or leave the export out."
        )
    return program, batch


def _export(network: nn.Module, inputs: Inputs, batch: Dim | None = None) -> ExportedProgram:
    axis = None if batch is None else {0: batch}
    if isinstance(inputs, Mapping):
        given: tuple[Any, ...] = (), dict(inputs)
        named = given[1]
    else:
        given = (tuple(tensors_of(inputs)),)
        named = inspect.signature(network.forward).bind(*given[0]).arguments
    shapes = {  # in a tuple where forward takes (*inputs)
        name: (axis,) * len(one) if isinstance(one, tuple) else axis for name, one in named.items()
    }
    with beside(inputs):
        return torch.export.export(network, *given, dynamic_shapes=shapes)


def _foreign_operators(program: ExportedProgram) -> list[str]:
    """Operators that another package registers, which a reader would have to import."""
    graphs = [m for m in program.graph_module.modules() if isinstance(m, torch.fx.GraphModule)]
    targets = {n.target for m in graphs for n in m.graph.nodes if n.op == "call_function"}
    return sorted(
        str(target) for target in targets if getattr(target, "namespace", "aten") not in BUILT_IN
    )
