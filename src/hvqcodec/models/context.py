"""Context of one level: the float form of `hvqcodec.entropy.context`, for training, export
and the encoder's estimates."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hvqcodec.entropy.constants import MU_MAX, SIGMA_STEPS
from hvqcodec.entropy.context import FLAGS, TURNS, known_planes
from hvqcodec.models.config import ModelConfig
from hvqcodec.models.hyperprior import STEP_UNIT


class Context(nn.Module):
    """Corrects the Gaussian that the hyperprior gives each code by the embeddings known
    around it: those of coarser blocks and of the level's earlier turns."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d, n = config.dimensions, config.context_channels
        self.window = config.context_window
        self.layer1 = nn.Linear((d + FLAGS) * self.window**2 + 2 * d, n)
        self.layer2 = nn.Linear(n, n)
        self.layer3 = nn.Linear(n, 2 * d)
        nn.init.zeros_(self.layer3.weight)  # to begin with the hyperprior's word holds
        nn.init.zeros_(self.layer3.bias)

    def seen(self, surroundings: Tensor) -> Tensor:
        """(N, C * window^2) -> (N, n): what the first layer makes of them."""
        return F.linear(
            surroundings, self.layer1.weight[:, : surroundings.shape[1]], self.layer1.bias
        )

    def correct(self, seen: Tensor, mu: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        """(N, n), (N, D), (N, D) -> mu and step, (N, D)."""
        gaussian = torch.cat([mu, step / STEP_UNIT], 1)
        x = seen + F.linear(gaussian, self.layer1.weight[:, -gaussian.shape[1] :])
        more_mu, more_step = self.layer3(F.relu(self.layer2(F.relu(x)))).chunk(2, 1)
        return (
            (mu + more_mu).clamp(-MU_MAX, MU_MAX),
            (step + STEP_UNIT * more_step).clamp(0, SIGMA_STEPS - 1),
        )

    def by_turn(
        self, entries: Tensor, masks: Sequence[Tensor], index_maps: Sequence[Tensor]
    ) -> Iterator[tuple[tuple[slice, slice], Tensor, Tensor]]:
        """Of each turn: where in the grid of the level its places are, which of these have codes
        (B, h/2, w/2), and the surroundings of those, (N, C * window^2).

        entries: (K, D). masks, index_maps: (B, h, w) from the coarsest level to this one.
        """
        half = self.window // 2
        for turn, (row, column) in enumerate(TURNS):
            places = slice(row, None, 2), slice(column, None, 2)
            chosen = masks[-1][:, *places]
            if not chosen.any():
                continue
            planes = known_planes(entries, masks, index_maps, turn, 1.0)
            padded = F.pad(planes, (half, half, half, half))[:, :, row:, column:]
            squares = F.unfold(padded, self.window, stride=2).transpose(1, 2)
            yield places, chosen, squares.view(*chosen.shape, -1)[chosen]

    def forward(
        self,
        entries: Tensor,
        masks: Sequence[Tensor],
        index_maps: Sequence[Tensor],
        mu: Tensor,
        step: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """entries, masks, index_maps: as in `by_turn`. mu, step: (B, D, h, w), as the
        hyper-synthesis gives them, and as they are returned; corrected where the mask is set."""
        out_mu, out_step = mu.clone(), step.clone()
        for places, chosen, surroundings in self.by_turn(entries, masks, index_maps):
            before = [t[:, :, *places].permute(0, 2, 3, 1)[chosen] for t in (mu, step)]
            after = self.correct(self.seen(surroundings), *before)
            for out, values in zip((out_mu, out_step), after, strict=True):
                out[:, :, *places].permute(0, 2, 3, 1)[chosen] = values
        return out_mu, out_step
