"""Large images in tiles, so that memory does not grow with them.

The networks are convolutions alone, so a tile with a halo of the receptive field sees all
that bears on its own pixels: cut out of it, they are those of the whole image.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

UNTILED = 4 << 20
"""Pixels up to which an image is one tile, if nothing is said."""
SIDE = 1536
"""Of the tiles of larger images."""

Progress = Callable[[float], None]
"""Told the share that is done, 0 to 1."""


class Stages:
    """Progress of work of unknown length: each stage is half of what is left."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress = progress
        self.done = 0.0

    def half(self, share: float) -> None:
        """So much of a stage is done; 1 ends it."""
        self.part(share, 0.5)

    def most(self, share: float) -> None:
        """Likewise, of one that takes nearly all of what is left."""
        self.part(share, 0.9)

    def part(self, share: float, of_rest: float) -> None:
        now = self.done + share * (1 - self.done) * of_rest
        self.done = now if share == 1 else self.done
        if self.progress:
            self.progress(now)

    def end(self) -> None:
        if self.progress:
            self.progress(1.0)


@dataclass(frozen=True)
class Span:
    """Along one side of the image, in pixels: what a tile is for, and with its halo."""

    start: int
    stop: int
    outer_start: int
    outer_stop: int

    def inner(self, block: int) -> slice:
        """In a grid of blocks of so many pixels."""
        return slice(self.start // block, self.stop // block)

    def outer(self, block: int) -> slice:
        return slice(self.outer_start // block, self.outer_stop // block)

    def within(self, block: int) -> slice:
        """The inner part, counted from where the outer one starts."""
        first = (self.start - self.outer_start) // block
        return slice(first, first + (self.stop - self.start) // block)


@dataclass(frozen=True)
class Tile:
    """What it returns are indices for the rows and columns of a grid of blocks."""

    rows: Span
    columns: Span

    def inner(self, block: int) -> tuple[slice, slice]:
        """What the tile is for."""
        return self.rows.inner(block), self.columns.inner(block)

    def outer(self, block: int) -> tuple[slice, slice]:
        """With its halo."""
        return self.rows.outer(block), self.columns.outer(block)

    def within(self, block: int) -> tuple[slice, slice]:
        """The inner part of the outer one."""
        return self.rows.within(block), self.columns.within(block)


def tiles(
    height: int, width: int, reach: int, side: int | None = None, grid: int = 16
) -> Iterator[Tile]:
    """Tiles that cover an image, sides multiples of 16, row by row.

    reach: of the network, in pixels; the halo is that, raised to a multiple of the grid, and
    clipped at the border of the image. side: of the inner parts at most, raised likewise; None:
    the whole image, or `SIDE` for a large one. grid: on which all tiles begin, a multiple of 16.
    """
    if side is None:
        side = SIDE if height * width > UNTILED else max(height, width)
    if side < 1:
        raise ValueError(f"the side of a tile must be positive, not {side}")
    side, halo = (-(-length // grid) * grid for length in (side, reach))
    for rows in spans(height, side, halo, grid):
        for columns in spans(width, side, halo, grid):
            yield Tile(rows, columns)


def spans(length: int, side: int, halo: int, grid: int) -> Iterator[Span]:
    """As few as can be, as long as each other, but for the last one, which may be shorter."""
    count = -(-length // side)
    step = -(-length // (grid * count)) * grid
    for start in range(0, length, step):
        stop = min(start + step, length)
        yield Span(start, stop, max(0, start - halo), min(length, stop + halo))
