"""LPIPS (AlexNet) and DLP (Tiny Darknet), as losses and as metrics.

Both read plain safetensors files that are not part of the project:
`lpips_alex.safetensors` (keys conv1..5.weight/bias, lin0..4.weight) and
`tiny_darknet.safetensors` (keys conv1..16.weight/bias).
"""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from hvqcodec.errors import ModelError


def convolutions(count: int) -> frozenset[str]:
    return frozenset(f"conv{n}.{part}" for n in range(1, count + 1) for part in ("weight", "bias"))


class PerceptualDistance(nn.Module):
    """Squared differences of unit-length features, weighted, summed over the taps."""

    KEYS: frozenset[str] = frozenset()
    """Names of the weights."""

    def __init__(self, weights: Path) -> None:
        super().__init__()
        try:
            tensors = load_file(weights)
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{weights}: not the weights of a network ({error})") from error
        missing = self.KEYS - tensors.keys()
        if missing:
            raise ModelError(
                f"{weights}: not the weights of {type(self).__name__}: it lacks {min(missing)}"
            )
        for name, tensor in tensors.items():
            self.register_buffer(name.replace(".", "_"), tensor)

    def features(self, image: Tensor) -> list[Tensor]:
        """Taps for RGB in [0, 1], (B, 3, H, W)."""
        raise NotImplementedError

    def tap_weight(self, tap: int) -> Tensor | None:
        return None

    def convolve(self, x: Tensor, layer: int, stride: int = 1, padding: int = 1) -> Tensor:
        weight = getattr(self, f"conv{layer}_weight")
        return F.conv2d(x, weight, getattr(self, f"conv{layer}_bias"), stride, padding)

    def tap_maps(self, image: Tensor, reference: list[Tensor]) -> list[Tensor]:
        """Per tap the distance at every position, (B, h, w); reference: `features` of
        the other image."""
        maps = []
        for tap, (a, b) in enumerate(zip(self.features(image), reference, strict=True)):
            difference = (unit(a) - unit(b)).square()
            weight = self.tap_weight(tap)
            maps.append((difference if weight is None else difference * weight).sum(1).float())
        return maps

    def forward(self, image: Tensor, other: Tensor) -> Tensor:
        """Distance of each pair, (B,)."""
        maps = self.tap_maps(image, self.features(other))
        return torch.stack([m.mean((1, 2)) for m in maps]).sum(0)


def unit(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().sum(1, keepdim=True) + 1e-8)


class LPIPS(PerceptualDistance):
    """LPIPS v0.1 with AlexNet (Zhang et al. 2018)."""

    KEYS = convolutions(5) | {f"lin{tap}.weight" for tap in range(5)}

    shift: Tensor
    scale: Tensor

    def __init__(self, weights: Path) -> None:
        super().__init__(weights)
        for name, values in ("shift", [-0.030, -0.088, -0.188]), ("scale", [0.458, 0.448, 0.450]):
            self.register_buffer(name, torch.tensor(values, device="cpu").view(3, 1, 1))

    def tap_weight(self, tap: int) -> Tensor:
        weight: Tensor = getattr(self, f"lin{tap}_weight")
        return weight.view(1, -1, 1, 1)

    def features(self, image: Tensor) -> list[Tensor]:
        x = (2 * image - 1 - self.shift) / self.scale
        taps = [F.relu(self.convolve(x, 1, stride=4, padding=2))]
        taps.append(F.relu(self.convolve(F.max_pool2d(taps[-1], 3, 2), 2, padding=2)))
        x = F.max_pool2d(taps[-1], 3, 2)
        for layer in (3, 4, 5):
            x = F.relu(self.convolve(x, layer))
            taps.append(x)
        return taps


class DLP(PerceptualDistance):
    """The same distance, unweighted, on five taps of Tiny Darknet, whose first tap
    stands at full resolution where AlexNet's stands at a quarter."""

    KEYS = convolutions(15)

    def features(self, image: Tensor) -> list[Tensor]:
        taps: list[Tensor] = []
        x = image
        for first, last in ((1, 1), (2, 2), (3, 6), (7, 10), (11, 15)):
            if taps:
                x = F.max_pool2d(x, 2, 2, ceil_mode=True)
            for layer in range(first, last + 1):
                padding = getattr(self, f"conv{layer}_weight").shape[-1] // 2
                x = F.leaky_relu(self.convolve(x, layer, padding=padding), 0.1)
            taps.append(x)
        return taps


def load_perceptual(folder: Path | None) -> tuple[LPIPS | None, DLP | None]:
    """The networks that the folder holds; training runs without them too.

    Raises ModelError for a folder that holds neither, and for damaged weights.
    """
    if folder is None:
        return None, None
    lpips, dlp = folder / "lpips_alex.safetensors", folder / "tiny_darknet.safetensors"
    if not (lpips.exists() or dlp.exists()):
        raise ModelError(f"{folder} holds neither {lpips.name} nor {dlp.name}")
    return (
        LPIPS(lpips).eval() if lpips.exists() else None,
        DLP(dlp).eval() if dlp.exists() else None,
    )
