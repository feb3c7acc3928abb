"""Enhancement of a frame, as in the notebooks: denoise, then sharpen; and when it is called for."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


def enhance(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Non-local means (Buades 2005), then an unsharp mask.

    Args:
        rgb: ``uint8 (H, W, 3)`` RGB.

    Returns:
        A new ``uint8 (H, W, 3)`` RGB frame.
    """
    # The denoiser works in Lab and takes its input for BGR.
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    denoised = cv2.fastNlMeansDenoisingColored(bgr, None, 5, 5, 7, 21)
    return sharpen(cv2.cvtColor(denoised, cv2.COLOR_BGR2RGB))


def sharpen(rgb: NDArray[Any]) -> NDArray[np.uint8]:
    """Unsharp mask: 1.5 times the frame less 0.5 times its blur (Gaussian, sigma 1 pixel)."""
    blurred = cv2.GaussianBlur(rgb, (0, 0), 1.0)
    return cv2.addWeighted(rgb, 1.5, blurred, -0.5, 0).astype(np.uint8, copy=False)
