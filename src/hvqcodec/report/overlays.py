"""Where an .hvq file spends its bits, as pictures to lay over the photo."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hvqcodec.granularity import COARSE, FINE, MEDIUM

CELL = 8
"""Pixels along a side of the squares that levels and bits are given for."""

LEVEL_COLOURS = {COARSE: (38, 70, 180), MEDIUM: (40, 170, 90), FINE: (240, 130, 20)}
LINE = (255, 255, 255)

HEAT = ((10, 10, 60), (120, 30, 130), (230, 80, 60), (255, 230, 100))
"""From no bits to many."""
MANY = 40.0
"""Bits of an 8x8 cell that get the last colour: four codes of a K of 1024."""


def granularity_overlay(levels: NDArray[np.uint8], width: int, height: int) -> Image.Image:
    """levels: (H', W') of 8x8 cells. A colour for each level, and lines around what one code
    stands for; for an image of so many pixels."""
    sides = {COARSE: 2 * CELL, MEDIUM: CELL, FINE: CELL // 2}
    grown = levels.repeat(CELL, 0).repeat(CELL, 1)
    rows, columns = np.ogrid[: grown.shape[0], : grown.shape[1]]
    picture = np.empty((*grown.shape, 3), np.uint8)
    for level, side in sides.items():
        edge = (rows % side == 0) | (columns % side == 0)
        here = grown == level
        picture[here] = LEVEL_COLOURS[level]
        picture[here & edge] = LINE
    return Image.fromarray(picture[:height, :width])


def bits_overlay(bits: NDArray[np.float64], width: int, height: int) -> Image.Image:
    """bits: (H', W') of the 8x8 cells; their colours in the scale `HEAT`."""
    share = np.clip(bits / MANY, 0, 1)
    places = np.linspace(0, 1, len(HEAT))
    channels = [np.interp(share, places, [colour[c] for colour in HEAT]) for c in range(3)]
    picture = np.stack(channels, 2).round().astype(np.uint8)
    grown = picture.repeat(CELL, 0).repeat(CELL, 1)
    return Image.fromarray(np.ascontiguousarray(grown[:height, :width]))
