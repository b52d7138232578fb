"""scikit-learn's handwritten digits: 1797 images of 8x8 pixels, bundled with the package."""

from __future__ import annotations

import numpy as np
import torch

from dfad_fast.data.augment import ShiftFlip
from dfad_fast.data.dataset import Dataset
from dfad_fast.errors import UsageError


def load_digits() -> Dataset:
    """`digits`: 1347 train and 450 test images, uint8 [N, 1, 8, 8], always the same split.

    Raises:
        UsageError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits as read
    except ImportError as error:
        raise UsageError(
            "digits needs scikit-learn, which is missing: pip install 'dfad-fast[digits]'"
        ) from error
    pixels, labels = read(return_X_y=True)
    # Pixels are whole numbers 0 .. 16. Scaled to 0 .. 255 they remain 17 distinct values: nothing is lost.
    images = torch.from_numpy(np.rint(pixels * 255 / 16).astype(np.uint8)).view(-1, 1, 8, 8)
    targets = torch.from_numpy(labels.astype(np.int64))

    # Every fourth image of the list sorted by class: a quarter of each class, independent of a run's seed or a
    # library's version.
    is_test = torch.zeros(len(targets), dtype=torch.bool)
    is_test[targets.argsort(stable=True)[::4]] = True
    return Dataset(
        name="digits",
        train_images=images[~is_test],
        train_labels=targets[~is_test],
        test_images=images[is_test],
        test_labels=targets[is_test],
        classes=tuple("0123456789"),
        mean=(0.3057,),
        std=(0.3761,),
        augment=ShiftFlip(shift=1),
    )
