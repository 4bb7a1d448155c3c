"""Processes that train one model together: each takes steps of its own, on crops of its own, and
every few steps all go on from the mean of their weights (local SGD: Stich 2019, arXiv 1805.09767).
On processors, several with one thread each make better use of the cores than one with several."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch
from torch import Tensor, distributed

MEET_EVERY = 20
"""Steps."""
PATIENCE = timedelta(minutes=30)
"""With one that compiles, or validates."""


class Peers:
    """One process's place among all. Raises SystemExit where another is gone."""

    def __init__(self, rank: int, count: int, folder: Path) -> None:
        """rank: from 0. folder: that all share, empty at first."""
        self.count = count
        distributed.init_process_group(
            "gloo",
            init_method=(folder / "meeting").as_uri(),
            rank=rank,
            world_size=count,
            timeout=PATIENCE,
        )

    @torch.no_grad()
    def begin(self, state: Iterable[Tensor]) -> None:
        """Make every tensor that of the first, in place: the mean of models that have nothing in
        common is none."""
        with self.together():
            for tensor in state:
                told = tensor.cpu().contiguous()
                distributed.broadcast(told, 0)
                tensor.copy_(told)

    @contextmanager
    def together(self) -> Iterator[None]:
        """While all wait for each other."""
        try:
            yield
        except RuntimeError as error:
            raise SystemExit(f"one of the {self.count} processes is gone ({error})") from error

    @torch.no_grad()
    def meet(self, state: Iterable[Tensor], wish: bool) -> bool:
        """Wait for all, make every tensor of real numbers the mean of theirs, in place, and tell
        whether any of them has the wish."""
        tensors = [t for t in state if t.is_floating_point()]
        flat = torch.cat([torch.tensor([float(wish)]), *(t.flatten().cpu() for t in tensors)])
        with self.together():
            distributed.all_reduce(flat)
        flat /= self.count
        for tensor, mean in zip(tensors, flat[1:].split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))
        return bool(flat[0] > 0)

    def part(self) -> None:
        distributed.destroy_process_group()
