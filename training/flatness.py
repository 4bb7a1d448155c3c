"""What LPIPS and DLP hardly see, and the eye at once: faults of flat areas."""

from torch import Tensor

SIDE = 32
"""Of the squares that are judged, in pixels."""
PERIOD = 8
"""Pixels after which a pattern woven by the codes of 4x4 and 8x8 pixels repeats."""
CONTRAST = 4 / 255
"""Standard deviation of a square that hides half of the faults."""
WEAVE = 8.0
"""Weight of the weave beside the drift: the eye is keener on fine patterns."""


def flat_faults(image: Tensor, target: Tensor) -> Tensor:
    """Both RGB in [0, 1], (B, 3, H, W), sides at least 32 -> (B,).

    In squares of 32 pixels: the power of the drift, that is of the error's means over
    8x8 pixels, and of the weave, that is of what in the error repeats every 8 pixels,
    both in proportion to the variance of the target there, which hides them. Rows and
    columns beyond the last square do not count.
    """
    height, width = (side // SIDE * SIDE for side in image.shape[2:])
    image, target = (t[:, :, :height, :width] for t in (image, target))
    batch, channels = image.shape[:2]
    squares = (batch, channels, height // SIDE, SIDE, width // SIDE, SIDE)
    n = SIDE // PERIOD
    cells = (*squares[:3], n, PERIOD, squares[4], n, PERIOD)
    hiding = target.reshape(squares).var((3, 5), correction=0) + CONTRAST**2
    error = (image - target).reshape(cells)
    drift = error.mean((4, 7)).square().mean((3, 5))
    repeated = error.mean((3, 6))
    weave = (repeated - repeated.mean((3, 5), keepdim=True)).square().mean((3, 5))
    return ((drift + WEAVE * weave) / hiding).mean((1, 2, 3))
