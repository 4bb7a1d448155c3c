"""Stage 3 on the tiny model: short but real runs, and what becomes of its files."""

import json
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.photos import load_photos
from hvqcodec import Codec
from hvqcodec.models.zoo import load_model
from tests.helpers import TINY, Pixels, bare
from training import checkpoint, graft
from training.crops import batches
from training.masks import EncoderMaps
from training.realism import HEAD_START, Discriminator, Realism
from training.realism import arguments as realism_arguments


@pytest.fixture
def options(astronaut: Pixels, tmp_path: Path) -> Namespace:
    """Of a run from the tiny model on one photo."""
    photo = tmp_path / "photo.png"
    Image.fromarray(astronaut[:128, 128:288]).save(photo)
    given = ["--photos", str(tmp_path), "--run", str(tmp_path / "run"), "--start", str(TINY)]
    given += ["--batch", "4", "--crop", "64", "--budget-steps", "1000", "--device", "cpu"]
    return realism_arguments([*given, "--adversarial", "0.5"])


@pytest.fixture
def realism(options: Namespace) -> Realism:
    options.run.mkdir()
    return Realism(options)


def a_batch(options: Namespace) -> Tensor:
    return next(batches(load_photos(options.photos), 4, 64, seed=0))


def test_a_patch_sees_46_pixels() -> None:
    image = torch.rand(1, 3, 96, 96, requires_grad=True)
    verdict = Discriminator(8)(image)
    assert verdict.shape == (1, 1, 11, 11)
    (gradient,) = torch.autograd.grad(verdict[0, 0, 5, 5], image)
    seen = gradient[0].abs().sum(0).nonzero()
    assert (seen.amax(0) - seen.amin(0) + 1).tolist() == [46, 46]


@pytest.mark.parametrize(
    ("learn", "learned"),
    [
        ("synthesis", {"synthesis"}),
        ("analysis", {"analysis", "distortion_head", "synthesis"}),
        (
            "everything",
            {"analysis", "codebook", "distortion_head", "hyperpriors", "synthesis"},
        ),
    ],
)
def test_what_decides_how_files_are_read_stays(
    options: Namespace, learn: str, learned: set[str]
) -> None:
    options.run.mkdir()
    options.learn = learn
    realism = Realism(options)
    before = {k: v.clone() for k, v in realism.model.state_dict().items()}
    opponent = {k: v.clone() for k, v in realism.discriminator.named_parameters()}
    batch = a_batch(options)
    verdicts = [realism.step(batch)["verdict"] for _ in range(30)]
    assert np.mean(verdicts[-5:]) < np.mean(verdicts[:5]) - 0.1
    after = realism.model.state_dict()
    assert {k.split(".")[0] for k in before if (before[k] != after[k]).any()} == learned
    assert all((v != opponent[k]).any() for k, v in realism.discriminator.named_parameters())


def test_what_the_discriminator_says_counts_after_its_head_start(
    realism: Realism, options: Namespace
) -> None:
    """The gradients of the synthesis with and without its word, on the same crops and maps."""

    def gradient(steps: int, weight: float) -> Tensor:
        realism.progress.steps, realism.options.adversarial = steps, weight
        realism.objective.encoder_maps, realism.objective.calls = EncoderMaps(), 0
        realism.objective.code_bits = code_bits.clone()
        torch.manual_seed(0)
        loss, _ = realism.loss(batch, 0.0)
        realism.model.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        found = realism.model.synthesis.to_rgb.weight.grad
        assert found is not None
        return found.clone()

    batch, code_bits = a_batch(options), realism.objective.code_bits
    assert torch.equal(gradient(HEAD_START, 0.0), gradient(HEAD_START, 0.5))
    assert not torch.equal(gradient(2 * HEAD_START, 0.0), gradient(2 * HEAD_START, 0.5))


def test_the_synthesis_goes_where_the_discriminator_takes_it_for_real(
    realism: Realism, options: Namespace
) -> None:
    batch = a_batch(options)
    for _ in range(30):
        realism.step(batch)
    assert realism.discriminator(batch).mean() > realism.discriminator(batch * 0.5).mean()
    realism.discriminator.eval()  # whose spectral norms would move else
    realism.opponent.param_groups[0]["lr"] = 0.0

    def told(weight: float) -> tuple[Tensor, float]:
        realism.progress.steps, realism.options.adversarial = 2 * HEAD_START, weight
        realism.objective.encoder_maps, realism.objective.calls = EncoderMaps(), 0
        torch.manual_seed(0)
        loss, report = realism.loss(batch, 0.0)
        return loss, report["unreal"]

    (alone, unreal), (loss, _) = told(0.0), told(0.5)
    assert (loss - alone).item() == pytest.approx(0.5 * unreal, abs=1e-4)
    realism.model.zero_grad()
    told(1000.0)[0].backward()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for parameter in realism.model.synthesis.parameters():
            if parameter.grad is not None:
                parameter.sub_(1e-3 * parameter.grad / parameter.grad.norm())
    assert told(0.0)[1] < unreal


