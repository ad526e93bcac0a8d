"""The check of calibration, above all of its first batch, before any work.

Tensors are moved to the network's device. What forward does not take is refused with what the item
is and one line that makes it right.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mipp.device import device_of, dtype_of
from mipp.errors import DataError, option, reason_of
from mipp.evaluation import evaluating
from mipp.inputs import Inputs, call, each, shape_of, tensors_in, tensors_of
from mipp.pruning.network import described, require_unchanged, versions

EMPTY = 1000  # batches without inputs, one after the other, before a loader is given up
SIDES = (8, 16, 28, 32, 48, 56, 64, 96, 112, 128, 160, 192, 224, 240, 256, 299, 384)  # tried
LOADER = "DataLoader(dataset, batch_size=32, shuffle=True)"


def checked(model: nn.Module, loader: Any) -> Iterator[tuple[Inputs, Any]]:
    """Inputs and labels of every item of a loader; forward was given the first, others are alike.

    Raises
    ------
    DataError : says what it is, and the line that mends it.
    """
    first, empty = None, 0
    for item in _items(loader):
        x, y = _parts(model, item)
        _require_dense(item, x)
        if not tensors_of(x) or not all(tensor.ndim for tensor in tensors_of(x)):
            raise _refused(item, "an axis of images in every tensor", "[x[None] for x in loader]")
        counts = {len(tensor) for tensor in tensors_of(x)}
        if len(counts) > 1 or (isinstance(y, Tensor) and y.ndim and len(y) not in counts):
            raise _refused(item, "as many of everything in a batch", "zip(inputs, labels)")
        if 0 in counts:
            empty += 1
            if empty == EMPTY:
                raise _refused(item, f"inputs, got {EMPTY} batches without any", LOADER)
            continue
        empty = 0
        if first is None:
            _require_runs(model, item, x)
            first = x
        _require_alike(item, x, first)
        yield x, y


def _items(loader: Any) -> Iterable[Any]:
    if isinstance(loader, Tensor):
        return [loader]
    if isinstance(loader, (str, Path)):
        line = f"DataLoader(ImageFolder({str(loader)!r}, transform), batch_size=32, shuffle=True)"
        raise _refused(loader, "batches of tensors, got a path", line)
    if isinstance(loader, torch.utils.data.IterableDataset):
        raise _refused(loader, "batches, got a data set", "DataLoader(dataset, batch_size=32)")
    if isinstance(loader, torch.utils.data.Dataset):
        raise _refused(loader, "batches, got a data set of single inputs", LOADER)
    if isinstance(loader, Mapping):
        raise _refused(loader, "several batches, got a single one", "[batch]")
    if type(loader).__module__ == "numpy":
        raise _refused(loader, "tensors, got an array", "torch.as_tensor(array)")
    try:
        items = iter(loader)
    except TypeError as error:
        raise _refused(loader, "batches to iterate over", LOADER) from error
    return _read(items)


def _read(items: Iterator[Any]) -> Iterator[Any]:
    """The same items; what the loader raises is the cause of what is raised here."""
    for number in count():
        try:
            item = next(items)
        except StopIteration:
            return
        except Exception as error:  # of the loader's own code
            raise DataError(
                f"{option('calibration')} fails: its loader raises {reason_of(error)} at batch "
                f"{number}.\nExpected batches to its end; mend the loader or its data set: "
                "reading it without mipp fails so too."
            ) from error
        yield item


def _require_dense(item: Any, x: Inputs) -> None:
    """Refuse tensors that no network of plain layers takes."""
    for tensor in tensors_of(x):
        if tensor.is_meta:
            raise _refused(item, "tensors with values, got meta ones", LOADER)
        if tensor.is_quantized or tensor.layout is not torch.strided:
            change = "dequantize" if tensor.is_quantized else "to_dense"
            line = f"[(x.{change}(), y) for x, y in loader]"
            raise _refused(item, "plain dense tensors", line)


def _require_alike(item: Any, x: Inputs, first: Inputs) -> None:
    """Refuse inputs of another kind or size than those of the first batch."""
    kinds = [[tensor.dtype for tensor in tensors_of(inputs)] for inputs in (first, x)]
    if shape_of(x) != shape_of(first) or kinds[0] != kinds[1]:
        one = each(first, lambda tensor: tensor[:1])
        raise _refused(
            item,
            f"inputs like those of the first batch, {described(one)} and so on",
            "transforms.Resize((224, 224)) in the data set's transform, or pad to one length",
        )


def _parts(model: nn.Module, item: Any) -> tuple[Any, Any]:
    """An item's inputs and labels, None without."""
    if any(type(part).__module__ == "numpy" for part in _leaves(item)):
        pair = isinstance(item, (tuple, list))
        both = "[(torch.as_tensor(x), torch.as_tensor(y)) for x, y in loader]"
        line = both if pair else "[torch.as_tensor(x) for x in loader]"
        raise _refused(item, "tensors, got arrays", line)
    x, y = item, None
    if isinstance(item, Mapping):
        _require_arguments(model, item)
    elif isinstance(item, (tuple, list)):
        if _single_images(item):
            raise _refused(item, *_stacking(item, "[torch.stack(images) for images in loader]"))
        x, y = (*item, None, None)[:2]
    if isinstance(x, list) and _single_images(x) and len(x) != _takes(model):
        line = "[(torch.stack(x), y) for x, y in loader]"
        raise _refused(item, *_stacking(x, line))
    if isinstance(x, Mapping):
        _require_arguments(model, x)
    tensors = [x] if isinstance(x, Tensor) else x
    tensors = list(tensors.values()) if isinstance(tensors, Mapping) else tensors
    if not isinstance(tensors, (list, tuple)) or not all(isinstance(t, Tensor) for t in tensors):
        pil = any("PIL" in type(part).__module__ for part in _leaves(item))
        line = "ImageFolder(path, transform=transforms.ToTensor())" if pil else LOADER
        raise _refused(item, "tensors as inputs", line)
    return x, y


