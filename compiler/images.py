"""An image folder as samples: one folder a class, in alphabetical order, as torchvision's ImageFolder reads it.

Images become RGB, are resized to the recipe's size (bilinear, without keeping the aspect), scaled to 0…1, normalized
by mean and standard deviation, and laid out as (samples, 3, height, width), float32.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from edgewright.compiler.recipe import ImageSource
from edgewright.contracts.errors import UserError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


def read_images(source: ImageSource, origin: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Images (samples, 3, height, width) and their class numbers (samples,).

    Raises:
        UserError: `data-empty`, or `data-unreadable` naming the image.
    """
    classes = sorted(entry for entry in source.folder.iterdir() if entry.is_dir())
    found = [
        (path, label)
        for label, folder in enumerate(classes)
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in SUFFIXES
    ]
    if not found:
        raise UserError(
            "data-empty",
            f"{origin} has no images",
            expected=f"one folder a class in {source.folder}, with images ({' '.join(SUFFIXES)})",
            found=f"{len(classes)} folders without images" if classes else "no folders",
        )
    if source.limit is not None and source.limit < len(found):
        # Evenly over the sorted list, so that every class has its share.
        found = [found[index] for index in np.linspace(0, len(found) - 1, source.limit).round().astype(int)]
    mean = np.asarray(source.mean, np.float32)[:, None, None]
    std = np.asarray(source.std, np.float32)[:, None, None]
    images = np.empty((len(found), 3, *source.size), np.float32)
    for index, (path, _) in enumerate(found):
        images[index] = (_read(path, source.size) - mean) / std
    return images, np.array([label for _, label in found], np.int64)


def _read(path: Path, size: tuple[int, int]) -> NDArray[np.float32]:
    height, width = size
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR), np.float32)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
        raise UserError(
            "data-unreadable", f"{path} cannot be read as an image", expected="an intact image file", found=str(error)
        ) from None
    return pixels.transpose(2, 0, 1) / np.float32(255)
