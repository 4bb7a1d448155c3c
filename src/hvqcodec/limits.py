"""What is refused before memory is taken for it, unless the caller says otherwise."""

MAX_PIXELS = 256_000_000
"""Of an image, on its way in or out."""

MAX_METADATA_BYTES = 1 << 24
"""Of one piece of metadata, inflated."""

SMALL = 1 << 20
"""Pixels that are never too many once sides are raised to multiples of 16."""


def check_limit(name: str, limit: object) -> None:
    if not isinstance(limit, int | float):
        raise TypeError(f"{name} must be a number, not {limit!r}")


def is_too_large(width: int, height: int, max_pixels: float) -> bool:
    """Whether an image has more pixels than allowed. One of few rows or columns takes as much
    as with sides raised to multiples of 16, of which it may have twice as many."""
    return width * height > max_pixels or coded_pixels(width, height) > max(2 * max_pixels, SMALL)


def too_large(width: int, height: int, max_pixels: float) -> str:
    """What is to be said of an image that is."""
    coded = ""
    if width * height <= max_pixels:
        coded = f" allows, since they are coded as {coded_pixels(width, height)}"
    return f"{width} x {height} pixels, more than the limit of {max_pixels}{coded}"


def coded_pixels(width: int, height: int) -> int:
    return (width + -width % 16) * (height + -height % 16)
