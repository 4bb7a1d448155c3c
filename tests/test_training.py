"""Short but real runs on three small photos, without perceptual networks."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import tarfile
from argparse import Namespace
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

import hvqcodec
from benchmarks.photos import load_photos
from hvqcodec import Codec
from hvqcodec.allocation import CODES_PER_CELL, allocate
from hvqcodec.encoding import hyperprior
from hvqcodec.entropy.map_coding import CONTEXTS, MAP_TABLE_SUM, flag_counts, map_costs
from hvqcodec.metrics.perceptual import load_perceptual
from hvqcodec.models.config import ModelConfig
from hvqcodec.models.model import Model
from hvqcodec.models.zoo import load_model
from tests.helpers import TESTS, TINY, Pixels, psnr, symbols_of
from training import average, checkpoint, export, tables, train
from training.crops import batches, random_crop, smoothed
from training.masks import EncoderMaps, random_lambdas, random_map, random_maps
from training.objective import Distortion, Weights
from training.optimisers import orthogonalise
from training.peers import MEET_EVERY, Peers
from training.survey import scenes, survey
from training.validate import validate

ROOT = TESTS.parent
PERCEPTUAL = ROOT.parent / "shared" / "perceptual"
LARGEST_PART = 15 << 20

CARD = json.loads(TINY.with_suffix(".json").read_text())
OPTIONS = ("--batch", "4", "--crop", "64", "--device", "cpu", "--threads", "1")
CONFIG = ("--config", json.dumps(CARD["config"]))


@pytest.fixture(scope="session")
def photos(
    tmp_path_factory: pytest.TempPathFactory, astronaut: Pixels, coffee: Pixels, rocket: Pixels
) -> Path:
    """A folder with three photos of 160 x 128: a face, a cup, and a dusk that is dull enough
    for the coarse level."""
    folder = tmp_path_factory.mktemp("photos")
    for number, photo in enumerate((astronaut[20:, 150:], coffee[150:, 150:], rocket[:, 448:])):
        Image.fromarray(photo[:128, :160]).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="session")
def whole_photos(
    tmp_path_factory: pytest.TempPathFactory, astronaut: Pixels, coffee: Pixels, rocket: Pixels
) -> Path:
    """To count tables on: every level has several hundred codes on them."""
    folder = tmp_path_factory.mktemp("whole")
    for number, photo in enumerate((astronaut, coffee, rocket)):
        Image.fromarray(photo).save(folder / f"{number}.png", compress_level=1)
    return folder


def arguments(photos: Path, run: Path, *more: str) -> list[str]:
    return ["--photos", str(photos), "--run", str(run), *OPTIONS, *CONFIG, *more]


def start(photos: Path, run: Path, *more: str) -> subprocess.Popen[str]:
    source = str(Path(hvqcodec.__file__).parents[1])
    return subprocess.Popen(
        [sys.executable, "-m", "training.train", *arguments(photos, run, *more)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": source, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out


def log_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def parts(run: Path) -> list[Path]:
    return sorted((run / "checkpoint").glob("part-*.safetensors"))


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch, photos: Path, tmp_path: Path) -> Namespace:
    """Of a run in this process, its budget 40 steps."""
    given_ = arguments(photos, tmp_path / "run", "--budget-steps", "40")
    monkeypatch.setattr(sys, "argv", ["train", *given_])
    return train.arguments()


@pytest.fixture
def trainer(options: Namespace) -> train.Trainer:
    """After three steps, saved."""
    trainer = train.Trainer(options)
    source = batches(load_photos(options.photos), 4, 64, seed=0)
    for _ in range(3):
        trainer.step(next(source))
    options.run.mkdir()
    trainer.save()
    return trainer


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """Four steps from the start by one process, three more by a second one."""
    run = tmp_path_factory.mktemp("run")
    finish(start(photos, run, "--budget-steps", "4", "--validation", str(photos)))
    finish(start(photos, run, "--budget-steps", "7"))
    return run


@pytest.fixture(scope="module")
def continued(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """The tiny model trained on for three steps, from its weights alone: a sound model."""
    run = tmp_path_factory.mktemp("continued")
    tensors = {
        f"ema.{name.removeprefix('network.')}": value.float()
        for name, value in load_file(TINY).items()
        if name.startswith("network.")
    }
    tensors["usage"] = torch.full((CARD["config"]["codes"],), 1 / CARD["config"]["codes"])
    facts = {"config": CARD["config"], "steps": 800, "seconds": 60.0, "code_bits": [5.0] * 3}
    checkpoint.save(run / "checkpoint", tensors, facts)
    finish(start(photos, run, "--budget-steps", "803", "--compact"))
    return run


def test_a_run_stops_at_its_budget_and_resumes(finished: Path) -> None:
    facts = json.loads((finished / "checkpoint" / "facts.json").read_text())
    assert facts["steps"] == 7
    assert facts["seconds"] > 0
    assert ModelConfig.from_dict(facts["config"]) == ModelConfig.from_dict(CARD["config"])
    begins = [line["step"] for line in log_of(finished) if "photos" in line]
    assert begins == [0, 4]


def test_a_run_validates_on_held_out_photos(finished: Path) -> None:
    lines = [line for line in log_of(finished) if "validation" in line and "photos" not in line]
    assert [line["step"] for line in lines] == [4, 4, 4]
    assert [line["validation"]["lambda"] for line in lines] == [2.4, 0.9, 0.4]
    assert all(line["validation"]["bpp"] > 0 for line in lines)
    assert all(5 < line["validation"]["psnr"] < 40 for line in lines)


def test_weights_without_an_optimiser_resume(continued: Path) -> None:
    tensors, facts = checkpoint.load(continued / "checkpoint")
    assert facts["steps"] == 803
    kinds = {name.split(".")[0].split(":")[0] for name in tensors}
    assert kinds == {"ema", "muon", "adamw", "usage"}
    momenta = [t for name, t in tensors.items() if ":" in name and t.ndim]
    assert {t.dtype for t in momenta} == {torch.bfloat16}


def test_a_compact_checkpoint_resumes(photos: Path, continued: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for path in sorted((continued / "checkpoint").iterdir()):
        copy = tmp_path / "run" / "checkpoint" / path.name
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(path.read_bytes())
    out = finish(start(photos, tmp_path / "run", "--budget-steps", "805"))
    assert json.loads(out.splitlines()[0])["step"] == 803
    tensors, facts = checkpoint.load(tmp_path / "run" / "checkpoint")
    assert facts["steps"] == 805
    assert any(name.startswith("raw.") for name in tensors)


def test_sigterm_saves_and_stops(photos: Path, tmp_path: Path) -> None:
    process = start(photos, tmp_path / "run", "--budget-steps", "1000000", "--batch", "1")
    assert process.stdout is not None
    lines = [json.loads(process.stdout.readline()) for _ in range(2)]  # at step 0 and 100
    process.send_signal(signal.SIGTERM)
    finish(process)
    facts = json.loads((tmp_path / "run" / "checkpoint" / "facts.json").read_text())
    assert [line["step"] for line in lines] == [0, 100]
    assert 100 <= facts["steps"] < 1_000_000


def test_peers_go_on_from_the_mean_of_their_weights(photos: Path, tmp_path: Path) -> None:
    """Two processes: one meeting at the start, one after twenty steps, where the budget of
    thirteen is found used up; then the same command with a larger budget goes on."""
    run = tmp_path / "run"
    for budget, steps in ((13, MEET_EVERY), (30, 2 * MEET_EVERY)):
        out = finish(start(photos, run, "--peers", "2", "--budget-steps", str(budget)))
        assert [json.loads(line)["step"] for line in out.splitlines()] == [steps - MEET_EVERY]
        (first, facts), (other, _) = (
            checkpoint.load(folder / "checkpoint") for folder in (run, run / "peer-1")
        )
        assert facts["steps"] == steps
        raw = [name for name in first if name.startswith("raw.")]
        assert raw
        assert all(torch.equal(first[name], other[name]) for name in raw)
        momenta = [name for name in first if name.endswith(":momentum")]
        assert all((first[name] != other[name]).any() for name in momenta), "crops of their own"


def meeting(rank: int, folder: str) -> None:
    """What one of two processes has at first, and after a meeting, into a file."""
    peers = Peers(rank, 2, Path(folder))
    state = [torch.full((2, 3), 4.0 + rank), torch.tensor(7 + rank)]
    peers.begin(state)
    begun = [t.clone() for t in state]
    state[0] += rank
    wish = peers.meet(state, wish=rank == 1)
    torch.save([begun, state, wish], Path(folder) / f"{rank}.pt")
    peers.part()


def test_a_meeting_makes_the_mean_and_hears_each_wish(tmp_path: Path) -> None:
    context = get_context("spawn")
    processes = [context.Process(target=meeting, args=(r, str(tmp_path))) for r in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    for rank in (0, 1):
        begun, met, wish = torch.load(tmp_path / f"{rank}.pt")
        assert begun[0].unique().tolist() == [4.0]
        assert met[0].unique().tolist() == [4.5]
        assert (begun[1], met[1]) == (7, 7)
        assert wish


def test_a_peer_that_comes_later_goes_on_from_where_the_first_is(
    photos: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    finish(start(photos, run, "--budget-steps", "3"))
    before, _ = checkpoint.load(run / "checkpoint")
    finish(start(photos, run, "--peers", "2", "--budget-steps", "5"))
    after, _ = checkpoint.load(run / "checkpoint")
    other, facts = checkpoint.load(run / "peer-1" / "checkpoint")
    assert facts["steps"] == 3 + MEET_EVERY
    raw = [name for name in before if name.startswith("raw.") and before[name].is_floating_point()]
    begun, gone = (torch.cat([t[n].flatten() for n in raw]) for t in (before, after))
    # Halfway to what has nothing in common with it are 0.7.
    assert (gone - begun).norm() / begun.norm() < 0.2
    assert all(torch.equal(after[name], other[name]) for name in raw)


def test_where_a_peer_is_gone_the_others_stop(photos: Path, tmp_path: Path) -> None:
    process = start(photos, tmp_path / "run", "--peers", "2", "--budget-steps", "1000000")
    assert process.stdout is not None
    process.stdout.readline()
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (other,) = (c for c in children if b"spawn_main" in Path(f"/proc/{c}/cmdline").read_bytes())
    os.kill(int(other), signal.SIGKILL)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert err.startswith("one of the 2 processes is gone")


def test_a_mean_goes_on(options: Namespace) -> None:
    average.main([str(options.run / "checkpoint"), f"{TINY}=1", f"{TINY}=1"])
    trainer = train.Trainer(options)
    expected = load_model(TINY).networks.synthesis.state_dict()
    for name, value in trainer.model.synthesis.state_dict().items():
        torch.testing.assert_close(value, expected[name], atol=1e-3, rtol=0)
    trainer.step(next(batches(load_photos(options.photos), 4, 64, 0)))
    trainer.save()
    assert checkpoint.load(options.run / "checkpoint")[1]["steps"] == 1


def test_faults_of_the_thread_that_makes_crops_are_told() -> None:
    with pytest.raises(ValueError, match="high <= 0"):
        next(batches([], 4, 64, 0))


def test_no_minutes_left_saves_at_once(options: Namespace) -> None:
    options.minutes = 0.0
    before = signal.getsignal(signal.SIGTERM)
    try:
        train.Trainer(options).run(load_photos(options.photos), [])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert checkpoint.load(options.run / "checkpoint")[1]["steps"] == 0


def test_a_run_without_photos_or_budget_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    photos: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["train", *arguments(photos, tmp_path)])
    with pytest.raises(SystemExit):
        train.arguments()
    assert "--budget-minutes or --budget-steps" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="no photos in"):
        load_photos([tmp_path])


def state_of(trainer: train.Trainer) -> dict[str, Tensor]:
    """Everything that training goes on from, by name."""
    names = {p: name for name, p in trainer.model.named_parameters()}
    tensors = {f"raw.{k}": v for k, v in trainer.model.state_dict().items()}
    tensors |= {f"ema.{k}": v for k, v in trainer.average.items()}
    for name, optimiser in trainer.optimisers.items():
        tensors |= checkpoint.optimiser_tensors(name, optimiser, names, compact=False)
    return tensors | {"usage": trainer.objective.usage, "bits": trainer.objective.code_bits}


def test_a_checkpoint_restores_everything_exactly(trainer: train.Trainer) -> None:
    resumed = train.Trainer(trainer.options)
    before, after = state_of(trainer), state_of(resumed)
    assert before.keys() == after.keys()
    assert {k.split(":")[2] for k in before if ":" in k} == {
        *("momentum", "exp_avg", "exp_avg_sq", "step")
    }
    for name, tensor in before.items():
        assert tensor.dtype == after[name].dtype
        assert torch.equal(tensor, after[name]), name
    assert resumed.progress == trainer.progress


def test_a_run_can_start_from_a_model(options: Namespace) -> None:
    options.start = str(TINY)
    started = train.Trainer(options)
    shipped = load_model(TINY).networks.state_dict()
    for name, value in started.model.state_dict().items():
        if name == "codebook.weight":  # of a training's length, which turns it no further
            assert torch.allclose(started.model.codebook.entries(), shipped[name], atol=1e-3)
            assert torch.allclose(
                value.norm(dim=1), torch.tensor(started.model.config.dimensions**0.5), atol=1e-2
            )
        else:
            assert torch.equal(value, shipped[name])
    report = started.step(next(batches(load_photos(options.photos), 4, 64, seed=0)))
    assert np.isfinite(report["loss"])
    assert not torch.equal(started.model.analysis.stem.weight, shipped["analysis.stem.weight"])


def test_the_entropy_model_alone_learns_on_a_frozen_autoencoder(
    trainer: train.Trainer, options: Namespace, tmp_path: Path
) -> None:
    """It starts from a checkpoint without contexts, and gains them."""
    options.start = str(options.run / "checkpoint")
    options.run, options.entropy_only = tmp_path / "entropy", True
    options.config = {"context_window": 3, "context_channels": 8}
    options.adamw_lr, options.budget_steps = 0.01, 400
    learner = train.Trainer(options)
    before = {k: v.clone() for k, v in learner.model.state_dict().items()}
    for name, value in trainer.average.items():
        assert torch.equal(before[name], value)
    batch = next(batches(load_photos(options.photos), 4, 64, seed=0))
    bits = [learner.step(batch)["loss"] for _ in range(60)]
    assert np.mean(bits[-5:]) < 0.8 * np.mean(bits[:5])
    changed = {
        k.split(".")[0] for k, v in learner.model.state_dict().items() if (v != before[k]).any()
    }
    assert changed == {"hyperpriors", "contexts"}
    learner.options.run.mkdir()
    learner.save()
    runs = checkpoint.runs(checkpoint.load(learner.options.run / "checkpoint")[1])
    assert [run["steps"] for run in runs] == [3, 60]


def test_a_start_of_other_sizes_is_refused(trainer: train.Trainer, options: Namespace) -> None:
    options.start, options.run = str(options.run / "checkpoint"), options.run / "other"
    options.config = {"codes": 32}
    with pytest.raises(SystemExit, match="other sizes"):
        train.Trainer(options)


def test_a_resumed_run_takes_the_same_steps(trainer: train.Trainer) -> None:
    resumed = train.Trainer(trainer.options)
    image = torch.from_numpy(load_photos(trainer.options.photos)[0][None, :64, :64].copy())
    image = image.permute(0, 3, 1, 2).float() / 255
    found = []
    for each in (trainer, resumed):
        torch.manual_seed(1)
        each.step(image)
        found.append(state_of(each))
    for name, tensor in found[0].items():
        assert torch.equal(tensor, found[1][name]), name


def test_a_compact_checkpoint_keeps_the_average_and_rounded_momenta(
    trainer: train.Trainer,
) -> None:
    trainer.options.compact = True
    trainer.save()
    before, after = state_of(trainer), state_of(train.Trainer(trainer.options))
    for name, tensor in after.items():
        source = name.replace("raw.", "ema.")
        expected = before[source]
        if ":" in name and tensor.ndim:
            expected = expected.bfloat16().float()
        assert torch.equal(tensor, expected), name


def test_the_parts_of_a_checkpoint_are_small(finished: Path, tmp_path: Path) -> None:
    """Of this run, and of a model of the shipped size."""
    assert parts(finished)
    state = Model(ModelConfig()).state_dict()
    checkpoint.save(tmp_path / "checkpoint", state, {"steps": 1})
    assert len(parts(tmp_path)) > 1
    for part in parts(finished) + parts(tmp_path):
        assert part.stat().st_size < LARGEST_PART
    tensors, facts = checkpoint.load(tmp_path / "checkpoint")
    assert facts == {"steps": 1}
    assert tensors.keys() == state.keys()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in state.items())


def test_a_kill_between_the_swaps_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    checkpoint.save(folder, {"a": torch.ones(3)}, {"steps": 1})
    folder.rename(tmp_path / "checkpoint.old")
    tensors, facts = checkpoint.load(folder)
    assert (tensors["a"].tolist(), facts) == ([1, 1, 1], {"steps": 1})
    checkpoint.save(folder, {"a": torch.zeros(3)}, {"steps": 2})
    assert checkpoint.load(folder)[1] == {"steps": 2}


def test_training_brings_the_error_down(options: Namespace) -> None:
    options.budget_steps, options.weights, options.muon_lr = 200, {"mse": 100}, 0.01
    trainer = train.Trainer(options)
    batch = next(batches(load_photos(options.photos), 4, 64, seed=0))
    errors = [trainer.step(batch)["mse"] for _ in range(90)]
    assert np.mean(errors[-5:]) < 0.6 * np.mean(errors[:5])


def test_distortion_is_weighted_mse_where_there_are_no_networks(cat: Pixels) -> None:
    assert load_perceptual(None) == (None, None)
    target = torch.from_numpy(cat[:64, :96].copy()).permute(2, 0, 1)[None].float() / 255
    noisy = (target + 0.1 * torch.randn_like(target)).clamp(0, 1)
    loss, cells, metrics = Distortion(Weights(mse=7.0), None, None)(noisy, target)
    assert set(metrics) == {"mse"}
    expected = 7 * (noisy - target).square().mean()
    torch.testing.assert_close(loss, expected[None])
    assert cells.shape == (1, 8, 12)
    torch.testing.assert_close(cells.mean(), expected)


def test_the_judge_is_the_analysis_that_the_run_began_with(options: Namespace, cat: Pixels) -> None:
    options.weights = {"mse": 0.0, "features": 2.0}
    with pytest.raises(SystemExit, match="--start"):
        train.Trainer(options)
    options.start, options.muon_lr = str(TINY), 0.02
    trainer = train.Trainer(options)
    target = torch.from_numpy(cat[:64, :96].copy()).permute(2, 0, 1)[None].float() / 255
    loss, cells, metrics = trainer.metrics(target.flip(3), target)
    features = [
        [torch.nn.functional.normalize(f, dim=1) for f in load_model(TINY).networks.analysis(x)[1]]
        for x in (2 * target.flip(3) - 1, 2 * target - 1)
    ]
    expected = sum((a - b).square().sum(1).mean() for a, b in zip(*features, strict=True))
    torch.testing.assert_close(metrics["features"], torch.as_tensor(expected)[None])
    torch.testing.assert_close(loss, 2 * metrics["features"])
    torch.testing.assert_close(cells.mean(), loss[0])
    for _ in range(3):  # the model's own analysis goes on
        trainer.step(next(batches(load_photos(options.photos), 4, 64, seed=0)))
    assert trainer.metrics(target.flip(3), target)[0].equal(loss)


def test_distortion_with_the_perceptual_networks(cat: Pixels) -> None:
    if not PERCEPTUAL.is_dir():
        pytest.skip("the perceptual networks are not at hand")
    distortion = Distortion(Weights(), *load_perceptual(PERCEPTUAL))
    target = torch.from_numpy(cat[:64, :96].copy()).permute(2, 0, 1)[None].float() / 255
    loss, cells, metrics = distortion(target.flip(3), target)
    assert set(metrics) == {"mse", "lpips", "dlp"}
    weights = Weights()
    parts_ = [getattr(weights, name) * value for name, value in metrics.items()]
    torch.testing.assert_close(loss, torch.stack(parts_).sum(0))
    assert cells.shape == (1, 8, 12)
    assert torch.equal(distortion(target, target)[0], torch.zeros(1))


@pytest.mark.parametrize("shape", [(16, 432), (96, 27), (12, 48), (8, 9)])
def test_orthogonalised_matrices_have_singular_values_of_about_1(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(sum(shape))
    matrices = torch.randn(5, *shape, generator=generator)
    scaled = matrices * torch.tensor([1e-3, 0.1, 1, 10, 1e3]).view(5, 1, 1)
    found = orthogonalise(scaled)
    assert found.dtype == torch.float32
    values = torch.linalg.svdvals(found)
    assert 0.5 <= values.min() <= values.max() <= 1.5
    # The nearest orthogonal matrix shares the singular vectors: U'XV is near the diagonal.
    u, _, vh = torch.linalg.svd(matrices, full_matrices=False)
    core = u.mT @ found @ vh.mT
    off_diagonal = core - torch.diag_embed(core.diagonal(dim1=1, dim2=2))
    assert off_diagonal.abs().max() < 0.1


@pytest.mark.parametrize(("height", "width"), [(4, 4), (6, 6), (8, 8), (16, 16), (12, 20)])
def test_random_maps_are_valid_and_of_every_kind(height: int, width: int) -> None:
    """Crops of 32, 48, 64, 128 pixels, and an oblong one."""
    torch.manual_seed(height)
    seen: set[frozenset[int]] = set()
    for _ in range(200):
        levels = random_map(height, width)
        assert levels.shape == (height, width)
        coarse = (levels == 0).view(height // 2, 2, width // 2, 2).sum((1, 3))
        assert set(coarse.unique().tolist()) <= {0, 4}
        seen.add(frozenset(levels.unique().tolist()))
    assert {frozenset({0}), frozenset({1}), frozenset({2}), frozenset({0, 1, 2})} <= seen


def test_random_maps_and_lambdas_of_a_batch() -> None:
    maps = random_maps(3, 8, 12, torch.device("cpu"))
    assert (maps.shape, maps.dtype) == ((3, 8, 12), torch.int64)
    lambdas = random_lambdas(2000, 0.15, 4.0)
    assert 0.15 <= lambdas.min() <= lambdas.max() <= 4
    assert lambdas.log().mean().item() == pytest.approx(np.log(0.15 * 4) / 2, abs=0.1)


def test_photos_of_folders_and_tar_files(photos: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        for path in sorted(photos.iterdir(), reverse=True):
            tar.add(path, f"inside/{path.name}")
    loaded = load_photos([photos])
    assert [photo.shape for photo in loaded] == [(128, 160, 3)] * 3
    for a, b in zip(loaded, load_photos([tmp_path / "photos.tar"]), strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(load_photos([photos, tmp_path / "photos.tar"], limit=4)) == 4


def test_crops_are_of_the_photo(photos: Path, cat: Pixels) -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        crop = random_crop(cat, 64, rng)
        assert (crop.shape, crop.dtype) == ((64, 64, 3), np.uint8)
    assert random_crop(cat[:20, :30], 64, rng).shape == (64, 64, 3)
    batch = next(batches(load_photos([photos]), 5, 64, seed=0))
    assert (batch.shape, batch.dtype) == ((5, 3, 64, 64), torch.float32)
    assert 0 <= batch.min() < 0.2
    assert 0.8 < batch.max() <= 1
    again = next(batches(load_photos([photos]), 5, 64, seed=0))
    assert torch.equal(batch, again)


def test_backdrops_are_smooth_and_of_any_colour(photos: Path, cat: Pixels) -> None:
    """Half of them around a part of the photo."""
    rng, crop = np.random.default_rng(0), cat[:64, :64]
    made = [smoothed(crop, rng) for _ in range(60)]
    steps = [np.abs(np.diff(backdrop.astype(int), axis=0)).max() for backdrop in made]
    assert 20 <= sum(step <= 13 for step in steps) <= 50
    parts = [(backdrop == crop).all(2).mean() for backdrop in made]
    assert 15 <= sum(part > 0.02 for part in parts) <= 40
    means = np.array([backdrop.mean((0, 1)) for backdrop in made])
    assert np.ptp(means, 0).min() > 120
    given = load_photos([photos])
    usual, smooth = (next(batches(given, 8, 64, 0, share)) for share in (0.0, 1.0))
    roughness = [batch.diff(dim=2).abs().mean().item() for batch in (usual, smooth)]
    assert roughness[1] < 0.6 * roughness[0]


def test_validation_measures_the_tiny_model(photos: Path) -> None:
    distortion = Distortion(Weights(), None, None)
    networks = load_model(TINY).networks
    found = list(validate(networks, load_photos([photos]), distortion, torch.full((3,), 5.0)))
    assert [set(result) for result in found] == [{"lambda", "bpp", "psnr"}] * 3
    assert 0.01 < found[0]["bpp"] < found[-1]["bpp"] < 1
    assert found[-1]["psnr"] > 15
    bits = torch.full((3,), 5.0)
    mended = list(validate(networks, load_photos([photos]), distortion, bits, residuals=True))
    for with_residual, without in zip(mended, found, strict=True):
        assert without["bpp"] < with_residual["bpp"] < without["bpp"] + 0.3
        assert with_residual["psnr"] > without["psnr"] + 0.3


@given(
    hnp.arrays(
        np.int64, st.tuples(st.integers(1, 3), st.integers(2, 70)), elements=st.integers(0, 10**6)
    )
)
def test_frequencies_are_positive_and_sum_up(counts: np.ndarray) -> None:
    frequencies = tables.to_frequencies(counts, 1 << 12)
    assert frequencies.dtype == np.int32
    assert frequencies.min() >= 1
    assert (frequencies.sum(-1) == 1 << 12).all()
    for row, counted in zip(frequencies, counts, strict=True):
        assert row[counted.argmax()] == row.max()


def test_maps_are_made_as_the_encoder_makes_them(photos: Path) -> None:
    """Of a batch of photos: refined, under tables that come to suit them."""
    networks, crops = networks_of_tiny(), load_photos([photos])
    found = list(scenes(networks, crops))
    distortion = torch.cat([scene.cell_distortion for scene in found])
    bits, lambdas = torch.tensor([8.0, 7.0, 6.0]), torch.tensor([0.3, 1.0, 5.0])
    maker = EncoderMaps()
    first, later = maker(distortion, bits, lambdas), None
    for _ in range(20):
        later = maker(distortion, bits, lambdas)
    assert later is not None
    plain = allocate(distortion, bits * torch.tensor(CODES_PER_CELL), lambdas)
    for levels in (first, later):
        assert levels.shape == plain.shape
        assert levels.dtype == torch.int64
        coarse = (levels == 0).view(3, 8, 2, 10, 2).sum((2, 4))
        assert set(coarse.unique().tolist()) <= {0, 4}
    sets = tables.map_table_sets(np.stack([flag_counts(m) for m in later.numpy().astype(np.uint8)]))

    def map_bits(levels: Tensor) -> float:
        return sum(map_costs(m, sets).min() for m in levels.numpy().astype(np.uint8))

    assert map_bits(later) < map_bits(plain)
    assert (maker.counts.sum((1, 2)) > EncoderMaps().counts.sum((1, 2))).sum() == 3


def test_without_the_soft_assignment_its_bits_do_not_count(
    trainer: train.Trainer, photos: Path
) -> None:
    """Embeddings are then drawn to no side."""
    image = next(batches(load_photos([photos]), 4, 64, seed=0))
    objective, losses = trainer.objective, []
    for soft in (1.0, 0.0):
        objective.weights = replace(objective.weights, soft=soft)
        torch.manual_seed(0)
        losses.append(objective(image, joint=1.0, allocate_share=0.0)[0].item())
    assert losses[1] < losses[0]


def test_frozen_parts_stay_and_fresh_ones_begin_anew(options: Namespace) -> None:
    options.start, options.config = str(TINY), {}
    options.fresh, options.freeze = ["log_prior", "codebook"], ["log_prior"]
    trainer = train.Trainer(options)
    model, shipped = trainer.model, load_model(TINY).networks
    assert not torch.equal(model.codebook.weight, shipped.codebook.weight)
    assert torch.equal(model.analysis.stem.weight, shipped.analysis.stem.weight)
    source = batches(load_photos(options.photos), 4, 64, seed=0)
    before = model.codebook.weight.detach().clone()
    for _ in range(3):
        trainer.step(next(source))
    assert not torch.equal(model.codebook.weight, before)
    for level in range(3):
        assert not hyperprior(model, level).log_prior.any()


@given(st.lists(st.integers(1, 10**6), min_size=2, max_size=90))
def test_huffman_codes_are_complete_and_near_the_entropy(counts: list[int]) -> None:
    lengths = tables.huffman_lengths(np.array(counts, np.int32))
    assert sum(2.0**-length for length in lengths) == 1
    share = np.array(counts) / sum(counts)
    entropy = -(share * np.log2(share)).sum()
    assert entropy - 1e-9 <= (share * lengths).sum() < entropy + 1


def test_map_tables_are_made_for_unlike_maps() -> None:
    rng = np.random.default_rng(0)
    shares = rng.random((40, CONTEXTS))
    ones = (1000 * shares).astype(np.int64)
    sets = tables.map_table_sets(np.stack([1000 - ones, ones], 2))
    assert sets.shape == (tables.MAP_SETS, CONTEXTS, 2)
    assert (sets.sum(2) == MAP_TABLE_SUM).all()
    assert sets.min() >= 1
    assert len(np.unique(sets[:, 0, 0])) > 1


def test_map_tables_suit_the_maps_that_they_lead_to(photos: Path) -> None:
    """Better than tables that were counted on maps chosen without any."""
    networks, loaded, lambdas = networks_of_tiny(), load_photos([photos]), (0.5, 2.0)
    fitted = tables.fit_map_tables(networks, loaded, lambdas)
    plain = [(s, x, s.allocate(x)) for s in scenes(networks, loaded) for x in lambdas]
    first = tables.map_table_sets(np.stack([flag_counts(m) for _, _, m in plain]))

    def bits(found: np.ndarray) -> float:
        refined = [scene.refine(levels, x, found) for scene, x, levels in plain]
        return float(sum(map_costs(levels, found).min() for levels in refined))

    assert bits(fitted) < bits(first)


def export_of(run: Path, photos: Path, output: Path) -> None:
    export.main(
        [str(run / "checkpoint"), str(output), "--photos", str(photos), "--validation", str(photos)]
    )


@pytest.fixture(scope="module")
def exported(continued: Path, whole_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("models") / "model.safetensors"
    export_of(continued, whole_photos, output)
    return output


def test_an_exported_model_codes_photos(exported: Path, astronaut: Pixels) -> None:
    codec = Codec.load(exported)
    photo = astronaut[:128, 128:288]
    data = codec.compress(photo, ratios=(0.3, 0.4, 0.3))
    symbols = symbols_of(codec.model, data)
    assert set(np.unique(symbols.levels)) == {0, 1, 2}
    assert psnr(np.asarray(codec.decompress(data)), photo) > 14


def test_the_card_of_an_exported_model(exported: Path, continued: Path) -> None:
    card = json.loads(exported.with_suffix(".json").read_text())
    assert card["sha256"] == hashlib.sha256(exported.read_bytes()).hexdigest()
    assert ModelConfig.from_dict(card["config"]) == ModelConfig.from_dict(CARD["config"])
    assert card["training"]["runs"][-1]["steps"] == 803
    assert card["tables"]["integer_over_float"] <= export.WORSE_AT_MOST
    network = load_file(exported)["network.synthesis.to_rgb.weight"]
    average = checkpoint.load(continued / "checkpoint")[0]["ema.synthesis.to_rgb.weight"]
    assert torch.equal(network, average.half())


def test_worse_integer_tables_are_refused(
    continued: Path, whole_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "WORSE_AT_MOST", -1.0)
    with pytest.raises(SystemExit, match="refused"):
        export_of(continued, whole_photos, tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())


def test_tables_of_unknown_cost_are_refused(
    continued: Path, whole_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "float_index_bits", lambda *_: float("nan"))
    with pytest.raises(SystemExit, match="refused"):
        export_of(continued, whole_photos, tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_run_too_short_for_a_model_is_exported_or_refused(
    finished: Path, photos: Path, tmp_path: Path
) -> None:
    """Seven steps leave nearly all codes with one index."""
    output = tmp_path / "model.safetensors"
    refusal = ""
    try:
        export_of(finished, photos, output)
    except SystemExit as error:
        refusal = str(error)
    if refusal:
        assert "cost more than 0.5 %" in refusal
        assert not list(tmp_path.iterdir())
    else:
        assert Codec.load(output).model.card["training"]["runs"][-1]["steps"] == 7


def test_a_layer_of_zeros_is_one_of_integers() -> None:
    layer = torch.nn.Linear(3, 2)
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.constant_(layer.bias, 0.5)
    convolution, bits = export.integer_layer(layer, 10)
    assert not convolution.weight.any()
    assert convolution.bias.tolist() == [2 ** (bits + 9)] * 2


def networks_of_tiny() -> Model:
    return load_model(TINY).networks.requires_grad_(True)


def index_bits(networks: Model, photos: list[Pixels]) -> float:
    return sum(
        export.float_index_bits(networks, scene.symbols(scene.allocate(lambda_)))
        for scene in scenes(networks, photos)
        for lambda_ in export.CHECK_LAMBDAS
    )


def test_fitted_log_priors_save_bits(photos: Path) -> None:
    networks, loaded = networks_of_tiny(), load_photos([photos])
    with torch.no_grad():
        for level in range(3):
            hyperprior(networks, level).log_prior.add_(torch.linspace(0, 2, 64))
    before = index_bits(networks, loaded)
    export.fit_log_priors(networks, loaded, load_model(TINY).normative.map_tables)
    assert index_bits(networks, loaded) < 0.95 * before


def test_photos_of_few_indices_are_enough_to_count_tables_on(
    continued: Path, photos: Path, tmp_path: Path
) -> None:
    """The dusk among them is coded with hardly more than one coarse index."""
    output = tmp_path / "model.safetensors"
    export_of(continued, photos, output)
    assert Codec.load(output).model.card["training"]["runs"][-1]["steps"] == 803


def test_log_priors_stay_finite_where_a_level_is_never_sent(cat: Pixels) -> None:
    networks, photo = networks_of_tiny(), cat[96:160, 160:224]
    for scene in scenes(networks, [photo]):
        sent = {
            level for value in export.CHECK_LAMBDAS for level in np.unique(scene.allocate(value))
        }
        assert len(sent) < 3
    export.fit_log_priors(networks, [photo], load_model(TINY).normative.map_tables)
    for level in range(3):
        assert torch.isfinite(hyperprior(networks, level).log_prior).all()


def test_log_priors_stay_finite_where_an_index_never_comes(cat: Pixels) -> None:
    networks, unused = networks_of_tiny(), 5
    for level in range(3):
        hyperprior(networks, level).log_prior.data[unused] = -150.0
    export.fit_log_priors(networks, [cat[:128, :128]], load_model(TINY).normative.map_tables)
    for level in range(3):
        log_prior = hyperprior(networks, level).log_prior
        assert torch.isfinite(log_prior).all()
        assert log_prior.argmin() == unused


def test_the_survey_counts_what_is_sent(photos: Path) -> None:
    networks, loaded = load_model(TINY).networks, load_photos([photos])
    map_tables = load_model(TINY).normative.map_tables
    found = survey(networks, loaded, (0.5, 5.0), map_tables)
    sent = [
        scene.symbols(scene.choose(lambda_, map_tables))
        for scene in scenes(networks, loaded)
        for lambda_ in (0.5, 5.0)
    ]
    for level in range(3):
        assert found.indices[level].sum() == sum(len(s.indices[level]) for s in sent)
    assert (found.activation_max >= 0).all()
