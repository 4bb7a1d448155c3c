"""Turn a checkpoint into a model: integer tables, half-precision networks, a card.

    python -m training.export runs/first/checkpoint runs/first/model.safetensors \\
        --photos ../shared/data/train-0.tar --validation ../shared/data/val.tar

Refuses a model whose integer tables code the validation photos worse than the float
ones by more than 0.5 %.
"""

import argparse
import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor, nn

from benchmarks.photos import Photo, load_photos
from hvqcodec.bitstream import Scope
from hvqcodec.encoding import hyperprior
from hvqcodec.entropy.budget import code_lengths
from hvqcodec.entropy.constants import FRACTION_BITS, ONE, SIGMA_STEPS
from hvqcodec.entropy.context import IntegerContext
from hvqcodec.entropy.fixed_point import ACTIVATION_MAX, IntegerConv, IntegerHyperSynthesis
from hvqcodec.entropy.normative import Normative
from hvqcodec.entropy.symbol_coding import Symbols, coded_after_map
from hvqcodec.entropy.tables import EXP_LAST, STATIC_BITS, IndexTables
from hvqcodec.models.config import ModelConfig
from hvqcodec.models.context import Context
from hvqcodec.models.hyperprior import STEP_UNIT, HyperSynthesis, sigma_from_step
from hvqcodec.models.model import Model
from training import checkpoint
from training.survey import Survey, gaussians, scenes, survey
from training.tables import fit_map_tables, huffman_lengths, static_tables, to_frequencies

SURVEY_LAMBDAS = (16.0, 8.0, 4.0, 2.5, 1.5, 1.0, 0.7, 0.45, 0.3, 0.15)
PRIOR_LAMBDAS = (16.0, 6.0, 2.4, 0.9, 0.4)
"""From nearly all coarse on: fitted on middling rates alone, the coarse log-prior knows flat
blocks only, and the smallest files suffer."""
CHECK_LAMBDAS = (2.4, 0.9, 0.4)
WORSE_AT_MOST = 0.005
HEADROOM = 8
"""Other photos reach further; 12 bits for what was seen are plenty."""
MAP_PHOTOS = 40
PRIOR_PHOTOS = 120
LATENT_TABLE_SUM = 1 << 16


def integer_layer(layer: nn.Conv2d | nn.Linear, input_bits: int) -> tuple[IntegerConv, int]:
    """Weights as int16 with as many fractional bits as fit; returns those bits too."""
    assert layer.bias is not None
    weight = layer.weight.detach().double()
    if weight.ndim == 2:
        weight = weight[:, :, None, None]
    bits = math.floor(math.log2(32767 / max(weight.abs().max().item(), 1e-3)))
    return IntegerConv(
        (weight * 2.0**bits).round().to(torch.int16),
        (layer.bias.detach().double() * 2.0 ** (bits + input_bits)).round().long(),
    ), bits


def integer_layers(
    layers: Sequence[nn.Conv2d | nn.Linear], activation_max: NDArray[np.float64], input_bits: int
) -> tuple[tuple[IntegerConv, ...], tuple[int, ...], list[int]]:
    """Layers with ReLU between them, each hidden one with the fractional bits that leave
    `HEADROOM` times its largest seen output, the last with those of mu and of the step.

    Returns them, their shifts and the fractional bits of the hidden layers.
    """
    room = [ACTIVATION_MAX / (HEADROOM * max(float(m), 1e-3)) for m in activation_max]
    fractions = [min(FRACTION_BITS, math.floor(math.log2(r))) for r in room]
    convs, shifts = [], []
    for layer, before, after in zip(
        layers, [input_bits, *fractions], [*fractions, None], strict=True
    ):
        integer, bits = integer_layer(layer, before)
        convs.append(integer)
        total = bits + before
        if after is not None:
            shifts.append(total - after)
        else:
            # The step's unit of 8 makes its integers 2^3 finer.
            shifts += [total - FRACTION_BITS, total - int(math.log2(STEP_UNIT))]
    if min(shifts) < 1:
        raise SystemExit(f"cannot quantise the networks: shifts {shifts}")
    return tuple(convs), tuple(shifts), fractions


