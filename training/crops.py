"""Random crops of photos."""

import queue
import threading
from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.photos import Photo


def random_crop(photo: Photo, size: int, rng: np.random.Generator) -> Photo:
    """A square crop, flipped at random; half of them are scaled down to between 0.7 and 1.
    Never up: that would teach a blur that photos do not have."""
    h, w = photo.shape[:2]
    scale = rng.uniform(0.7, 1.0) if rng.random() < 0.5 else 1.0
    side = min(round(size / scale), h, w)
    top, left = rng.integers(0, h - side + 1), rng.integers(0, w - side + 1)
    crop = photo[top : top + side, left : left + side]
    if side < size:
        return random_crop(
            np.pad(crop, ((0, size - side), (0, size - side), (0, 0)), "edge"), size, rng
        )
    if side != size:
        resized = Image.fromarray(crop).resize((size, size), Image.Resampling.BICUBIC)
        crop = np.asarray(resized)
    return crop[:, ::-1] if rng.random() < 0.5 else crop


def smoothed(crop: Photo, rng: np.random.Generator) -> Photo:
    """One colour or a gradient of up to 3x3, any colours at all, in half of the cases around a
    part of the crop: backdrops, which photos seldom have and users do."""
    size, sides = len(crop), rng.integers(1, 4, 2)
    colours = rng.integers(0, 256, (*sides, 3)).astype(np.uint8)
    resized = Image.fromarray(colours).resize((size, size), Image.Resampling.BILINEAR)
    backdrop = np.array(resized)
    if rng.random() < 0.5:
        (top, bottom), (left, right) = np.sort(rng.integers(0, size + 1, (2, 2)), 1)
        backdrop[top:bottom, left:right] = crop[top:bottom, left:right]
    return backdrop


def batches(
    photos: list[Photo], batch: int, size: int, seed: int, smooth: float = 0.0
) -> Iterator[Tensor]:
    """Endless batches (B, 3, size, size) of RGB in [0, 1], made ahead in a thread. smooth: the
    share of crops that is `smoothed`."""
    ready: queue.Queue[Tensor | Exception] = queue.Queue(maxsize=8)

    def produce() -> None:
        rng = np.random.default_rng(seed)
        while True:
            picks = rng.integers(len(photos), size=batch)
            crops = [random_crop(photos[i], size, rng) for i in picks]
            if smooth:
                crops = [smoothed(c, rng) if rng.random() < smooth else c for c in crops]
            ready.put(torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float().div_(255))

    def produce_or_tell() -> None:
        try:
            produce()
        except Exception as error:  # which else nobody would see
            ready.put(error)

    threading.Thread(target=produce_or_tell, daemon=True).start()
    while True:
        made = ready.get()
        if isinstance(made, Exception):
            raise made
        yield made
