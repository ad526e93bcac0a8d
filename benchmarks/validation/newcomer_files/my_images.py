"""Images of four kinds of waves: as Parquet files in `images`, and as batches."""

from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

SIZE, CLASSES, CHANNELS = 16, 4, 3


def draw(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images (n, 3, 16, 16) of bytes, and labels: waves of any colour in one of four directions."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (count,), generator=random)
    row, column = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    along = torch.stack([row, column, row + column, row - column])[labels]  # (n, 16, 16)
    shift = 6 * torch.rand(count, 1, 1, generator=random)
    wave = torch.sin(1.2 * (along + shift))[:, None]
    colour = 0.3 + 0.7 * torch.rand(count, CHANNELS, 1, 1, generator=random)
    noise = 20 * torch.randn(count, CHANNELS, SIZE, SIZE, generator=random)
    return (127 + 100 * colour * wave + noise).clamp(0, 255).byte(), labels


def batches(count: int = 512) -> "DataLoader[tuple[Tensor, ...]]":
    """Images between 0 and 1, with labels, in random order."""
    images, labels = draw(count, seed=0)
    return DataLoader(TensorDataset(images / 255, labels), batch_size=64, shuffle=True)


def write(file: Path, count: int, seed: int) -> None:
    """A Parquet file of PNGs and labels, as public hubs keep them."""
    images, labels = draw(count, seed)
    rows = [{"bytes": _png(image), "path": None} for image in images]
    pq.write_table(pa.table({"image": rows, "label": labels.tolist()}), file)


def _png(image: Tensor) -> bytes:
    file = BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "PNG")
    return file.getvalue()


if __name__ == "__main__":
    Path("images").mkdir()
    write(Path("images/train.parquet"), 2000, seed=0)
    write(Path("images/test.parquet"), 500, seed=1)