def integer_hyper_synthesis(
    synthesis: HyperSynthesis, activation_max: NDArray[np.float64]
) -> IntegerHyperSynthesis:
    layers = (synthesis.conv1, synthesis.conv2, synthesis.conv3, synthesis.conv4)
    convs, shifts, fractions = integer_layers(layers, activation_max, input_bits=0)
    return IntegerHyperSynthesis(convs, shifts, mask_one=1 << fractions[1])


def integer_context(context: Context, activation_max: NDArray[np.float64]) -> IntegerContext:
    layers = (context.layer1, context.layer2, context.layer3)
    dimensions = context.layer3.out_features // 2
    convs, shifts, _ = integer_layers(layers, activation_max, input_bits=FRACTION_BITS)
    return IntegerContext(convs, shifts, dimensions)


@torch.inference_mode()
def normative_part(networks: Model, seen: Survey, map_tables: NDArray[np.int32]) -> Normative:
    steps = torch.arange(SIGMA_STEPS, dtype=torch.float64)
    inverse_variance = (sigma_from_step(steps).pow(-2) * 256).round().int()
    exponential = [round(2**30 * math.exp(-i / 256)) for i in range(EXP_LAST + 1)]
    priors = [hyperprior(networks, level) for level in range(3)]
    log_prior = torch.stack([p.log_prior.double() - p.log_prior.max() for p in priors]).cpu()
    normative = Normative(
        tuple(
            integer_hyper_synthesis(p.synthesis.cpu(), seen.activation_max[level])
            for level, p in enumerate(priors)
        ),
        IndexTables(
            (networks.codebook.entries().cpu() * ONE).round().to(torch.int16),
            inverse_variance,
            (log_prior * 2.0**33).round().long(),
            torch.tensor(exponential, dtype=torch.int32),
            torch.from_numpy(static_tables(seen.indices)),
        ),
        to_frequencies(seen.latents, LATENT_TABLE_SUM),
        map_tables,
        tuple(
            integer_context(context.cpu(), seen.context_max[level])
            for level, context in enumerate(networks.contexts)
        ),
    )
    normative.check()
    return normative


