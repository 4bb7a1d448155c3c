"""Types of arrays that modules hand to each other; docstrings give their shapes."""

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""Of RGB unless something else is said, (H, W, 3)."""

Ints = NDArray[np.int32]
Floats = NDArray[np.float64]
