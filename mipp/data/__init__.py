"""Image sets: read, split by seed, and handed out as normalised batches."""

from mipp.data.image_set import ImageSet, Part
from mipp.data.load import DATA_SETS, load_data, register_data
from mipp.data.split import DataSplits, ImageSplit

__all__ = [
    "DATA_SETS",
    "DataSplits",
    "ImageSet",
    "ImageSplit",
    "Part",
    "load_data",
    "register_data",
]
