"""How networks get to see a pair of pictures: never twice in the same way.

A network that always looks from the same place is soon pleased by what it overlooks, and others
are not. What still pleases it turned, scaled, in another contrast and under a little grain is
more often right. So training shows pictures to LPIPS and DLP, and the encoder to its own analysis.
"""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

SCALES = (5 / 6, 1.0, 7 / 6)
"""Few, since training compiles code for each."""
SIDES = 16
"""Of what their sides are multiples, scaled or not."""
CONTRAST = 0.3
GRAIN = 0.02
"""Its standard deviation at most, in RGB from 0 to 1; the same in both pictures."""


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

    def look(
        self, image: Tensor, target: Tensor, generator: Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Both RGB in [0, 1], (B, 3, H, W), in another size and contrast, with grain."""
        size = [max(1, round(self.scale * side / SIDES)) * SIDES for side in image.shape[2:]]
        grain = torch.randn(
            *image.shape[:2], *size, generator=generator, dtype=torch.float32, device="cpu"
        )
        grain = self.grain * grain.to(image.device)

        def seen(picture: Tensor) -> Tensor:
            if list(picture.shape[2:]) != size:
                picture = F.interpolate(picture, size, mode="bilinear", antialias=True)
            return (picture - 0.5) * self.contrast + 0.5 + grain

        return seen(image), seen(target)


def random_view(shift: int, generator: Generator | None = None) -> View:
    """shift: pixels by which pictures move at most. Drawn by torch, so that a seed decides."""
    places = torch.randint(-shift, shift, (2,), generator=generator, device="cpu")
    draws = torch.rand(5, generator=generator, dtype=torch.float32, device="cpu")
    transposed, mirrored, scale, contrast, grain = draws.tolist()
    down, right = places.tolist()
    return View(
        (down, right),
        transposed < 0.5,
        mirrored < 0.5,
        SCALES[int(len(SCALES) * scale)],
        1 + CONTRAST * (2 * contrast - 1),
        GRAIN * grain,
    )
