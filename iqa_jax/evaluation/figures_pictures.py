"""Pictures for the page: centre crops at native resolution, encoded for display only."""

import base64
import io

import numpy as np
from PIL import Image

# High quality and full chroma: colour distortions must survive the page's own coding.
JPEG_QUALITY = 92


def centre_crop(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns the central [min(H, height), min(W, width), 3] uint8 part of [H, W, 3] uint8.

    Never resamples. Raises ValueError for another shape or dtype.
    """
    if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(
            f'a picture of the report must be uint8 [H, W, 3], not {image.dtype} {image.shape}; '
            'decode it with iqa_jax.images.io.decode.'
        )
    top = max(0, (image.shape[0] - height) // 2)
    left = max(0, (image.shape[1] - width) // 2)
    return image[top : top + height, left : left + width]


def jpeg_uri(image: np.ndarray) -> str:
    """Returns uint8 [H, W, 3] as a `data:` URI of a JPEG (quality 92, 4:4:4) for display."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(
        buffer, 'JPEG', quality=JPEG_QUALITY, subsampling=0
    )
    return 'data:image/jpeg;base64,' + base64.b64encode(buffer.getvalue()).decode('ascii')
