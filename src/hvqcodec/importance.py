"""Where errors count: a grey image beside the photo, as weights of its 8x8 cells. Not normative."""

import numpy as np

from hvqcodec.arrays import Floats
from hvqcodec.errors import ImageError
from hvqcodec.granularity import BLOCK, MEDIUM
from hvqcodec.image import ImageSource, Picture, read_picture
from hvqcodec.pixels import to_blocks, to_grey


def cell_weights(source: ImageSource, picture: Picture, strip: bool, max_pixels: int) -> Floats:
    """Means of an image's brightness over the cells of a picture of the same size, which is raised
    to multiples of 16: (H'/8, W'/8), of mean 1, where black counts a 256th of white.

    strip, max_pixels: as of the picture. Raises ImageError for another size.
    """
    rgb = read_picture(source, strip, max_pixels, tell=lambda lost: None).rgb
    if rgb.shape != picture.rgb.shape:
        sizes = ["{1} x {0}".format(*shape) for shape in (rgb.shape, picture.rgb.shape)]
        raise ImageError(f"the importance has {sizes[0]} pixels, the image as stored {sizes[1]}")
    grey = to_grey(to_blocks(rgb))
    cell = BLOCK[MEDIUM]
    rows, columns = (side // cell for side in grey.shape)
    brightness = grey.reshape(rows, cell, columns, cell).mean((1, 3), np.float64)
    weights: Floats = (1 + brightness) / (1 + brightness.mean())
    return weights
