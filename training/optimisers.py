"""Muon for convolutions, AdamW for the rest."""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from training.precision import fast_dtype


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """Newton-Schulz iteration of Muon (K. Jordan 2024): (N, rows, cols) -> the nearest
    matrices whose singular values are about 1."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices.to(fast_dtype(matrices.device.type))
    transposed = x.shape[-2] > x.shape[-1]
    if transposed:
        x = x.mT.contiguous()
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return (x.mT if transposed else x).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Orthogonalised Nesterov momentum on each convolution, seen as a matrix (out, in * k * k)."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[nn.Parameter]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    by_shape[(p.shape[0], p[0].numel())].append(p)
            for (rows, cols), params in by_shape.items():
                updates = []
                for p in params:
                    buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                    buffer.lerp_(p.grad, 1 - group["momentum"])
                    updates.append(p.grad.lerp(buffer, group["momentum"]).reshape(rows, cols))
                scale = group["lr"] * max(1.0, rows / cols) ** 0.5
                for p, update in zip(params, orthogonalise(torch.stack(updates)), strict=True):
                    p.sub_(update.reshape(p.shape), alpha=scale)


FASTER = {"log_prior": 10.0, "latent_mean": 10.0, "latent_log_scale": 10.0, "codebook": 3.0}
"""AdamW moves each number by about its learning rate a step; a log-prior has several
nats to go, and codebook entries are about 3 long."""


def make_optimisers(
    model: nn.Module, muon_lr: float, adamw_lr: float
) -> dict[str, torch.optim.Optimizer]:
    """Muon for the trunk's convolutions, AdamW for the heads, hyper-networks, codebook,
    output layer and biases. Each group carries its `base_lr`."""
    muon: list[nn.Parameter] = []
    adamw: dict[float, list[nn.Parameter]] = defaultdict(list)
    for name, p in model.named_parameters():
        if not p.requires_grad:
            continue
        trunk = name.startswith(("analysis.", "synthesis."))
        head = ".heads." in name or ".to_rgb." in name
        if trunk and p.ndim == 4 and not head:
            muon.append(p)
        else:
            factor = next((f for part, f in FASTER.items() if part in name), 1.0)
            adamw[factor].append(p)
    groups = [{"params": params, "lr": adamw_lr * f} for f, params in adamw.items()]
    optimisers: dict[str, torch.optim.Optimizer] = {
        "adamw": torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=0.0),
    }
    if muon:
        optimisers["muon"] = Muon(muon, muon_lr)
    for optimiser in optimisers.values():
        for group in optimiser.param_groups:
            group["base_lr"] = group["lr"]
    return optimisers
