"""Fixed random deformations: each image of a set is bent, moved or left alone, always alike.

As in the paper's LeNet5 on MNIST (arXiv:2411.00147v1): one of six kinds per image, each as likely,
decided by a seed, so that an image is deformed alike while training, pruning and retraining.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mipp.data.image_set import ImageSet, Part, Read

KINDS = ("none", "rotation", "shear", "scale", "translation", "elastic")

# Each is drawn uniformly. Departs: the appendix with the paper's ranges was not at hand, so these
# are ours; a digit stays readable at their ends.
ROTATION = 30.0  # degrees, either way
SHEAR = 0.3  # columns that a row shifts by, per row above or below the centre
SCALE = (0.7, 1.3)  # size of what the image shows, relative to what it was
TRANSLATION = 0.15  # share of the side, along each axis
ELASTIC = (
    0.104  # share of the side, along each axis of a node: deviation 0.06; 3 in 1000 fields fold
)
NODES = 4  # per side of the grid that an elastic field is interpolated from

_CHUNK = 2**21  # pixels at a time: about 50 MB of coordinates


@dataclass(frozen=True)
class Deformations:
    """Where each image of a part is sampled, in coordinates from -1 to 1, (x, y).

    Parameters
    ----------
    kind : shape (n,), int64, index into `KINDS`.
    affine : shape (n, 2, 3), from output to input coordinates.
    displacement : shape (n, 2, NODES, NODES), added to them; the nodes span the image.
    """

    kind: Tensor
    affine: Tensor
    displacement: Tensor


def deform_set(images: ImageSet, seed: int) -> ImageSet:
    """The set with every image deformed as (seed, name of its part, its index) decide."""
    return replace(
        images, train=_deform_part(images.train, seed), test=_deform_part(images.test, seed)
    )


def draw_deformations(name: str, seed: int, n: int) -> Deformations:
    """Deformations of the first n images of a part; more images leave the first ones alike."""
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    draws = np.random.default_rng(int.from_bytes(digest)).random((n, 3 + 2 * NODES**2))
    kind = torch.from_numpy((draws[:, 0] * len(KINDS)).astype(np.int64))
    symmetric = torch.from_numpy(2 * draws[:, 1:] - 1).float()
    elastic = (kind == KINDS.index("elastic"))[:, None, None, None]
    nodes = symmetric[:, 2:].reshape(n, 2, NODES, NODES)
    return Deformations(kind, _affine(kind, symmetric[:, :2]), nodes * (2 * ELASTIC) * elastic)


def _affine(kind: Tensor, draws: Tensor) -> Tensor:
    """Inverse of what the image undergoes, (n, 2, 3), from two draws in [-1, 1) each."""
    matrix = torch.eye(2, 3, device="cpu").repeat(len(kind), 1, 1)
    of = {name: kind == index for index, name in enumerate(KINDS)}
    angle = torch.deg2rad(ROTATION * draws[of["rotation"], 0])
    sine, cosine = angle.sin(), angle.cos()
    turn = torch.stack([cosine, sine, -sine, cosine], dim=1)
    matrix[of["rotation"], :, :2] = turn.view(-1, 2, 2)
    matrix[of["shear"], 0, 1] = SHEAR * draws[of["shear"], 0]
    middle, reach = (SCALE[1] + SCALE[0]) / 2, (SCALE[1] - SCALE[0]) / 2
    matrix[of["scale"], :, :2] /= (middle + reach * draws[of["scale"], 0])[:, None, None]
    matrix[of["translation"], :, 2] = 2 * TRANSLATION * draws[of["translation"]]
    return matrix


def _deform_part(part: Part, seed: int) -> Part:
    deformations = draw_deformations(part.name, seed, len(part.labels))
    ranges = (ROTATION, SHEAR, SCALE, TRANSLATION, ELASTIC, NODES)

    return Part(
        name=f"{part.name} deformed by seed {seed}",
        labels=part.labels,
        read=partial(_read, part.read, deformations),
        streams=part.streams,
        identity=f"{part.identity} deformed by seed {seed} within {ranges}".lstrip(),
    )


def _read(
    whole: Read, deformations: Deformations, indices: Tensor, size: int, progress: str
) -> Tensor:
    return _deform(whole(indices, size, progress), deformations, indices)


def _deform(pixels: Tensor, deformations: Deformations, indices: Tensor) -> Tensor:
    """Pixels, uint8 (k, c, size, size), of the images `indices`, each deformed as it must be."""
    deformed = pixels.clone()
    moved = (deformations.kind[indices] != KINDS.index("none")).nonzero()[:, 0]
    for rows in torch.split(moved, max(1, _CHUNK // pixels.shape[1:].numel())):
        grid = _grid(deformations, indices[rows], pixels.shape[-1])
        # Zeros around: the background of the grey sets, and what a crop puts around colour;
        # repeating the border would draw a stroke that reaches it out into a streak.
        sampled = functional.grid_sample(
            pixels[rows].float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False
        )
        deformed[rows] = sampled.round_().clamp_(0, 255).to(torch.uint8)
    return deformed


def _grid(deformations: Deformations, indices: Tensor, size: int) -> Tensor:
    """Coordinates (k, size, size, 2) at which to sample the images `indices`."""
    affine = deformations.affine[indices, :, :, None, None]
    centres = (2 * torch.arange(size, device="cpu") + 1) / size - 1
    # Element by element: a matrix product may round by how many images it is given at once.
    moved = affine[:, :, 0] * centres + affine[:, :, 1] * centres[:, None] + affine[:, :, 2]
    bent = functional.interpolate(
        deformations.displacement[indices], size=(size, size), mode="bicubic", align_corners=True
    )
    return (moved + bent).permute(0, 2, 3, 1).contiguous()
