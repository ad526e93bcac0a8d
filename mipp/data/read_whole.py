"""All images of a split, as it keeps them in memory."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from mipp.data.augment import UNCHANGED
from mipp.data.batch_job import BatchJob, BatchMaker, read_part
from mipp.data.blocks import by_block
from mipp.data.image_set import Part
from mipp.data.loader import Loader, count_workers
from mipp.data.preparation import Preparation
from mipp.progress import track


def read_whole(
    part: Part, indices: Tensor, preparation: Preparation, workers: int | None
) -> Tensor:
    """Pixels uint8 (n, c, size, size) of the images `indices` of a part.

    What lies in blocks is read block by block, each once, by several processes.

    Parameters
    ----------
    workers : as `ImageSplit` has it.
    """
    label = f"reading {part.name}"
    if part.blocks is None or len(indices) == 0:
        return part.read(indices, preparation.frame, label)
    jobs = [BatchJob(places.numpy()) for places in by_block(indices, part.blocks)]
    image = preparation.channels * preparation.size**2
    largest = max(len(job.places) for job in jobs)
    workers = count_workers(workers, image * largest, image * len(indices))
    make = BatchMaker(partial(read_part, part, indices), preparation, UNCHANGED)
    made = Loader(part.name, make, min(workers, len(jobs))).made(jobs)
    whole = None
    for job, pixels in zip(jobs, track(made, total=len(jobs), label=label), strict=True):
        if whole is None:
            whole = pixels.new_empty(len(indices), *pixels.shape[1:])
        whole[torch.from_numpy(job.places)] = pixels
    assert whole is not None
    return whole