def test_the_seed_reaches_the_discriminator(options: Namespace) -> None:
    def drawn(seed: int) -> Tensor:
        options.seed = seed
        return next(Realism(options).discriminator.parameters()).detach()

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


def test_there_must_be_something_to_go_on_from(options: Namespace) -> None:
    options.start = None
    with pytest.raises(SystemExit, match="--start"):
        Realism(options)


def test_a_resumed_run_has_its_discriminator(realism: Realism, options: Namespace) -> None:
    realism.step(a_batch(options))
    realism.save()
    resumed = Realism(options)
    assert resumed.progress == realism.progress
    for name, value in realism.discriminator.state_dict().items():
        assert torch.equal(resumed.discriminator.state_dict()[name], value)
    moments = [
        [state["exp_avg"] for state in each.opponent.state.values()] for each in (realism, resumed)
    ]
    assert moments[0]
    assert all(torch.equal(a, b) for a, b in zip(*moments, strict=True))


def test_a_grafted_model_decodes_the_same_files_to_other_pixels(
    realism: Realism, options: Namespace, astronaut: Pixels
) -> None:
    realism.average = {k: v.clone() for k, v in realism.average.items()}
    realism.average["synthesis.to_rgb.bias"] += 0.2
    realism.average["analysis.stem.bias"] += 0.05
    realism.average["hyperpriors.0.log_prior"] += 0.5  # which is not taken
    realism.save()
    output = options.run / "model.safetensors"
    graft.main([str(TINY), str(options.run / "checkpoint"), str(output)])
    before, after = load_file(TINY), load_file(output)
    assert {k for k in before if not torch.equal(before[k], after[k])} == {
        "network.synthesis.to_rgb.bias",
        "network.analysis.stem.bias",
    }
    photo = astronaut[:128, 128:288]
    old, new = Codec.load(TINY), Codec.load(output)
    data = old.compress(photo, quality=50)
    lighter = np.asarray(new.decompress(data)).astype(float) - np.asarray(old.decompress(data))
    assert 10 < lighter.mean() < 26
    other = new.compress(photo, quality=50)
    assert other != data
    assert old.decompress(other).size == (160, 128)
    runs = json.loads(output.with_suffix(".json").read_text())["training"]["runs"]
    assert runs[-1]["options"]["adversarial"] == "0.5"


def test_the_synthesis_of_another_codebook_is_refused(realism: Realism, options: Namespace) -> None:
    realism.average["codebook.weight"] = realism.average["codebook.weight"] + 0.1
    realism.save()
    output = options.run / "model.safetensors"
    with pytest.raises(SystemExit, match="another codebook"):
        graft.graft(str(TINY), options.run / "checkpoint", output)
    assert not output.exists()
    assert checkpoint.load(options.run / "checkpoint")[1]["steps"] == 0


def test_a_synthesis_that_has_grown_is_grafted(options: Namespace, astronaut: Pixels) -> None:
    """It begins as what it was, since new blocks begin as nothing."""
    sizes = load_model(TINY).networks.config.synthesis_blocks
    options.config = {"synthesis_blocks": [blocks + 1 for blocks in sizes]}
    grown = Realism(options)
    grown.options.run.mkdir(exist_ok=True)
    grown.save()
    output = options.run / "model.safetensors"
    graft.main([str(TINY), str(options.run / "checkpoint"), str(output)])
    assert graft.is_graft(load_file(output), load_file(TINY), graft.SYNTHESIS)
    old, new = Codec.load(TINY), Codec.load(output)
    blocks = len(new.model.networks.synthesis.trunk8), len(old.model.networks.synthesis.trunk8)
    assert blocks[0] == blocks[1] + 1
    data = bare(old.compress(astronaut[:128, 128:288], quality=50))  # the residual is of one alone
    shown = [np.asarray(codec.decompress(data)).astype(int) for codec in (old, new)]
    assert np.abs(shown[0] - shown[1]).max() <= 1


def test_a_graft_is_what_reads_the_same_files() -> None:
    model = {"network.synthesis.a": torch.zeros(2), "normative.a": torch.zeros(2)}
    assert graft.is_graft(model | {"network.synthesis.a": torch.ones(2)}, model)
    assert not graft.is_graft(model | {"normative.a": torch.ones(2)}, model)
    assert not graft.is_graft({"network.synthesis.a": torch.zeros(2)}, model)
    model["network.analysis.a"] = torch.zeros(2)
    other = model | {"network.analysis.a": torch.ones(2)}
    assert graft.is_graft(other, model)
    assert not graft.is_graft(other, model, graft.SYNTHESIS)
