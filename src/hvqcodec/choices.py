"""What the codec can be told, by name, for those who pass it on."""

from typing import TYPE_CHECKING, Literal, TypedDict

from hvqcodec.tiling import Progress

if TYPE_CHECKING:
    from hvqcodec.image import ImageSource

Effort = Literal["auto", "fast", "best", "max"]
DEFAULT_EFFORT: Effort = "auto"


class Choices(TypedDict, total=False):
    """What `Codec.compress` can be told."""

    quality: float | None
    bpp: float | None
    max_bytes: int | None
    ratios: tuple[float, float, float] | None
    strict_rate: bool
    strip: bool
    importance: "ImageSource | None"
    effort: Effort
    tile: int | None
    max_pixels: int
    progress: Progress | None


class DecodingChoices(TypedDict, total=False):
    """What `Codec.decompress` can be told beside the kind of its result."""

    tile: int | None
    max_pixels: int
    max_metadata_bytes: int
    progress: Progress | None
