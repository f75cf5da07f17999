"""Real images for tests: MNIST where its folder is at hand, the built-in digits otherwise, so none is skipped."""

import os
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor

from meseta.data import DataConfig, Split


def mnist_like(n_train: int, n_test: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return (x, y) for training and test, 1×28×28 in [0, 1]: MNIST, or the 8×8 digits enlarged."""
    source = Path(os.environ.get("MESETA_DATA") or "nowhere") / "ylecun" / "mnist"
    data = DataConfig(source=str(source) if source.is_dir() else "digits").load()

    def enlarged(split: Split, n: int) -> tuple[Tensor, Tensor]:
        x, y = split[:n]
        if x.shape[-1] != 28:
            x = F.interpolate(x, (28, 28), mode="bilinear").clamp(0, 1)
        return x, y

    return enlarged(data.train, n_train), enlarged(data.test, n_test)
