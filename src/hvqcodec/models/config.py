"""The sizes that define a model."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of every network. Triples are ordered by stride: (f4, f8, f16).

    The defaults are those of the shipped models: about 130 kMAC per pixel for
    analysis and synthesis together.
    """

    codes: int = 1024
    """K, entries of the codebook shared by the three levels."""
    dimensions: int = 8
    """D, dimensions of the embedding space."""
    channels: tuple[int, int, int] = (96, 128, 192)
    analysis_blocks: tuple[int, int, int] = (2, 3, 3)
    synthesis_blocks: tuple[int, int, int] = (4, 3, 3)
    detail_channels: int = 32
    """Channels of the synthesis at half resolution."""
    hyper_channels: int = 64
    latent_channels: int = 4
    """Channels of z, per level."""
    context_window: int = 0
    """Side in codes of the square that the context sees; 0: the model has none."""
    context_channels: int = 64

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ModelConfig":
        """The inverse of `to_dict`, also after a trip through JSON."""
        sizes: dict[str, Any] = {}
        for name, value in values.items():
            sizes[name] = tuple(value) if isinstance(value, list) else value
        return cls(**sizes)
