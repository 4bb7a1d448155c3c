"""The pictures of the documentation.

    python -m benchmarks.pictures docs

comparison.jpg: crops of photos, the original and JPEG, WebP, AVIF and hvq at equal bytes.
granularity.jpg: a photo, the granularity map of its file and the bits of each block.
importance.jpg: a face, coded without and with an importance that is bright there.

The photos come with scikit-image and may be published (public domain, CC0). They are coded as a
whole; the others get the best quality that takes no more bytes than hvq took, or their lowest
if none does.
"""

import argparse
import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from skimage import data

from hvqcodec import Codec
from hvqcodec.models.cards import DEFAULT
from hvqcodec.report.overlays import bits_overlay, granularity_overlay
from hvqcodec.report.rivals import OPTIONS, best_within

CROPS = {
    "astronaut": (120, 10),
    "coffee": (190, 90),
    "chelsea": (90, 30),
    "rocket": (210, 120),
    "page": (0, 0),
}
"""Left and top of what is shown of each photo; the last is a page of text."""

BPP = 0.15
MAP_PHOTO, MAP_BPP = "astronaut", 0.12
FACE, ELSEWHERE = (172, 20, 278, 180), 25
"""An ellipse of `MAP_PHOTO` where the importance is 255, and what it is elsewhere."""
OPACITY = 0.55
"""Of what is laid over the photo."""

SIDE, GAP, CAPTION = 190, 6, 22

Row = list[tuple[str, Image.Image]]
"""Pictures and their captions."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default=DEFAULT, help="name or path")
    options = parser.parse_args()
    codec = Codec.load(options.model)
    rows = [compared(codec, name, corner) for name, corner in CROPS.items()]
    sheet(rows).save(options.folder / "comparison.jpg", quality=88)
    sheet([mapped(codec)]).save(options.folder / "granularity.jpg", quality=85)
    sheet([weighed(codec)]).save(options.folder / "importance.jpg", quality=90)


def photo_of(name: str) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(getattr(data, name)())).convert("RGB")


def compared(codec: Codec, name: str, corner: tuple[int, int]) -> Row:
    """The original and all codecs, cut out."""
    photo = photo_of(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a photo may not use so many bits
        ours = codec.compress(photo, bpp=BPP)
    row = [("original", photo)]
    for rival in OPTIONS:
        coded = best_within(rival, photo, len(ours))
        row.append((f"{rival}, {len(coded)} bytes", Image.open(io.BytesIO(coded))))
    row.append((f"hvq, {len(ours)} bytes", codec.decompress(ours)))
    left, top = corner
    box = (left, top, left + SIDE, top + SIDE)
    return [(caption, image.convert("RGB").crop(box)) for caption, image in row]


def mapped(codec: Codec) -> Row:
    """A photo, and where its file spends its bits."""
    photo = photo_of(MAP_PHOTO)
    coded = codec.compress(photo, bpp=MAP_BPP)
    levels, bits = codec.maps(coded)
    grey = photo.convert("L").convert("RGB")
    laid = [
        Image.blend(grey, overlay(values, *photo.size), OPACITY)
        for overlay, values in ((granularity_overlay, levels), (bits_overlay, bits))
    ]
    captions = (
        f"hvq, {len(coded)} bytes",
        "blue 16x16, green 8x8, orange 4x4 pixels per code",
        "bits: dark none, yellow 40 for 8x8 pixels",
    )
    return list(zip(captions, (codec.decompress(coded), *laid), strict=True))


def weighed(codec: Codec) -> Row:
    """A part of a photo, the original and two files of the whole."""
    photo = photo_of(MAP_PHOTO)
    importance = Image.new("L", photo.size, ELSEWHERE)
    ImageDraw.Draw(importance).ellipse(FACE, 255)
    files = (
        codec.compress(photo, bpp=MAP_BPP),
        codec.compress(photo, bpp=MAP_BPP, importance=importance),
    )
    captions = "original", f"hvq, {len(files[0])} bytes", f"with importance, {len(files[1])} bytes"
    images = photo, *map(codec.decompress, files)
    return [(c, i.crop((96, 0, 384, 288))) for c, i in zip(captions, images, strict=True)]


def sheet(rows: list[Row]) -> Image.Image:
    """All pictures, of one size, under their captions."""
    width, height = rows[0][0][1].size
    across, down = width + GAP, height + CAPTION + GAP
    canvas = Image.new("RGB", (len(rows[0]) * across - GAP, len(rows) * down - GAP), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(13)
    for y, row in enumerate(rows):
        for x, (caption, image) in enumerate(row):
            draw.text((x * across + 2, y * down + 3), caption, "black", font)
            canvas.paste(image, (x * across, y * down + CAPTION))
    return canvas


if __name__ == "__main__":
    main()
