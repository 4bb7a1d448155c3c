"""How far a decoded photo is from the original."""

import importlib
import warnings
from collections.abc import Callable, Collection
from pathlib import Path

import torch
from torch import Tensor

from hvqcodec.arrays import Pixels
from hvqcodec.errors import MissingError
from hvqcodec.metrics.perceptual import load_perceptual
from hvqcodec.metrics.similarity import ms_ssim, psnr
from hvqcodec.metrics.ssimulacra import Ssimulacra2

Distance = Callable[[Tensor, Tensor], Tensor]
"""Of RGB in [0, 1], (1, 3, H, W) each."""

TITLES = {
    "psnr": "PSNR",
    "ms_ssim": "MS-SSIM",
    "ssimulacra2": "SSIMULACRA2",
    "lpips": "LPIPS",
    "dlp": "DLP",
    "effnet": "EffNet",
}
LOWER_IS_BETTER = frozenset({"lpips", "dlp", "effnet"})


class Metrics:
    """All metrics of a pair of photos.

    perceptual: folder with the networks of LPIPS and DLP; a metric whose network is not
        there is left out.
    """

    def __init__(self, perceptual: Path | None = None) -> None:
        lpips, dlp = load_perceptual(perceptual)
        self.distances: dict[str, Distance] = {"psnr": psnr, "ms_ssim": ms_ssim}
        if lpips is not None:
            self.distances["lpips"] = lpips
        if dlp is not None:
            self.distances["dlp"] = dlp

    def add_optional(self) -> list[str]:
        """Add what optional packages offer; a line for each metric that stays left out."""
        lines = []
        for name, find in OPTIONAL.items():
            if name in self.distances:
                continue
            try:
                self.distances[name] = find()
            except MissingError as error:
                lines.append(f"{TITLES[name]} is left out: {error}")
        if "dlp" not in self.distances:
            lines.append("DLP is left out: only a folder given as --perceptual has its network")
        return lines

    @torch.no_grad()
    def __call__(
        self, reference: Pixels, decoded: Pixels, without: Collection[str] = ()
    ) -> dict[str, float]:
        """By name. without: names that are left out."""
        a, b = to_tensor(reference), to_tensor(decoded)
        return {
            name: distance(a, b).item()
            for name, distance in self.distances.items()
            if name not in without
        }


def to_tensor(pixels: Pixels) -> Tensor:
    """(H, W, 3) of 0 to 255 -> (1, 3, H, W) of [0, 1]."""
    return torch.tensor(pixels, device="cpu").permute(2, 0, 1)[None].float() / 255


def packaged_lpips() -> Distance:
    """LPIPS by the package `lpips`, which fetches the weights of AlexNet when first used."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # It calls torchvision in a deprecated way.
        try:
            network = importlib.import_module("lpips").LPIPS(net="alex", verbose=False).eval()
        except ImportError as error:
            raise MissingError(
                f"it needs the package lpips ({error}), or its network in a folder given as "
                "--perceptual"
            ) from error
        except (OSError, RuntimeError) as error:
            # No weights, or a torchvision that was built for another torch.
            raise MissingError(f"the package lpips does not load ({error})") from error
    return lambda a, b: network(a, b, normalize=True).flatten()


OPTIONAL: dict[str, Callable[[], Distance]] = {"ssimulacra2": Ssimulacra2, "lpips": packaged_lpips}
