"""What is refused before memory is taken for it, unless the caller says otherwise."""

MAX_PIXELS = 256_000_000
"""Of an image, on its way in or out."""

MAX_METADATA_BYTES = 1 << 24
"""Of one piece of metadata, inflated."""
