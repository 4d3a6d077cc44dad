"""Pictures from files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .parser import CommandError

if TYPE_CHECKING:
    from torch import Tensor

EXTRA = "is not installed; pip install backbone-kit[image]"


def read_picture(path: str, size: Sequence[int] | None = None) -> Tensor:
    """A picture as RGB pixels (H, W, 3) from 0 to 255, turned as its camera says.

    Args:
        path: A file that Pillow can read.
        size: (H, W) to resize it to, None for its own.

    Raises:
        CommandError: Pillow is missing, or the file is no picture.
    """
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError as error:
        raise CommandError(f"--image: pillow {EXTRA}") from error
    import numpy
    import torch

    try:
        with Image.open(path) as image:
            picture = ImageOps.exif_transpose(image).convert("RGB")
    except FileNotFoundError:
        raise CommandError(f"--image {path}: there is no such file") from None
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise CommandError(f"--image {path}: cannot be read as a picture ({type(error).__name__})") from error
    if size is not None:
        picture = picture.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return torch.from_numpy(numpy.array(picture))