def index_log_probabilities(
    networks: Model, symbols: Symbols, level: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """In pieces: log-probabilities (n, K) of the float model and the indices (n,)."""
    if not len(symbols.indices[level]):
        return
    prior = hyperprior(networks, level)
    mu, sigma = gaussians(networks, symbols, level)
    index = torch.from_numpy(symbols.indices[level]).long()
    entries = networks.codebook.entries()
    for m, s, i in zip(*(torch.split(t, 4096) for t in (mu, sigma, index)), strict=True):
        yield torch.log_softmax(prior.index_logits(m, s, entries), 1), i


@torch.inference_mode()
def float_index_bits(networks: Model, symbols: Symbols) -> float:
    """Bits of the indices under the float model of the tables."""
    bits = 0.0
    for level in range(3):
        for log_p, index in index_log_probabilities(networks, symbols, level):
            bits -= log_p.gather(1, index[:, None]).sum().item() / math.log(2)
    return bits


@torch.inference_mode()
def fit_log_priors(
    networks: Model, photos: list[Photo], map_tables: NDArray[np.int32], rounds: int = 4
) -> None:
    """Move each log-prior to where the expected share of every index equals its share on
    real maps: the maximum of the likelihood, which training on maps of every kind misses.
    """
    seen = [
        scene.symbols(scene.choose(lambda_, map_tables))
        for scene in scenes(networks, photos)
        for lambda_ in PRIOR_LAMBDAS
    ]
    for level in range(3):
        log_prior = hyperprior(networks, level).log_prior
        for _ in range(rounds):
            # In doubles: single ones make nothing of an index that never comes, and 0 / 0 of it.
            expected = torch.zeros_like(log_prior, dtype=torch.float64)
            counts = torch.zeros_like(expected)
            for symbols in seen:
                for log_p, index in index_log_probabilities(networks, symbols, level):
                    expected += log_p.double().exp().sum(0)
                    counts += torch.bincount(index, minlength=len(counts))
            # Eight imagined codes, spread as expected, steady the rare indices.
            prior_weight = 8 * expected / expected.sum().clamp_min(1)
            if expected.any():
                log_prior += ((counts + prior_weight) / (expected + prior_weight)).log()


def check_tables(networks: Model, normative: Normative, photos: list[Photo]) -> dict[str, float]:
    """Integer against float index bits on real maps, and against static coding, by arithmetic
    and by Huffman codes, and codes of one length."""
    exact = real = z_bits = static = huffman = raw = 0.0
    static_bits = STATIC_BITS - np.log2(normative.index_tables.static.numpy())
    huffman_bits = np.stack([huffman_lengths(t) for t in normative.index_tables.static.numpy()])
    for scene in scenes(networks, photos):
        for lambda_ in CHECK_LAMBDAS:
            symbols = scene.symbols(scene.choose(lambda_, normative.map_tables))
            real += float_index_bits(networks, symbols)
            for part, level, piece, frequencies in coded_after_map(normative, symbols, Scope.NONE):
                bits = float(code_lengths(piece, frequencies).sum())
                if part == "z":
                    z_bits += bits
                else:
                    exact += bits
                    static += float(static_bits[level][piece].sum())
                    huffman += float(huffman_bits[level][piece].sum())
                    raw += len(piece) * math.log2(static_bits.shape[1])
    return {
        "integer_over_float": exact / real - 1,
        "index_and_z_over_static": (exact + z_bits) / static - 1,
        "huffman_over_static": huffman / static - 1,
        "raw_over_static": raw / static - 1,
        "z_share": z_bits / (exact + z_bits),
    }


def write_model(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """The `.safetensors` file and its card beside it."""
    content = save(tensors)
    card = facts | {"sha256": hashlib.sha256(content).hexdigest()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n")


def model_tensors(networks: Model, normative: Normative) -> dict[str, Tensor]:
    tensors = {f"normative.{k}": v.contiguous() for k, v in normative.to_tensors().items()}
    return tensors | half_networks(networks)


def half_networks(networks: Model) -> dict[str, Tensor]:
    """As they ship."""
    return {
        f"network.{name}": value.detach().cpu().half().contiguous()
        for name, value in networks.state_dict().items()
    }


def training_facts(runs: list[dict[str, Any]]) -> dict[str, Any]:
    return {"hours": round(sum(run["hours"] for run in runs), 2), "runs": runs}


def networks_of(folder: Path) -> tuple[Model, dict[str, Any]]:
    """The averaged networks of a checkpoint, rounded to the half precision that ships."""
    tensors, facts = checkpoint.load(folder)
    networks = Model(ModelConfig.from_dict(facts["config"]))
    networks.load_state_dict({k[4:]: v.half() for k, v in tensors.items() if k[:4] == "ema."})
    return networks.eval(), facts


def export(
    folder: Path, output: Path, photos: list[Photo], held_out: list[Photo], card: dict[str, Any]
) -> dict[str, float]:
    networks, facts = networks_of(folder)
    map_tables = fit_map_tables(networks, photos[:MAP_PHOTOS], SURVEY_LAMBDAS)
    fit_log_priors(networks, photos[:PRIOR_PHOTOS], map_tables)
    seen = survey(networks, photos, SURVEY_LAMBDAS, map_tables)
    normative = normative_part(networks, seen, map_tables)
    check = check_tables(networks, normative, held_out)
    print(json.dumps({k: round(v, 5) for k, v in check.items()}))
    if not check["integer_over_float"] <= WORSE_AT_MOST:  # nor NaN
        raise SystemExit("refused: the integer tables cost more than 0.5 % over the float ones")
    measured = {
        "config": networks.config.to_dict(),
        "fingerprint": normative.fingerprint(),
        "training": training_facts(checkpoint.runs(facts)),
        "tables": check,
    }
    write_model(output, model_tensors(networks, normative), measured | card)
    return check


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("output", type=Path, help="a .safetensors file")
    parser.add_argument("--photos", type=Path, nargs="+", required=True, help="to count tables on")
    parser.add_argument("--validation", type=Path, nargs="+", required=True)
    parser.add_argument("--limit-photos", type=int, default=150)
    parser.add_argument("--card", type=Path, help="JSON with what else the card shall say")
    options = parser.parse_args(arguments)
    card = json.loads(options.card.read_text()) if options.card else {}
    export(
        options.checkpoint,
        options.output,
        load_photos(options.photos, options.limit_photos),
        load_photos(options.validation),
        card,
    )


if __name__ == "__main__":
    main()
