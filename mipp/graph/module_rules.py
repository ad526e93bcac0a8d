"""What each kind of module does to labels: it reads them, carries them, or makes new ones."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from mipp.graph.kinds import CONVS, LAYER_NORMS, NORMS
from mipp.graph.label_axes import along
from mipp.graph.record import Labels, Touch
from mipp.graph.tracker import Tracker
from mipp.inputs import tensors_in
from mipp.layers.attention import is_plain
from mipp.layers.padded_shortcut import PaddedShortcut


def convolve(tracker: Tracker, args: Any, output: Tensor) -> None:
    """A convolution reads its input's channels and makes its own; a grouped one carries them."""
    x, weight = args[0], args[1]
    transposed, groups = args[6], args[8]
    name, module = tracker.owner(weight)
    known = isinstance(module, (*CONVS, PaddedShortcut)) and not transposed
    if not known or x.ndim != weight.ndim or tracker.labels_of(weight) is not None:
        kind = type(module).__name__
        tracker.record.fix(tracker.labels_of(x), f"{name} ({kind}) reads it")
        _make(tracker, name, output, 1, f"{name} ({kind}) makes it")
        return
    read = tracker.read(x, 1)
    if groups == 1:
        _consume(tracker, name, x, read)
        _make(tracker, name, output, 1, "")
    elif read is None or bool((read < 0).any()):
        reason = f"{name} is a grouped convolution"
        tracker.record.fix(tracker.labels_of(x), reason)
        _make(tracker, name, output, 1, reason)
    else:
        made = tracker.record.fresh([output.shape[1]])
        first = read.view(groups, -1)[:, :1]
        for labels in (read.view(groups, -1), made.view(groups, -1)):
            tracker.record.couple(labels, first.expand(labels.shape))
        tracker.record.passengers.append(Touch(name, made.numpy()))
        tracker.put(output, along(made, 1, output))


def multiply(tracker: Tracker, name: str, args: Any, output: Tensor) -> bool:
    """A linear layer or an attention's in-projection, if it is one."""
    x, weight = (args[1], args[2]) if name == "addmm" else (args[0], args[1])
    owner, module = tracker.owner(weight)
    if not isinstance(module, (nn.Linear, nn.MultiheadAttention)) or weight.ndim != 2:
        return False
    if isinstance(module, nn.MultiheadAttention):
        _project(tracker, owner, module, x)
        tracker.put(output, None)
        return True
    _consume(tracker, owner, x, tracker.read(x, x.ndim - 1))
    _make(tracker, owner, output, output.ndim - 1, "")
    return True


def batch_normalise(tracker: Tracker, args: Any, output: Any) -> None:
    """A batch-norm carries its channels, each on its own."""
    holders = [tracker.holder(t) for t in args[1:5]]
    owner = next((holder for holder in holders if holder is not None), None)
    known = owner is not None and isinstance(owner[1], NORMS)
    _carry(tracker, owner if known else None, args[0], 1, output, "normalisation")


def layer_normalise(tracker: Tracker, name: str, args: Any, output: Any) -> None:
    """A layer-norm over the last axis carries its channels.

    A channel that goes no longer counts in the mean and variance of the others, so that what
    remains is a layer-norm of the kept channels, not the old one with zeros among them.
    """
    x, shape = args[0], args[1]
    owner = tracker.holder(args[2]) if args[2] is not None else None
    if owner is None and tracker.scope:
        owner = tracker.scope[-1]
    known = owner is not None and isinstance(owner[1], LAYER_NORMS) and len(shape) == 1
    _carry(tracker, owner if known else None, x, x.ndim - 1, output, name)


def mean_square(tracker: Tracker, args: Any, output: Any) -> bool:
    """The mean that `nn.RMSNorm` takes of its squared input, where torch has no kernel for it."""
    module = tracker.scope[-1][1] if tracker.scope else None
    x = args[0]
    if not isinstance(module, nn.RMSNorm) or [d % x.ndim for d in args[1]] != [x.ndim - 1]:
        return False
    read = tracker.read(x, x.ndim - 1)
    if read is None or bool((read < 0).any()):
        return False
    tracker.record.passengers.append(Touch(tracker.scope[-1][0], read.numpy()))
    tracker.put(output, None)
    return True


def _project(tracker: Tracker, name: str, module: nn.MultiheadAttention, x: Tensor) -> None:
    reason = f"{name} (MultiheadAttention) reads it"
    if not is_plain(module):
        reason += ", whose projections are apart or which adds keys of its own"
    elif not tracker.alike or not tracker.alike[-1]:
        reason += " beside another query, key or value"
    else:
        _consume(tracker, name, x, tracker.read(x, x.ndim - 1))
        return
    tracker.record.fix(tracker.labels_of(x), reason)


def _carry(
    tracker: Tracker,
    owner: tuple[str, nn.Module] | None,
    x: Tensor,
    axis: int,
    output: Any,
    what: str,
) -> None:
    first = tensors_in(output)[0]
    if tracker.labels_of(x) is None:
        tracker.put(first, None)
        return
    read = None if owner is None else tracker.read(x, axis)
    if owner is None or read is None or (axis != 1 and bool((read < 0).any())):
        tracker.fix([x], output, what)
        return
    tracker.record.passengers.append(Touch(owner[0], read.numpy()))
    tracker.put(first, tracker.labels_of(x))


def _consume(tracker: Tracker, name: str, x: Tensor, read: Labels | None) -> None:
    if tracker.labels_of(x) is None:
        return
    if read is None:
        tracker.record.fix(tracker.labels_of(x), f"{name} reads it in another order")
    else:
        tracker.record.consumers.append(Touch(name, read.numpy()))


def _make(tracker: Tracker, name: str, output: Tensor, axis: int, reason: str) -> None:
    made = tracker.record.fresh([output.shape[axis]])
    tracker.record.producers.append(Touch(name, made.numpy()))
    if reason:
        tracker.record.fix(made, reason)
    tracker.put(output, along(made, axis, output))
