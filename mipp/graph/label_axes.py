"""Arrays of labels: along which axes they differ, and where they lie among nested values."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mipp.graph.record import NONE, Labels


def along(labels: Labels, axis: int, tensor: Tensor) -> Labels:
    """Labels (features,) laid out along one axis of a tensor, the same along the others."""
    shape = [1] * tensor.ndim
    shape[axis] = -1
    return labels.view(shape).expand(tensor.shape)


def constant(labels: Labels, axis: int) -> bool:
    """Whether labels are the same all along an axis."""
    if labels.shape[axis] < 2 or labels.stride(axis) == 0:
        return True
    return bool((labels == labels.narrow(axis, 0, 1)).all())


def varying_axes(labels: Labels) -> list[int]:
    """Axes along which labels differ; padding, which has none, tells nothing apart."""
    return [axis for axis in range(labels.ndim) if _varies(labels, axis)]


def _varies(labels: Labels, axis: int) -> bool:
    if constant(labels, axis):
        return False
    most = labels.amax(axis, keepdim=True)
    return bool(((labels != most) & (labels != NONE)).any())


def compact(labels: Labels) -> Labels:
    """Labels without the axes along which they are the same."""
    varying = varying_axes(labels)
    for axis in range(labels.ndim):
        if axis not in varying:
            labels = labels.amax(axis, keepdim=True)  # of equal ones, and of padding
    return labels.reshape([labels.shape[axis] for axis in varying])


def narrow(labels: Labels) -> Labels:
    """Of axes along which all labels are the same, the first place."""
    for axis in range(labels.ndim):
        labels = labels.narrow(axis, 0, 1) if constant(labels, axis) else labels
    return labels


def on_cpu(value: Any) -> Any:
    """The same nested value with its tensors where labels are."""
    if isinstance(value, Tensor):
        return value.cpu()
    if isinstance(value, (list, tuple)):
        return type(value)(on_cpu(part) for part in value)
    if isinstance(value, dict):
        return {key: on_cpu(part) for key, part in value.items()}
    return value
