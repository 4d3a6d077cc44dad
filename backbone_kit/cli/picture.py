"""Pictures from files."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .parser import CommandError

if TYPE_CHECKING:
    from torch import Tensor

EXTRA = "is not installed; pip install 'backbone-kit[image]'"


def read_picture(path: str, size: Sequence[int] | None = None) -> Tensor:
    """A picture as RGB pixels (H, W, 3) from 0 to 255, turned as its camera says.

    Args:
        path: A file that Pillow can read.
        size: (H, W) to resize it to, None for its own.

    Raises:
        CommandError: Pillow is missing, or the file is no picture of 8 or 16 bits a channel.
    """
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise CommandError(f"--image: pillow {EXTRA}") from error
    import numpy
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a size that is only large
            with Image.open(path) as image:
                picture = _in_8_bits(ImageOps.exif_transpose(image)).convert("RGB")
        if size is not None:
            picture = picture.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    except FileNotFoundError:
        raise CommandError(f"--image {path}: there is no such file") from None
    except Exception as error:  # each of Pillow's readers has errors of its own
        raise CommandError(f"--image {path}: cannot be read as a picture: {_reason(error)}") from error
    return torch.from_numpy(numpy.array(picture))


def _in_8_bits(image: Any) -> Any:
    """The picture in a mode that Pillow can make RGB of; it would clip what is wider, unasked."""
    import numpy
    from PIL import Image

    if image.mode in ("I", "F"):
        kind = "32-bit integers" if image.mode == "I" else "floats"
        raise ValueError(f"its pixels are {kind} (mode {image.mode}), of unknown range; save it with 8 or 16 bits")
    if image.mode.startswith("I;16"):
        return Image.fromarray(numpy.rint(numpy.asarray(image) / 257).astype(numpy.uint8))  # 65535 is 255
    return image


def _reason(error: Exception) -> str:
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, Image.DecompressionBombError):
        return f"it has more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels"
    if isinstance(error, UnidentifiedImageError):
        return "Pillow knows no such format"
    if "truncated" in str(error).lower():
        return "it is truncated"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__
