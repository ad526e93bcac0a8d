"""Tiny images and the files they are kept in."""

import io
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from mipp.vision import torchvision


def encode(pixels, kind="PNG"):
    """Bytes of an image file; PNG keeps every pixel."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def pictures(n, *, seed=0, size=16, channels=3):
    """Random pixels, uint8 (n, size, size, 3) or (n, size, size)."""
    shape = (n, size, size, 3) if channels == 3 else (n, size, size)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def resized_and_cropped(pixels, size):
    """Oracle: torchvision's resize of the shorter side and centre crop, as (3, size, size)."""
    functional = torchvision.transforms.functional
    image = functional.resize(Image.fromarray(pixels), size)
    return np.asarray(functional.center_crop(image, size)).transpose(2, 0, 1)


def write_parquet(path, pixels, labels, *, metadata=None, row_group_size=7):
    rows = [{"bytes": encode(p), "path": f"{i}.png"} for i, p in enumerate(pixels)]
    image = pa.array(rows, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    table = pa.table({"image": image, "label": pa.array(labels, pa.int64())})
    pq.write_table(table.replace_schema_metadata(metadata), path, row_group_size=row_group_size)


def write_folder(root, names, per_class, *, seed=0, size=16, channels=3):
    """Class folders of PNG files."""
    pixels = pictures(len(names) * per_class, seed=seed, size=size, channels=channels)
    for row, image in enumerate(pixels):
        path = root / names[row // per_class] / f"{row:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(image))
    return pixels


def write_idx(path, array):
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(header + array.tobytes())
