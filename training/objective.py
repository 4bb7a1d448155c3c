"""The training objective: distortion + lambda x bits, on maps of every kind."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.pool import Pool

import torch
from torch import Tensor
from torch.nn import functional as F

from hvqcodec.entropy.constants import LATENT_MAX
from hvqcodec.granularity import BLOCK, latent_support, level_masks
from hvqcodec.metrics.perceptual import DLP, LPIPS
from hvqcodec.models.analysis import LOG_DISTORTION, Analysed, Analysis, cell_distortion
from hvqcodec.models.model import Model
from hvqcodec.views import random_view
from training.coded import CodedCrops
from training.flatness import flat_faults
from training.masks import EncoderMaps, random_lambdas, random_maps
from training.mending import residual_of

RATE_EVERY = 10
"""Steps, where only the synthesis learns: the rate is then but for the map and the log."""


SHIFT = 2
"""Pixels by which pictures move before LPIPS and DLP look. AlexNet's first stride is 4, as wide as
a fine code: else each of its filters always meets the grid of codes at the same place, and what
it cannot see there is woven into the picture."""


@dataclass(frozen=True)
class Weights:
    """Of the terms of the loss; images in [0, 1] for all of them."""

    mse: float = 32.0
    lpips: float = 1.0
    dlp: float = 0.15
    codebook: float = 0.5
    commitment: float = 0.25
    head: float = 0.05
    flat: float = 0.0
    """Of `flat_faults`."""
    features: float = 0.0
    """Of what the analysis that a run began with sees of the pictures: the judge of the encoder's
    descent (`hvqcodec.code_refinement`)."""
    bare: float = 6.0
    """Of the MSE before the residual is added, for what its bits cost."""
    soft: float = 1.0
    """Of the bits that the soft assignment expects, beside those of the indices."""


@dataclass
class Distortion:
    """Weighted MSE + LPIPS + DLP, as a number per image and as a map of 8x8 cells."""

    weights: Weights
    lpips: LPIPS | None
    dlp: DLP | None
    judge: Analysis | None = None

    def __call__(
        self, image: Tensor, target: Tensor, seen: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """RGB in [0, 1], (B, 3, H, W) -> loss (B,), cells (B, H/8, W/8) with the
        distortion per pixel, and the metrics (B,) by name. seen: what LPIPS and DLP get to see
        of both, if it is something else."""
        size = (image.shape[2] // 8, image.shape[3] // 8)
        squared = (image - target).square().mean(1)
        metrics = {"mse": squared.mean((1, 2))}
        loss = self.weights.mse * metrics["mse"]
        cells = self.weights.mse * F.avg_pool2d(squared[:, None].detach(), 8)
        if self.weights.flat:
            metrics["flat"] = flat_faults(image, target)
            loss = loss + self.weights.flat * metrics["flat"]
        image, target = seen or (image, target)
        for name, maps in self.seen_maps(image, target):
            weight = getattr(self.weights, name)
            metrics[name] = torch.stack([m.mean((1, 2)) for m in maps]).sum(0)
            loss = loss + weight * metrics[name]
            for tap in maps:
                cells = cells + weight * to_cells(tap.detach()[:, None], size)
        return loss, cells[:, 0], metrics

    def seen_maps(self, image: Tensor, target: Tensor) -> list[tuple[str, list[Tensor]]]:
        """What each network finds different, (B, h, w) at each of its taps."""
        found = []
        for name, network in (("lpips", self.lpips), ("dlp", self.dlp)):
            if network is None:
                continue
            with torch.no_grad():
                reference = network.features(target)
            found.append((name, network.tap_maps(image, reference)))
        if self.judge:
            found.append(("features", feature_maps(self.judge, image, target)))
        return found


def feature_maps(judge: Analysis, image: Tensor, target: Tensor) -> list[Tensor]:
    """RGB in [0, 1], (B, 3, H, W) -> squared distances of features of unit length, one (B, h, w)
    for each scale of the analysis."""
    with torch.no_grad():
        reference = judge.unit_features(2 * target - 1)
    pairs = zip(judge.unit_features(2 * image - 1), reference, strict=True)
    return [(a - b).square().sum(1) for a, b in pairs]


def to_cells(tap: Tensor, size: tuple[int, int]) -> Tensor:
    """Resample a tap's map to the cells, keeping its mean."""
    if tap.shape[-2] >= size[0]:
        return F.adaptive_avg_pool2d(tap, size)
    return F.interpolate(tap, size, mode="bilinear", align_corners=False)


