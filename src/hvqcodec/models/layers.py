"""Building blocks: convolutions only, so that tiles with a halo equal the whole."""

from typing import cast

from torch import Tensor, nn


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    """A convolution with 'same' padding; with stride 2 the size is halved, rounded up."""
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2)


class ResidualBlock(nn.Module):
    """x + conv(act(conv(x))); the second convolution starts at zero."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = conv(channels, channels)
        self.conv2 = conv(channels, channels)
        self.act = nn.LeakyReLU(0.1, inplace=True)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(cast(Tensor, self.conv2.bias))

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, x + self.conv2(self.act(self.conv1(x))))


def residual_stack(channels: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(channels) for _ in range(blocks)))
