"""All networks of a model in one module."""

from torch import nn

from hvqcodec.models.analysis import Analysis, DistortionHead
from hvqcodec.models.config import ModelConfig
from hvqcodec.models.context import Context
from hvqcodec.models.hyperprior import Hyperprior
from hvqcodec.models.quantiser import Codebook
from hvqcodec.models.synthesis import Synthesis


class Model(nn.Module):
    """
    image -> analysis -> y_c, y_m, y_f -> codebook -> indices -> synthesis -> image
                             |
                             +-> hyperpriors[0..2] -> contexts[0..2] -> probabilities of the indices
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.analysis = Analysis(config)
        self.codebook = Codebook(config)
        self.hyperpriors = nn.ModuleList(Hyperprior(config) for _ in range(3))
        self.contexts = nn.ModuleList(
            Context(config) for _ in range(3 if config.context_window else 0)
        )
        self.distortion_head = DistortionHead(config)
        self.synthesis = Synthesis(config)
