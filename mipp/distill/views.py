"""Fixed views of images: moved by a few pixels, and mirrored."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from mipp.inputs import Inputs
from mipp.refit.outputs import output_error, outputs_of
from mipp.settings import Views

View = Callable[[Tensor], Tensor]

SIDE = 8  # pixels at least, of what counts as an image
COLOURS = (1, 3)
MOVED = 1 / 8  # of a side, at most
ALIKE = 0.5  # share of the outputs' variance by which those of a sensible view may differ


def views_for(
    model: nn.Module, inputs: Inputs, views: Views, count: int, generator: Generator
) -> list[View]:
    """So many views, or fewer, that a network can learn from, the plain one first.

    Only images, a single tensor (n, 1 or 3, h, w) of real numbers, have others. With `auto` they
    are moved, and mirrored, where the network answers much as it does without: it was trained to
    take a mirrored cat for a cat, and a mirrored digit for none.

    Parameters
    ----------
    model : the dense network.
    inputs : a few, shape (n, ...).
    """
    if not _are_images(inputs):
        return [plain]
    assert isinstance(inputs, Tensor)
    if views == "auto":
        moves, flips = (_alike(model, inputs, view) for view in (moved(MOVED, -MOVED), flipped))
    else:
        moves, flips = views in ("shift", "flip-shift"), views == "flip-shift"
    if not moves:
        return [plain, flipped] if flips else [plain]
    return [plain, *(_drawn(generator, flips=flips) for _ in range(count - 1))]


def _are_images(inputs: Inputs) -> bool:
    return (
        isinstance(inputs, Tensor)
        and inputs.is_floating_point()
        and inputs.ndim == 4
        and inputs.shape[1] in COLOURS
        and min(inputs.shape[2:]) >= SIDE
    )


def _alike(model: nn.Module, images: Tensor, view: View) -> bool:
    """Whether a network's outputs of a view are much those that it gives without."""
    answers = outputs_of(model, images)
    return output_error(outputs_of(model, view(images)), answers) <= ALIKE * len(answers)


def _drawn(generator: Generator, *, flips: bool) -> View:
    """A random move, mirrored every other time."""
    down, right = (MOVED * (2 * torch.rand(2, generator=generator, device="cpu") - 1)).tolist()
    move, mirrored = moved(down, right), torch.rand((), generator=generator, device="cpu") < 0.5
    return (lambda images: move(flipped(images))) if flips and mirrored else move


def plain(images: Tensor) -> Tensor:
    """Images as they are."""
    return images


def flipped(images: Tensor) -> Tensor:
    """Images with left and right exchanged."""
    return images.flip(3)


def moved(down: float, right: float) -> View:
    """Images moved by shares of their sides, with zeros where they were.

    >>> moved(0, 1 / 8)(torch.arange(1.0, 9).repeat(1, 1, 8, 1))[0, 0, 0].tolist()
    [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    """

    def view(images: Tensor) -> Tensor:
        y, x = round(down * images.shape[2]), round(right * images.shape[3])
        return F.pad(images, (x, -x, y, -y))

    return view
