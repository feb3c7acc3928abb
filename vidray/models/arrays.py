"""Type names of arrays."""

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]  # (N, D): a row per video, a column per number
Labels = NDArray[np.int64]  # (N,): indices into the class names
RowNumbers = NDArray[np.int64]  # (N,): rows of a table
Pixels = NDArray[np.uint8]  # (..., H, W, 3): RGB
