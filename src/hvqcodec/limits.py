"""What is refused before memory is taken for it, unless the caller says otherwise."""

MAX_PIXELS = 256_000_000
"""Of an image, on its way in or out."""

MAX_METADATA_BYTES = 1 << 24
"""Of one piece of metadata, inflated."""

SMALL = 1 << 20
"""Pixels that are never too many once sides are raised to multiples of 16."""


def is_too_large(width: int, height: int, max_pixels: float) -> bool:
    """Whether an image has more pixels than allowed. One of few rows or columns takes as much
    as with sides raised to multiples of 16, of which it may have twice as many."""
    coded = (width + -width % 16) * (height + -height % 16)
    return width * height > max_pixels or coded > max(2 * max_pixels, SMALL)
