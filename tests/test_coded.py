"""Crops with the codes that the encoder finds for them, and what the synthesis learns of them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from hvqcodec.codec import CODE_STEPS
from hvqcodec.models.zoo import load_model
from tests.helpers import TINY, Pixels
from training import coded, realism
from training.coded import CodedCrops, coded_batches


@pytest.fixture(scope="module")
def folder(astronaut: Pixels, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With three parts, of which two processes have made one each, and one has gone on."""
    photos, made = tmp_path_factory.mktemp("photos"), tmp_path_factory.mktemp("made") / "coded"
    Image.fromarray(astronaut[:160, 128:320]).save(photos / "photo.png")
    given = [str(made), "--photos", str(photos), "--model", str(TINY), "--crop", "96"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coded, "CROPS", 3)
        for seed in ("0", "1", "0"):
            coded.main([*given, "--minutes", "1e-9", "--seed", seed])
    return made


def shown(crops: CodedCrops) -> Tensor:
    networks = load_model(TINY).networks
    sent = [F.embedding(grid, networks.codebook.entries()) for grid in crops.maps]
    coarse, medium, fine = (grid.permute(0, 3, 1, 2) for grid in sent)
    with torch.no_grad():
        return (networks.synthesis((coarse, medium, fine), crops.levels) + 1) / 2


def error(crops: CodedCrops, image: Tensor) -> float:
    return F.mse_loss(shown(crops), image).item()


def test_a_folder_grows_and_is_never_written_over(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["0-0.npz", "0-1.npz", "1-0.npz"]
    parts = [np.load(path) for path in sorted(folder.iterdir())]
    assert {part["image"].shape for part in parts} == {(3, 96, 96, 3)}
    lambdas = np.concatenate([part["lambdas"] for part in parts])
    assert len(set(lambdas.tolist())) > 5


@pytest.mark.parametrize("size", [96, 48])
def test_codes_lie_where_their_crops_do(folder: Path, size: int) -> None:
    """Cut out anywhere, they are those of this picture and of no other, nor of its neighbours."""
    crops = next(coded_batches(folder, 8, size, seed=3))
    assert crops.image.shape == (8, 3, size, size)
    assert [grid.shape[1:] for grid in crops.maps] == [(size // b, size // b) for b in (16, 8, 4)]
    right = error(crops, crops.image)
    assert right < 0.5 * error(crops, crops.image.roll(1, 0))
    assert right < 0.9 * error(crops, crops.image.roll(16, 3))


def test_the_codes_are_those_of_the_descent(
    astronaut: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, crop = load_model(TINY), astronaut[:96, 160:256].copy()

    def found(steps: int) -> float:
        monkeypatch.setitem(CODE_STEPS, "best", steps)
        one = coded.coded(model, crop, 1.0)
        maps = [torch.from_numpy(one[name])[None].long() for name in coded.GRIDS]
        image = torch.from_numpy(crop).permute(2, 0, 1)[None] / 255
        levels = torch.from_numpy(one["levels"])[None].long()
        return error(CodedCrops(image, levels, maps, torch.ones(1)), image)

    assert found(4) < 0.97 * found(0)


def test_the_synthesis_alone_learns_from_them(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    # None of its photos is needed.
    given = ["--photos", "absent", "--run", str(run), "--start", str(TINY), "--batch", "4"]
    given += ["--crop", "64", "--device", "cpu", "--coded", str(folder), "--bare"]
    options = realism.arguments([*given, "--budget-steps", "1000", "--muon-lr", "0.001"])
    run.mkdir()
    trainer = realism.Realism(options)
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    batch = next(trainer.batches(trainer.photos(), seed=0))
    losses = [trainer.step(batch)["mse"] for _ in range(20)]
    assert np.mean(losses[-4:]) < np.mean(losses[:4])
    after = trainer.model.state_dict()
    assert {k.split(".")[0] for k in before if (before[k] != after[k]).any()} == {"synthesis"}


def test_an_empty_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no coded crops"):
        next(coded_batches(tmp_path, 4, 64, seed=0))


def test_they_teach_the_synthesis_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--photos", str(tmp_path), "--run", str(tmp_path), "--budget-steps", "1"]
    with pytest.raises(SystemExit):
        realism.arguments([*given, "--coded", str(tmp_path), "--learn", "analysis"])
    assert "--coded teaches the synthesis alone" in capsys.readouterr().err