def laid_out(index: Tensor, mask: Tensor) -> Tensor:
    """Indices of the blocks sent, (N,), and which those are, (B, 1, h, w) -> (B, h, w), zero
    elsewhere."""
    return torch.zeros_like(mask[:, 0], dtype=torch.int64).masked_scatter(mask[:, 0], index)


def bits_by_part(level: int, index_bits: Tensor, z_bits: Tensor, pixels: int) -> dict[str, float]:
    """What the progress line says of a level, in bits per pixel of the batch."""
    parts = {"index": index_bits, "z": z_bits}
    return {f"{key}{BLOCK[level]}": bits.sum().item() / pixels for key, bits in parts.items()}


def straight_through(value: Tensor, rounded: Tensor) -> Tensor:
    return value + (rounded - value).detach()


@dataclass
class Objective:
    """One training step's loss and what the progress line says of it."""

    model: Model
    distortion: Distortion
    weights: Weights
    samples: int = 768
    """Codes per level and batch on which the index rate is estimated: all K
    probabilities of every code would cost as much as the convolutions."""
    temperature: float = 0.04
    """Of the soft assignment, in squared distance on the unit sphere."""
    entropy_only: bool = False
    """The hyperpriors and contexts alone learn; nothing is synthesised."""
    corrects: bool = True
    """Distortions are those of the pictures with their residuals."""
    menders: Pool | None = None
    """Processes that find those."""
    critic: Callable[[Tensor, Tensor], tuple[Tensor, dict[str, float]]] | None = None
    """Of the decoded pictures, as they are shown, and the images, RGB in [0, 1], (B, 3, H, W):
    what they add to the loss, and what the progress line says of it."""
    rate_every: int = field(init=False)
    """Calls from one that reckons the rate to the next."""
    calls: int = 0
    """So far."""
    analysis: Callable[[Tensor], Analysed] = field(init=False)
    synthesis: Callable[..., Tensor] = field(init=False)
    code_bits: Tensor = field(default_factory=lambda: torch.full((3,), 9.5))
    """Running mean of the bits per code, z included, that allocation counts with."""
    encoder_maps: EncoderMaps = field(default_factory=EncoderMaps)
    usage: Tensor = field(init=False)
    """Running share of each codebook entry."""
    live: Tensor | None = None
    """Embeddings of the last batch, from which dead entries are re-seeded."""

    def __post_init__(self) -> None:
        self.analysis, self.synthesis = self.model.analysis, self.model.synthesis
        learned = [n for n, p in self.model.named_parameters() if p.requires_grad]
        self.rate_every = RATE_EVERY if all(n.startswith("synthesis.") for n in learned) else 1
        device = self.model.codebook.weight.device
        self.code_bits = self.code_bits.to(device)
        k = self.model.config.codes
        self.usage = torch.full((k,), 1.0 / k, device=device)

    def __call__(
        self, image: Tensor, joint: float, allocate_share: float
    ) -> tuple[Tensor, dict[str, float]]:
        """image: RGB in [0, 1], (B, 3, H, W). joint: 0 in stage 1, up to 1 in stage 2,
        scales lambda and the soft assignment. allocate_share: share of the maps that
        are made as the encoder makes them."""
        model = self.model
        height, width = image.shape[2:]
        analysed = self.analysis(2 * image - 1)
        predicted = model.distortion_head(tuple(f.detach() for f in analysed.features))
        levels, lambdas = self.choose_maps(predicted, allocate_share)
        price = (0.1 + 0.9 * joint) * lambdas.clamp(0.1, 2.5)

        sent, indices, maps, vq_loss = [], [], [], image.new_zeros(())
        rate, parts = image.new_zeros(()), {}
        counted = self.calls % self.rate_every == 0
        self.calls += 1
        masks = level_masks(levels)
        for level, mask in enumerate(masks):
            y = analysed.embeddings[level]
            quantised, index, level_vq = self.quantise(y, mask)
            sent.append(quantised)
            indices.append(index)
            maps.append(laid_out(index, mask))
            vq_loss = vq_loss + level_vq / 3
            if not counted:
                continue
            index_bits, z_bits, soft_bits = self.level_bits(level, y, masks, maps)
            rate = rate + (price * (index_bits + z_bits)).mean() / (height * width)
            parts |= bits_by_part(level, index_bits, z_bits, pixels=image[:, 0].numel())
            soft = self.weights.soft * joint * (price * soft_bits).mean()
            rate = rate + soft / (height * width)
            self.note_bits(level, mask, index_bits + z_bits, share=0.01 * self.rate_every)
        if self.entropy_only:
            return rate, parts
        distortion, actual, report = self.judged(sent, levels, image, lambdas)
        chosen = predicted.gather(1, levels[:, None])[:, 0].clamp(*LOG_DISTORTION)
        # Poisson deviance: its minimiser is the conditional mean, whatever the scale.
        head_loss = (chosen.exp() - actual * chosen).mean()
        loss = distortion + rate + self.weights.codebook * vq_loss
        loss = loss + self.weights.head * head_loss
        self.note_usage(torch.cat(indices))
        return loss, report | parts | {"head": head_loss.item()}

    def of_coded(self, crops: CodedCrops) -> tuple[Tensor, dict[str, float]]:
        """Likewise of crops whose codes are there already: of the pictures alone."""
        entries = self.model.codebook.entries()
        sent = [F.embedding(grid, entries).permute(0, 3, 1, 2) for grid in crops.maps]
        loss, _, report = self.judged(sent, crops.levels, crops.image, crops.lambdas)
        return loss, report

    def judged(
        self, sent: Sequence[Tensor], levels: Tensor, image: Tensor, lambdas: Tensor
    ) -> tuple[Tensor, Tensor, dict[str, float]]:
        """sent: embeddings by level, (B, D, h, w). Returns the loss of the pictures that they
        become, what the distortion head should have known of each cell, (B, H/8, W/8), and
        what the progress line says."""
        output = (self.synthesis(tuple(sent), levels) + 1) / 2
        squared = (output - image).square().mean(1)
        if self.corrects:
            output = output + residual_of(output.detach(), image, lambdas, self.menders)
        view = random_view(SHIFT)
        pair = view.place(output), view.place(image)
        distortion, actual, metrics = self.distortion(*pair, view.look(*pair))
        actual = view.back(actual) + self.weights.bare * F.avg_pool2d(squared.detach(), 8)
        loss = distortion.mean() + self.weights.bare * squared.mean()
        report = {name: value.mean().item() for name, value in metrics.items()}
        if self.critic:
            unreal, verdict = self.critic(output.clamp(0, 1), image)
            loss, report = loss + unreal, report | verdict
        return loss, actual, report

    @torch.no_grad()
    def choose_maps(self, predicted: Tensor, allocate_share: float) -> tuple[Tensor, Tensor]:
        """What the distortion head predicts, (B, 3, h, w) -> maps (B, h, w), and the lambdas
        (B,) that they are made for; the price of a bit follows them within the span in which the
        index rate can follow it."""
        batch, _, h, w = predicted.shape
        lambdas = random_lambdas(batch).to(predicted.device)
        levels = random_maps(batch, h, w, predicted.device)
        made = self.encoder_maps(cell_distortion(predicted), self.code_bits, lambdas)
        use = torch.rand(batch, device=predicted.device) < allocate_share
        return (
            torch.where(use[:, None, None], made, levels),
            torch.where(use, lambdas, 0.5),
        )

    def quantise(self, y: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, D, h, w), mask (B, 1, h, w) -> what is sent, with straight-through
        gradients; the indices of the blocks sent, (N,); codebook + commitment loss."""
        vectors = y.permute(0, 2, 3, 1)
        active = vectors[mask[:, 0]]
        index = self.model.codebook.nearest(active)
        entries = self.model.codebook.lookup(index)
        sent = torch.zeros_like(vectors)
        sent[mask[:, 0]] = straight_through(active, entries)
        if not len(active):
            return sent.permute(0, 3, 1, 2), index, y.new_zeros(())
        loss = (entries - active.detach()).square().sum(1).mean()
        loss = loss + self.weights.commitment * (entries.detach() - active).square().sum(1).mean()
        self.live = active.detach()
        return sent.permute(0, 3, 1, 2), index, loss

    def level_bits(
        self, level: int, y: Tensor, masks: Sequence[Tensor], maps: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """masks (B, 1, h, w) and index maps (B, h, w), at least up to this level.

        Per image (B,): bits of the indices, bits of z, and the bits that the soft
        assignment expects (whose gradient goes to the analysis alone)."""
        batch = y.shape[0]
        prior = self.model.hyperpriors[level]
        mask = masks[level]
        index = maps[level][mask[:, 0]]
        z = prior.analysis(y, mask)
        noisy = z + torch.rand_like(z) - 0.5
        support = latent_support(mask)
        z_bits = (prior.latent_bits(noisy) * support).sum((1, 2, 3))
        rounded = straight_through(z, z.round().clamp(-LATENT_MAX, LATENT_MAX)) * support
        mu, sigma = self.model.gaussians(level, rounded, [m[:, 0] for m in masks], maps)
        entries = self.model.codebook.entries()

        where = mask[:, 0].nonzero()[:, 0]  # image of each code
        picks = torch.randperm(len(index), device=y.device)[: self.samples]
        if not len(picks):
            return y.new_zeros(batch), z_bits, y.new_zeros(batch)
        share = len(index) / len(picks)

        def pick(t: Tensor) -> Tensor:
            return t.permute(0, 2, 3, 1)[mask[:, 0]][picks]

        with torch.autocast(y.device.type, enabled=False):
            logits = prior.index_logits(pick(mu).float(), pick(sigma).float(), entries)
            bits = -torch.log_softmax(logits, 1) / math.log(2)
            # Embeddings near a boundary are drawn to the cheaper side of it.
            similarity = 2 * pick(y).float() @ entries.detach().t()
            assignment = torch.softmax(similarity / self.temperature, 1)
            soft_bits = (assignment * bits.detach()).sum(1)
        hard_bits = bits.gather(1, index[picks, None])[:, 0]
        zeros = y.new_zeros(batch)
        per_image = zeros.index_add(0, where[picks], hard_bits * share)
        return per_image, z_bits, zeros.index_add(0, where[picks], soft_bits * share)

    @torch.no_grad()
    def note_bits(self, level: int, mask: Tensor, bits: Tensor, share: float) -> None:
        codes = mask.sum()
        if codes > 100:
            self.code_bits[level].lerp_(bits.sum() / codes, share)

    @torch.no_grad()
    def note_usage(self, index: Tensor) -> None:
        counts = torch.bincount(index, minlength=self.model.config.codes).float()
        self.usage.lerp_(counts / counts.sum(), 0.02)

    @torch.no_grad()
    def reseed_dead(self, optimiser: torch.optim.Optimizer) -> int:
        """Move entries that are hardly used onto live embeddings."""
        assert self.live is not None
        dead = (self.usage < 0.02 / len(self.usage)).nonzero()[:, 0]
        if len(dead):
            weight = self.model.codebook.weight
            picks = torch.randint(len(self.live), (len(dead),), device=dead.device)
            length = weight.norm(dim=1).mean()
            weight[dead] = self.live[picks] * length
            for moment in optimiser.state[weight].values():
                if moment.shape == weight.shape:
                    moment[dead] = 0
            self.usage[dead] = 1 / len(self.usage)
        return len(dead)

    def perplexity(self) -> float:
        """Entries in effective use, out of K."""
        p = self.usage / self.usage.sum()
        return math.exp(-(p * (p + 1e-12).log()).sum().item())


def bits_per_pixel(report: dict[str, float]) -> float:
    return sum(v for k, v in report.items() if k.startswith(("index", "z")))