def _single_images(parts: Any) -> bool:
    """Whether these are images one by one, and not inputs with their labels."""
    tensors = [part for part in parts if isinstance(part, Tensor)]
    return len(parts) > 2 and len(tensors) == len(parts) and all(t.ndim == 3 for t in tensors)


def _stacking(images: Any, line: str) -> tuple[str, str]:
    if len({image.shape for image in images}) > 1:
        return "images of one size", "transforms.Resize((224, 224)) in the data set's transform"
    return "one tensor (n, c, h, w), got single images", line


def _takes(model: nn.Module) -> int:
    """How many tensors forward takes at least."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    listed = inspect.signature(model.forward).parameters.values()
    return sum(p.kind in kinds and p.default is inspect.Parameter.empty for p in listed)


def _require_arguments(model: nn.Module, item: Mapping[Any, Any]) -> None:
    """Refuse a mapping with keys that are no arguments of forward."""
    listed = inspect.signature(model.forward).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in listed.values()):
        return
    if set(item) <= set(listed):
        return
    tensors = {key: part for key, part in item.items() if isinstance(part, Tensor)}
    image = next((key for key, part in tensors.items() if part.ndim > 1), next(iter(item), "x"))
    label = next((key for key, part in tensors.items() if part.ndim == 1), None)
    inner = f"b[{image!r}], b[{label!r}]" if label is not None else f"b[{image!r}], None"
    line = f"[({inner}) for b in loader]"
    raise _refused(item, f"keys that forward takes, {', '.join(listed)}", line)


def _require_runs(model: nn.Module, item: Any, x: Inputs) -> None:
    """Refuse inputs on which forward fails, with what would make it run if that is known."""
    device, dtype = device_of(model), dtype_of(model)
    one = each(x, lambda tensor: tensor.detach()[:1].to(device, copy=True))
    before = versions(model, one)
    fault = _fault(model, one)
    if fault is None:
        require_unchanged(model, before, versions(model, one))
        return
    real = not any(tensor.is_complex() for tensor in tensors_of(one))
    for expected, mended, change in MENDS if real else ():
        try:
            changed = each(one, lambda t, change=change: change(t, dtype))  # type: ignore[misc]
        except (RuntimeError, IndexError):
            continue
        if _fault(model, changed) is None:
            line = (
                f"({mended}, y) for x, y" if isinstance(item, (tuple, list)) else f"{mended} for x"
            )
            line = f"[{line} in loader]".format(dtype=dtype)
            raise _refused(item, expected.format(dtype=dtype), line) from fault
    whole = each(x, lambda tensor: tensor[None].to(device))
    if _fault(model, whole) is None:
        line = "[torch.stack(list(loader))]" if isinstance(item, Tensor) else LOADER
        raise _refused(item, "batches, got a single input", line) from fault


def _fault(model: nn.Module, inputs: Inputs) -> Exception | None:
    try:
        with evaluating(model), torch.no_grad():
            call(model, inputs)
    except Exception as error:  # of the network's own code
        return error
    return None


def _scaled(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor if tensor.is_floating_point() else tensor.to(dtype) / 255


def _cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype)


def _channels_first(tensor: Tensor, _: torch.dtype) -> Tensor:
    return tensor.movedim(-1, 1)


def _three_channels(tensor: Tensor, _: torch.dtype) -> Tensor:
    return tensor.expand(-1, 3, *tensor.shape[2:])


def _one_channel(tensor: Tensor, _: torch.dtype) -> Tensor:
    return tensor.mean(1, keepdim=True)


def _rows(tensor: Tensor, _: torch.dtype) -> Tensor:
    return tensor.flatten(1)


def _resized(tensor: Tensor, _: torch.dtype, side: int) -> Tensor:
    if tensor.ndim != 4:
        raise IndexError("no images")
    return nn.functional.interpolate(tensor, size=side)


# what forward expects, what brings it, and the same done to one tensor
MENDS: tuple[tuple[str, str, Callable[[Tensor, torch.dtype], Tensor]], ...] = (
    ("{dtype}, got whole numbers", "x.to({dtype}) / 255", _scaled),
    ("{dtype}", "x.to({dtype})", _cast),
    ("channels before rows and columns", "x.permute(0, 3, 1, 2)", _channels_first),
    ("3 channels", "x.expand(-1, 3, -1, -1)", _three_channels),
    ("1 channel", "x.mean(1, keepdim=True)", _one_channel),
    ("rows of features, got images", "x.flatten(1)", _rows),
    *(
        (
            f"images of {side} pixels a side",
            f"torch.nn.functional.interpolate(x, size={side})",
            partial(_resized, side=side),
        )
        for side in SIDES
    ),
)


def classified(model: nn.Module, batches: Iterable[tuple[Inputs, Tensor]]) -> Iterator[Any]:
    """Labelled batches, whose labels have to be classes that the network tells apart.

    Raises
    ------
    DataError : they are none.
    """
    for x, y in batches:
        if y.is_floating_point() and y.ndim == 1:
            raise _refused(
                y, "classes as labels for cross entropy", "prune(..., loss=torch.nn.MSELoss())"
            )
        with evaluating(model), torch.no_grad():
            outputs = tensors_in(call(model, each(x, lambda tensor: tensor[:1])))
        if not y.is_floating_point() and y.ndim == 1 and outputs and outputs[0].ndim == 2:
            classes = outputs[0].shape[1]
            if bool(((y < 0) | (y >= classes)).any()):
                got = f"{int(y.min())} to {int(y.max())}"
                line = "[(x, y - y.min()) for x, y in loader]"
                raise _refused(y, f"labels from 0 to {classes - 1}, got {got}", line)
        yield x, y


def _leaves(item: Any) -> list[Any]:
    parts = item.values() if isinstance(item, Mapping) else item
    return list(parts) if isinstance(item, (Mapping, list, tuple)) else [item]


def _refused(item: Any, expected: str, line: str) -> DataError:
    return DataError(
        f"{option('calibration')} cannot be used as it is: {described(item)}.\n"
        f"Expected {expected}; write: {line}"
    )
