"""Image sets: read, split by seed, and handed out as normalised batches."""

from mipp.data.load import DATA_SETS, load_data
from mipp.data.split import DataSplits, ImageSplit

__all__ = ["DATA_SETS", "DataSplits", "ImageSplit", "load_data"]
