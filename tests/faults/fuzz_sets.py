"""Image sets whose files are spoilt somewhere: whole images with labels of classes, or refused."""

import io
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fuzzing import spoilt_bytes
from PIL import Image

from mipp.config import DataConfig
from mipp.data import load_data


def image(number):
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8), 20 * number, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def shard(numbers):
    """A tar file of images and labels."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for number in numbers:
            for name, content in (("png", image(number)), ("cls", str(number % 2).encode())):
                member = tarfile.TarInfo(f"{number}.{name}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def table(numbers):
    """A Parquet file of the same, in two row groups."""
    images = pa.array([{"bytes": image(number), "path": None} for number in numbers])
    buffer, labels = io.BytesIO(), pa.array([number % 2 for number in numbers])
    pq.write_table(pa.table({"image": images, "label": labels}), buffer, row_group_size=3)
    return buffer.getvalue()


KINDS = {"webdataset": ("tar", shard), "parquet": ("parquet", table)}


def sets(folder):
    """A set of several files, one of which is spoilt."""
    roots = {name: folder / name for name in KINDS}
    whole = {
        name: {f"{part}.{ending}": write(numbers) for part, numbers in
               (("train-0", range(6)), ("train-1", range(6, 12)), ("test-0", range(4)))}
        for name, (ending, write) in KINDS.items()
    }  # fmt: skip

    def spoilt_set(rng):
        name = rng.choice(list(KINDS))
        roots[name].mkdir(exist_ok=True)
        spoilt = rng.choice(list(whole[name]))
        for file, content in whole[name].items():
            written = spoilt_bytes(rng, content) if file == spoilt else content
            (roots[name] / file).write_bytes(written)
        config = DataConfig(name=name, root=str(roots[name]), calibration=1, validation=0)
        data = load_data(config, seed=0)
        for split in (data.train, data.test):
            read = list(split.batches(4))
            assert sum(len(labels) for _, labels in read) == len(split) > 0
            for images, labels in read:
                assert images.isfinite().all()
                assert ((labels >= 0) & (labels < data.classes)).all()

    return spoilt_set
