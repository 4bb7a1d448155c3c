"""Pixels on their way to the networks, and back."""

import numpy as np
import torch
from torch import Tensor

from hvqcodec.arrays import Pixels


def to_blocks(rgb: Pixels) -> Pixels:
    """(H, W, 3) -> (H', W', 3), sides raised to multiples of 16 by repeating the edge."""
    h, w = rgb.shape[:2]
    below, right = -h % 16, -w % 16
    return np.pad(rgb, ((0, below), (0, right), (0, 0)), "edge") if below or right else rgb


def to_signal(pixels: Pixels) -> Tensor:
    """(H, W, 3) uint8 -> (1, 3, H, W) float in [-1, 1], what the networks work on."""
    return torch.tensor(pixels, device="cpu").permute(2, 0, 1)[None].float().mul_(2 / 255).sub_(1)


def from_signal(signal: Tensor) -> Pixels:
    """(1, 3, H, W) about [-1, 1] -> (H, W, 3) uint8."""
    rgb = signal[0].add(1).mul_(127.5).round_().clamp_(0, 255)
    pixels: Pixels = rgb.to(torch.uint8).permute(1, 2, 0).contiguous().cpu().numpy()
    return pixels


def to_grey(rgb: Pixels) -> Pixels:
    """(H, W, 3) -> (H, W), the rounded mean of the channels."""
    grey: Pixels = ((rgb.sum(2, dtype=np.uint16) + 1) // 3).astype(np.uint8)
    return grey
