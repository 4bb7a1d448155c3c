"""How natural decoded photos look as a crowd: the Fréchet distance of their features.

    python -m benchmarks.frechet photos --perceptual networks --rates 0.1,0.2,0.3 \\
        --models base other.safetensors

As FID (Heusel et al. 2017, arXiv 1706.08500) measures it, with what is at hand: the features
are AlexNet's third layer at every position, not Inception's of whole images, so figures compare
with each other and with no published one. Where LPIPS asks whether each patch is like the
original's, this asks whether all patches together are like those of photos: blur and patterns
show, a blade of grass elsewhere does not. AlexNet is in the training loss, as LPIPS, so a model
that has learned with it is seen by it in a friendly light.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from benchmarks import decoded
from benchmarks.photos import MOVED, Photo, load_photos
from hvqcodec.metrics import to_tensor
from hvqcodec.metrics.perceptual import LPIPS, load_perceptual

TAP = 2
"""AlexNet's third layer: 384 features, one position every 16 pixels."""


@dataclass
class Crowd:
    """Mean and covariance of the features of many photos."""

    network: LPIPS
    count: int = 0
    total: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))
    products: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))

    @torch.no_grad()
    def add(self, photo: Photo) -> None:
        """On the grid of the codes and beside it, since a picture may look right on it alone."""
        for start in (0, MOVED):
            taps = self.network.features(to_tensor(photo[start:, start:]))
            features = taps[TAP][0].flatten(1).double()  # (C, N)
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
    spread_a, spread_b = a.covariance(), b.covariance()
    root = square_root(spread_a)
    mixed = square_root(root @ spread_b @ root)
    spread = (spread_a + spread_b - 2 * mixed).trace()
    return float((a.mean() - b.mean()).square().sum() + spread)


def square_root(matrix: Tensor) -> Tensor:
    """Of a symmetric matrix without negative eigenvalues, but for rounding."""
    values, vectors = torch.linalg.eigh((matrix + matrix.t()) / 2)
    root: Tensor = (vectors * values.clamp_min(0).sqrt()) @ vectors.t()
    return root


def main(given: Sequence[str] | None = None) -> None:
    parser = decoded.options_parser(__doc__, rates="0.1,0.2,0.3")
    options = parser.parse_args(given)
    network, _ = load_perceptual(options.perceptual)
    if network is None:
        parser.error("--perceptual: give a folder that holds lpips_alex.safetensors")
    photos = load_photos(options.photos, options.limit_photos)
    originals = crowd_of(photos, network)
    print("| model | bpp | Fréchet distance |\n|---|---|---|")
    for model, rate, pictures in decoded.decoded(options, photos):
        distance = frechet_distance(originals, crowd_of(pictures, network))
        print(f"| {model} | {rate:g} | {distance:.3f} |", flush=True)


if __name__ == "__main__":
    main()
