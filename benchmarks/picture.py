"""The picture in the README: the original, hvq, AVIF and JPEG at equal bytes, side by side.

    python -m benchmarks.picture docs/comparison.jpg --bpp 0.15

Shows crops of photos that come with scikit-image and may be published (public domain, CC0).
The whole photos are coded; AVIF and JPEG get the best quality that takes no more bytes than
hvq took, or their lowest if none does.
"""

import argparse
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from skimage import data

from hvqcodec import Codec

CROPS = {"astronaut": (120, 10), "coffee": (190, 90), "chelsea": (90, 30)}
"""Left and top of what is shown of each photo."""

SIDE, GAP, CAPTION = 240, 6, 22


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path)
    parser.add_argument("--bpp", type=float, default=0.15)
    parser.add_argument("--model", help="name or path; the embedded one without it")
    options = parser.parse_args()
    codec = Codec.load(options.model) if options.model else Codec.load()
    rows = []
    for name, corner in CROPS.items():
        photo = Image.fromarray(np.ascontiguousarray(getattr(data, name)()))
        ours = codec.compress(photo, bpp=options.bpp)
        columns = [("original", photo), (caption("hvq", ours, photo), codec.decompress(ours))]
        for other in ("AVIF", "JPEG"):
            coded = best_within(encoder(other, photo), len(ours))
            columns.append((caption(other, coded, photo), Image.open(io.BytesIO(coded))))
        rows.append([tile(image, corner, text) for text, image in columns])
    sheet(rows).save(options.output, quality=90)


def encoder(name: str, photo: Image.Image) -> Callable[[int], bytes]:
    def encode(quality: int) -> bytes:
        file = io.BytesIO()
        options = {"speed": 4} if name == "AVIF" else {"optimize": True, "subsampling": "4:2:0"}
        photo.save(file, name, quality=quality, **options)
        return file.getvalue()

    return encode


def best_within(encode: Callable[[int], bytes], limit: int) -> bytes:
    low, high = 0, 100
    while high - low > 1:
        middle = (low + high) // 2
        if len(encode(middle)) <= limit:
            low = middle
        else:
            high = middle
    return encode(low)


def caption(name: str, coded: bytes, photo: Image.Image) -> str:
    return f"{name}  {len(coded)} bytes, {8 * len(coded) / (photo.width * photo.height):.3f} bpp"


def tile(image: Image.Image, corner: tuple[int, int], text: str) -> Image.Image:
    left, top = corner
    canvas = Image.new("RGB", (SIDE, SIDE + CAPTION), "white")
    canvas.paste(image.convert("RGB").crop((left, top, left + SIDE, top + SIDE)), (0, CAPTION))
    ImageDraw.Draw(canvas).text((2, 3), text, "black", ImageFont.load_default(13))
    return canvas


def sheet(rows: list[list[Image.Image]]) -> Image.Image:
    width, height = rows[0][0].size
    size = (len(rows[0]) * (width + GAP) - GAP, len(rows) * (height + GAP) - GAP)
    canvas = Image.new("RGB", size, "white")
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            canvas.paste(image, (x * (width + GAP), y * (height + GAP)))
    return canvas


if __name__ == "__main__":
    main()
