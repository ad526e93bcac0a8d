"""What a network on disk is: safetensors weights beside the recipe that rebuilds them."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor, nn

from mipp.disk.whole_files import written_whole
from mipp.inputs import Shape
from mipp.models import ModelSpec
from mipp.selection.selection import Selection

FORMAT = "mipp-1"


@dataclass(frozen=True)
class Checkpoint:
    """A network with its recipe; `selection` is None for a dense one.

    Example
    -------
    >>> Checkpoint(nn.Linear(4, 2), None, None, (4,)).shape
    (4,)
    """

    model: nn.Module
    spec: ModelSpec | None
    selection: Selection | None
    shape: Shape  # of one input, without the batch axis, as `mipp.inputs.shape_of` gives it


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write one file, whole or not at all: tensors, and the recipe in its header.

    Equal networks give equal bytes.

    Example
    -------
    >>> import tempfile
    >>> dense = Checkpoint(nn.Linear(4, 2), None, None, (4,))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_checkpoint(Path(folder) / "net.safetensors", dense)
    ...     [file.name for file in Path(folder).iterdir()]
    ['net.safetensors']
    """
    recipe = {
        "format": FORMAT,
        "spec": dataclasses.asdict(checkpoint.spec) if checkpoint.spec else None,
        "selection": checkpoint.selection.to_json() if checkpoint.selection else None,
        "shape": checkpoint.shape,
    }
    tensors: dict[str, Tensor] = {}
    held_at: set[int] = set()
    for name, tensor in checkpoint.model.state_dict().items():
        held = tensor.detach().cpu().contiguous()
        place = held.untyped_storage().data_ptr()
        tied = place in held_at
        held_at.add(place)
        tensors[name] = held.clone() if tied else held  # safetensors refuses two of one memory
    # one metadata key: several would be written in no fixed order
    with written_whole(Path(path)) as partial:
        save_file(tensors, partial, metadata={"mipp": json.dumps(recipe, sort_keys=True)})
