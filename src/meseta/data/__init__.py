"""Images and labels in memory: hub-layout data sets, image folders, tensor files and the built-in digits.

Decoded once to uint8, so that a batch is one indexing operation and no worker process is needed.
"""

from meseta.data.augmentation import augment
from meseta.data.config import DataConfig
from meseta.data.images import ImageData, Split, from_tensors
from meseta.data.loading import batches, collate, loader
from meseta.data.sources import KNOWN

__all__ = [
    "KNOWN",
    "DataConfig",
    "ImageData",
    "Split",
    "augment",
    "batches",
    "collate",
    "from_tensors",
    "loader",
]
