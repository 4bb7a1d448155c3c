"""What LPIPS and DLP hardly see, and the eye at once: faults of flat areas."""

from torch import Tensor

SIDE = 64
"""Of the squares that are judged, in pixels."""
PERIOD = 16
"""Pixels after which a pattern woven by codes of any level repeats."""
CELL = 8
"""Side of what drifts as one, in pixels."""
CONTRAST = 4 / 255
"""Standard deviation of a square that hides half of the faults."""
WEAVE = 8.0
"""Weight of the weave beside the drift: the eye is keener on fine patterns."""


def flat_faults(image: Tensor, target: Tensor) -> Tensor:
    """Both RGB in [0, 1], (B, 3, H, W), sides at least 64 -> (B,).

    In squares of 64 pixels: the power of the drift, that is of the error's means over
    8x8 pixels, and of the weave, that is of what in the error repeats every 16 pixels,
    both in proportion to the variance of the target there, which hides them. Rows and
    columns beyond the last square do not count.
    """
    height, width = (side // SIDE * SIDE for side in image.shape[2:])
    image, target = (t[:, :, :height, :width] for t in (image, target))
    batch, channels = image.shape[:2]
    squares = (batch, channels, height // SIDE, SIDE, width // SIDE, SIDE)
    error = (image - target).reshape(squares)
    hiding = target.reshape(squares).var((3, 5), correction=0) + CONTRAST**2
    drift = tiled(error, CELL).mean((4, 7)).square().mean((3, 5))
    repeated = tiled(error, PERIOD).mean((3, 6))
    weave = (repeated - repeated.mean((3, 5), keepdim=True)).square().mean((3, 5))
    return ((drift + WEAVE * weave) / hiding).mean((1, 2, 3))


def tiled(squares: Tensor, side: int) -> Tensor:
    """(B, 3, rows, s, columns, s) -> (B, 3, rows, s/side, side, columns, s/side, side)."""
    batch, channels, rows, size, columns, _ = squares.shape
    n = size // side
    return squares.reshape(batch, channels, rows, n, side, columns, n, side)
