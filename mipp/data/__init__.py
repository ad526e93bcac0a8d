"""Image sets: read, split by seed, and handed out as normalised batches.

load         the configured set, divided into its splits; `locate` says where it lies
image_set    what every reader of a set returns: labels in memory, pixels on demand
             digits, torchvision_sets, image_folder, parquet, webdataset, huggingface, own_set
encoded_set  a set of encoded images; `decode` their pixels, `room` whether these fit into memory
frame        how images of any size come to a square; `preparation` all that a model is given
deform       deformations that belong to an image; `augment` those of chance, by `transforms`
split        which images, in which order; `blocks` those that are read together
batch_job    what makes a batch, in whichever process; `loader` has it made ahead of time
batch        its normalisation
read_whole   all images of a split, as it keeps them
content      what the files of a set hold, for the key of a stage
"""

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
