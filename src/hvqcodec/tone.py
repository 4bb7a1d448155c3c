"""What the synthesis misses over large areas: the encoder measures it, the decoder adds it.

Codes of unit length are vague about the mean colour of an area, and an error that extends over
many blocks shows as drift, in skies above all. What mends it is cheap: three values for each
64x64 or 128x128 pixels. `entropy.tone_coding` sends them.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hvqcodec.entropy.range_coding import Floats
from hvqcodec.entropy.tone_coding import VALUE_MAX, Tone, TonePlane, grid
from hvqcodec.image import Pixels

TO_PLANES = np.array([[0.25, 0.5, 0.25], [0.5, 0.0, -0.5], [-0.25, 0.5, -0.25]])
"""RGB to Y, Co, Cg."""
ENERGY = (3, 2, 3)
"""Of an error in Y, Co or Cg, what it is in RGB."""
FRACTION = 4
"""Bits after the point of what is added to a plane."""
CELL = 8
"""Pixels: errors are averaged over squares of these first."""
CHOSEN_CELLS = (6, 7, 8)
"""Finer ones would pay in PSNR, but not in LPIPS."""
CHOSEN_STEPS = (2, 3, 4, 6, 8)
ROUNDING = 0.4
"""Added to a magnitude before it is cut to an integer: small values cost more than they bring."""
ERROR_WEIGHT = 42.0
"""Of a squared error, RGB in [0, 1], in the distortion that the lambda is for."""
OVERHEAD = 16
"""Bytes of a tone beside its values, about."""
STRIDE, STRIDES = 1.25, 2
"""Of lambda, in the search for a size, and how many of them are about the same."""
ROWS = 256
"""Of pixels at a time: bounds the memory."""


def weights(side: int, cell: int, pixel: int = 1) -> Floats:
    """(side / pixel, cells), bilinear: what each cell counts at the middle of each so many
    pixels along a side; beyond the middles of the outer cells only these count."""
    places, cells = -(-side // pixel), grid(side, cell)
    at = (pixel * np.arange(places) + pixel / 2) / (1 << cell) - 0.5
    low = np.floor(at).astype(np.int64)
    found = np.zeros((places, cells))
    for index, share in ((low, low + 1 - at), (low + 1, at - low)):
        np.add.at(found, (np.arange(places), index.clip(0, cells - 1)), share)
    return found


def across(plane: TonePlane, width: int) -> Floats:
    """(rows of cells, W), interpolated along the rows, in units of 1 / (2 x side of a cell)."""
    size = 1 << plane.cell
    mixed: Floats = plane.step * plane.values @ (weights(width, plane.cell).T * 2 * size)
    return mixed


def correction(plane: TonePlane, rows: slice, columns: Floats) -> NDArray[np.int32]:
    """What is to be added at some rows of pixels, in units of 2^-4, (rows, W).

    columns: see `across`."""
    size = 1 << plane.cell
    at = 2 * np.arange(rows.start, rows.stop) + 1 - size
    low, share = at >> plane.cell + 1, at & 2 * size - 1
    last = len(plane.values) - 1
    above, below = (columns[index.clip(0, last)] for index in (low, low + 1))
    mixed = (above * (2 * size - share)[:, None] + below * share[:, None]).astype(np.int64)
    shift = 2 * plane.cell + 2 - FRACTION
    rounded: NDArray[np.int32] = (mixed + (1 << shift - 1) >> shift).astype(np.int32)
    return rounded


def add_tone(pixels: Pixels, tone: Tone) -> None:
    """To pixels, (H, W, 3), sides multiples of 16, in place."""
    height, width = pixels.shape[:2]
    planes = [plane and (plane, across(plane, width)) for plane in tone.planes]
    for start in range(0, height, ROWS):
        rows = slice(start, min(start + ROWS, height))
        zero = np.zeros((rows.stop - rows.start, width), np.int32)
        y, co, cg = (correction(p[0], rows, p[1]) if p else zero for p in planes)
        half = 1 << FRACTION - 1
        for channel, change in enumerate((y + co - cg, y + cg, y - co - cg)):
            moved = pixels[rows, :, channel] + (change + half >> FRACTION)
            pixels[rows, :, channel] = moved.clip(0, 255)


def mean_errors(original: Pixels, decoded: Pixels) -> Floats:
    """(3, H / 8, W / 8), of Y, Co and Cg; a row of cells at a time."""
    columns = original.shape[1] // CELL
    rows = []
    for top in range(0, len(original), CELL):
        band = slice(top, top + CELL)
        error = original[band].astype(np.float32) - decoded[band]
        rows.append(error.reshape(CELL, columns, CELL, 3).mean((0, 2)))
    errors: Floats = np.einsum("pc,yxc->pyx", TO_PLANES, np.stack(rows))
    return errors


def planes_for(errors: Floats, energy: int) -> Iterator[tuple[float, TonePlane | None]]:
    """What one plane may be sent as, and the squared error in RGB that it leaves.

    errors: (H / 8, W / 8)."""
    height, width = (CELL * side for side in errors.shape)

    def left(added: Floats | float) -> float:
        return float(energy * CELL**2 * np.square(errors - added).sum())

    yield left(0.0), None
    for cell in CHOSEN_CELLS:
        down, right = weights(height, cell, CELL), weights(width, cell, CELL)
        best = np.linalg.pinv(down) @ errors @ np.linalg.pinv(right).T
        for step in CHOSEN_STEPS:
            values = np.sign(best) * np.floor(np.abs(best) / step + ROUNDING)
            values = values.clip(-VALUE_MAX, VALUE_MAX)
            plane = TonePlane(cell, step, values.astype(np.int32))
            yield left(step * (down @ values @ right.T)), plane


class ToneFitter:
    """Finds the tone of an image at a price."""

    def __init__(self, original: Pixels, decoded: Pixels, synthesis: bytes) -> None:
        """original, decoded: (H, W, 3), sides multiples of 16. synthesis: see `Tone`."""
        errors = mean_errors(original, decoded)
        self.synthesis = synthesis
        self.choices = [list(planes_for(*plane)) for plane in zip(errors, ENERGY, strict=True)]

    def __call__(self, lambda_: float) -> Tone | None:
        """The one of least distortion + lambda x bits, if it is worth its bytes."""

        def cost(choice: tuple[float, TonePlane | None]) -> float:
            error, plane = choice
            bits = plane.bits if plane else 0.0
            return ERROR_WEIGHT * error / (3 * 255**2) + lambda_ * bits

        chosen = [min(choices, key=cost) for choices in self.choices]
        saved = sum(cost(choices[0]) for choices in self.choices) - sum(map(cost, chosen))
        if saved <= lambda_ * 8 * OVERHEAD:
            return None
        return Tone(self.synthesis, tuple(plane for _, plane in chosen))

    def within(self, lambda_: float, least: int, most: int, firm: bool) -> bytes:
        """The body of the section, none if it is empty: of that many bytes, if it has them at
        about that lambda. firm: never of more."""
        body, tries = self.body(lambda_), 0
        while body and len(body) > most and (firm or tries < STRIDES):
            lambda_ *= STRIDE
            body, tries = self.body(lambda_), tries + 1
        for _ in range(STRIDES - tries):
            lambda_ /= STRIDE
            if len(body) >= least or len(finer := self.body(lambda_)) > most:
                break
            body = finer
        return body

    def body(self, lambda_: float) -> bytes:
        tone = self(lambda_)
        return tone.to_bytes() if tone else b""
