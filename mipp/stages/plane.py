"""Information planes of a run: its dense network in training, and before and after pruning.

The training is repeated, from the same seed, with every epoch's network looked at; on a CPU that
gives the same weights, see `mipp.training.train`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn

from mipp.config import Params
from mipp.data import DataSplits
from mipp.device import resolve_device
from mipp.errors import DataError
from mipp.evaluation import evaluating
from mipp.hooked_mode import hooked
from mipp.information.plane import PLANE_ESTIMATORS
from mipp.layers import layer_of
from mipp.stages.context import Context
from mipp.stages.files import write_json
from mipp.stages.networks import load_dense, load_network
from mipp.stages.splits import load_splits, model_spec
from mipp.stages.train import epochs_before_pruning, initial_network, slimming_of
from mipp.training import train

logger = logging.getLogger(__name__)

NETWORKS = {
    "pruned": "prune/pruned",
    "refit": "prune/refit",
    "distilled": "prune/distilled",
    "finetuned": "finetune/model",
}
OUTPUT = "output"
ROOM = 2**31  # bytes of all layers' values, of all images
Row = dict[str, Any]  # network, epoch (None after training), layer, depth, inputs and labels: nats
LookAt = Callable[[nn.Module, str, int | None], None]


@dataclass(frozen=True)
class PlaneOptions:
    """How a plane is measured: by which estimator, on so many calibration images, how often."""

    estimator: str
    resolution: float
    images: int
    every: int  # epochs, of which the last one is looked at


def write_plane(context: Context, options: PlaneOptions) -> None:
    """Write `plane.parquet`, a row per network and layer, and `plane.json`, how it was measured.

    Raises
    ------
    DataError : the layers' values of all images take too much room.
    """
    params, folder = context.params, context.workdir.folder
    device = resolve_device(params.compute.device)
    splits = load_splits(params)
    sample = splits.calibration.first(options.images)
    labels = torch.cat([labels for _, labels in sample.batches(256, device=device)])
    measure = PLANE_ESTIMATORS[options.estimator].measure
    rows: list[Row] = []

    def look_at(model: nn.Module, network: str, epoch: int | None) -> None:
        batches = (images for images, _ in sample.batches(256, device=device))
        for depth, (layer, values) in enumerate(values_read(model, batches, len(sample)).items()):
            point = measure(values, labels, options.resolution)
            where = {"network": network, "epoch": epoch, "layer": layer, "depth": depth}
            rows.append({**where, **point._asdict()})

    repeats = _trained_again(params, splits, device, options.every, look_at)
    dense = load_dense(folder, device).model
    if repeats is not None:
        _compare(dense, repeats)
    look_at(dense, "dense", None)
    for name, path in NETWORKS.items():
        if (folder / f"{path}.safetensors").exists():
            look_at(load_network(folder / f"{path}.safetensors", device).model, name, None)
    pq.write_table(pa.Table.from_pylist(rows), context.out / "plane.parquet")
    classes = torch.bincount(labels).double() / len(labels)
    entropy = float(torch.special.entr(classes).sum())
    told = {**asdict(options), "images": len(sample), "labels_entropy": entropy}
    write_json(context.out / "plane.json", told)


def values_read(model: nn.Module, batches: Iterable[Tensor], images: int) -> dict[str, Tensor]:
    """What each layer reads of every image, and the outputs: name -> (n, units), in their order.

    A layer that reads the images themselves is left out; of one that runs several times, the last
    time counts. Outputs that are no tensor are left out, too.

    Raises
    ------
    DataError : it takes too much room for so many images.
    """
    caught: dict[str, Tensor] = {}
    parts: dict[str, list[Tensor]] = {}
    layers = {name: layer for name, m in model.named_modules() if (layer := layer_of(m))}

    def catch(name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            caught[name] = layers[name].sides(inputs, output)[0]

        return hook

    makers = [name for name, layer in layers.items() if layer.filters is not None]
    with hooked(model.get_submodule(n).register_forward_hook(catch(n)) for n in makers):
        for batch in batches:
            caught.clear()
            with evaluating(model), torch.inference_mode():
                output = model(batch)
            found = {name: read for name, read in caught.items() if read is not batch}
            found |= {OUTPUT: output} if isinstance(output, Tensor) else {}
            _require_room(found, len(batch), images)
            for name, values in found.items():
                parts.setdefault(name, []).append(values.reshape(len(batch), -1).float())
    return {name: torch.cat(several) for name, several in parts.items()}


def _require_room(found: dict[str, Tensor], batch: int, images: int) -> None:
    need = 4 * images * sum(values.numel() for values in found.values()) // batch
    if need > ROOM:
        raise DataError(
            f"what the layers read of {images:,} images takes {need / 2**30:.1f} GiB.\nExpected at "
            f"most {ROOM / 2**30:.0f} GiB for a plane, got more; pass --images "
            f"{images * ROOM // need}."
        )


def _trained_again(
    params: Params, splits: DataSplits, device: torch.device, every: int, look_at: LookAt
) -> nn.Module | None:
    """The dense network, looked at before its training and after epochs; None without any."""
    if not epochs_before_pruning(params):
        return None
    model = initial_network(params, model_spec(params, splits)).to(device)
    look_at(model, "training", 0)

    def on_epoch(record: Any) -> None:
        if record.epoch % every == 0 or record.epoch == params.train.epochs:
            look_at(model, "training", record.epoch)

    train(
        model,
        splits.train,
        splits.validation,
        params.train,
        seed=params.seed,
        device=device,
        on_epoch=on_epoch,
        regulariser=slimming_of(params, model),
    )
    return model


def _compare(dense: nn.Module, again: nn.Module) -> None:
    """Say where the repeated training is another one, as on a GPU or by several processes."""
    theirs = dense.state_dict()
    apart = [
        float((value.double() - theirs[name].double()).abs().max())
        for name, value in again.state_dict().items()
        if name in theirs and value.numel()
    ]
    if max(apart, default=0.0) > 0:
        logger.warning(
            "the training, repeated for its plane, came to other weights: %.2g apart at most",
            max(apart),
        )
