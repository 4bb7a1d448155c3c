"""How LPIPS and DLP get to see pictures in training: never twice in the same way.

A network that always looks from the same place is soon pleased by what it overlooks, and others
are not. What still pleases it turned, scaled, in another contrast and under a little grain is
more often right.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

SHIFT = 2
"""Pixels by which pictures move at most. AlexNet's first stride is 4, as wide as a fine code:
else each of its filters always meets the grid of codes at the same place, and what it cannot
see there is woven into the picture."""
SCALES = (5 / 6, 1.0, 7 / 6)
"""Few, since code is compiled for each."""
CONTRAST = 0.3
GRAIN = 0.02
"""Its standard deviation at most; the same in both pictures."""


@dataclass(frozen=True)
class View:
    shift: tuple[int, int] = (0, 0)
    transposed: bool = False
    mirrored: bool = False
    scale: float = 1.0
    contrast: float = 1.0
    grain: float = 0.0

    def place(self, image: Tensor) -> Tensor:
        """(B, C, H, W), moved round the edge, mirrored and transposed."""
        image = image.roll(self.shift, (2, 3))
        image = image.flip(3) if self.mirrored else image
        return image.transpose(2, 3) if self.transposed else image

    def back(self, cells: Tensor) -> Tensor:
        """(B, h, w) of what was seen, to where it was; what is less than a cell stays moved."""
        cells = cells.transpose(1, 2) if self.transposed else cells
        return cells.flip(2) if self.mirrored else cells

    def look(self, image: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Both RGB in [0, 1], (B, 3, H, W), in another size and contrast, with grain."""
        size = [round(self.scale * side) for side in image.shape[2:]]
        grain = self.grain * torch.randn(*image.shape[:2], *size, device=image.device)

        def seen(picture: Tensor) -> Tensor:
            if self.scale != 1:
                picture = F.interpolate(picture, size, mode="bilinear", antialias=True)
            return (picture - 0.5) * self.contrast + 0.5 + grain

        return seen(image), seen(target)


def random_view() -> View:
    """Drawn by torch, so that a run's seed decides."""
    down, right = torch.randint(-SHIFT, SHIFT, (2,)).tolist()
    transposed, mirrored = (torch.rand(2) < 0.5).tolist()
    scale = SCALES[int(torch.randint(len(SCALES), ()))]
    contrast, grain = torch.rand(2).tolist()
    contrast = 1 + CONTRAST * (2 * contrast - 1)
    return View((down, right), transposed, mirrored, scale, contrast, GRAIN * grain)
