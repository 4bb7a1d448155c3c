"""How natural decoded photos look as a crowd: the Fréchet distance of their features.

    python -m benchmarks.frechet photos --perceptual networks --rates 0.1,0.2,0.3 \\
        --models base other.safetensors

As FID (Heusel et al. 2017, arXiv 1706.08500) measures it, with what is at hand: the features
are AlexNet's third layer at every position, not Inception's of whole images, so figures compare
with each other and with no published one. Where LPIPS asks whether each patch is like the
original's, this asks whether all patches together are like those of photos: blur and patterns
show, a blade of grass elsewhere does not.
"""

import argparse
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from hvqcodec import Codec, HvqWarning
from hvqcodec.metrics import to_tensor
from hvqcodec.metrics.perceptual import LPIPS, load_perceptual
from training.data import Photo, load_photos

TAP = 2


@dataclass
class Crowd:
    """Mean and covariance of the features of many photos."""

    network: LPIPS
    count: int = 0
    total: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))
    products: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))

    @torch.no_grad()
    def add(self, photo: Photo) -> None:
        features = self.network.features(to_tensor(photo))[TAP][0].flatten(1).double()  # (C, N)
        self.count += features.shape[1]
        self.total = self.total + features.sum(1)
        self.products = self.products + features @ features.t()

    def mean(self) -> Tensor:
        return self.total / self.count

    def covariance(self) -> Tensor:
        return self.products / self.count - torch.outer(self.mean(), self.mean())


def crowd_of(photos: Iterable[Photo], network: LPIPS) -> Crowd:
    crowd = Crowd(network)
    for photo in photos:
        crowd.add(photo)
    return crowd


def frechet_distance(a: Crowd, b: Crowd) -> float:
    """|difference of the means|^2 + tr(A + B - 2 (A B)^(1/2))."""
    root = square_root(a.covariance())
    mixed = square_root(root @ b.covariance() @ root)
    spread = (a.covariance() + b.covariance() - 2 * mixed).trace()
    return float((a.mean() - b.mean()).square().sum() + spread)


def square_root(matrix: Tensor) -> Tensor:
    """Of a symmetric matrix without negative eigenvalues, but for rounding."""
    values, vectors = torch.linalg.eigh((matrix + matrix.t()) / 2)
    root: Tensor = (vectors * values.clamp_min(0).sqrt()) @ vectors.t()
    return root


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", type=Path, nargs="+", help="folders and tar files")
    parser.add_argument("--models", nargs="+", default=["base"], help="names and paths")
    parser.add_argument("--perceptual", type=Path, required=True, help="folder with AlexNet")
    parser.add_argument("--rates", default="0.1,0.2,0.3", help="bpp, with commas between")
    parser.add_argument("--limit-photos", type=int)
    options = parser.parse_args(given)
    network, _ = load_perceptual(options.perceptual)
    if network is None:
        parser.error(f"{options.perceptual} holds no lpips_alex.safetensors")
    photos = load_photos(options.photos, options.limit_photos)
    originals = crowd_of(photos, network)
    print("| model | bpp | Fréchet distance |\n|---|---|---|")
    # Photos that cannot use a rate are coded at their maximum.
    warnings.simplefilter("ignore", HvqWarning)
    for model in options.models:
        codec = Codec.load(model)
        for rate in map(float, options.rates.split(",")):
            decoded = crowd_of(
                (codec.decompress(codec.compress(p, bpp=rate), output="numpy") for p in photos),
                network,
            )
            print(
                f"| {model} | {rate:g} | {frechet_distance(originals, decoded):.3f} |", flush=True
            )


if __name__ == "__main__":
    main()
