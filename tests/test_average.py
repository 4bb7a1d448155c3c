"""Means of models."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from hvqcodec.models.model import Model
from tests.helpers import TINY, Pixels
from training import average, checkpoint, compare
from training.export import write_model
from training.train import start_from

GROWN = {"synthesis_blocks": [3, 3, 3]}


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """The tiny model with other weights, and the same directions of the entries."""
    tensors = load_file(TINY)
    for name, value in tensors.items():
        if name.startswith("network.") and "codebook" not in name:
            tensors[name] = value + 1
    path = tmp_path / "other.safetensors"
    write_model(path, tensors, json.loads(TINY.with_suffix(".json").read_text()))
    return path


def test_a_mean_lies_between_and_can_be_started_from(other: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mean" / "checkpoint"
    average.main([str(folder), f"{TINY}=1", f"{other}=3"])
    expected = start_from(str(TINY), {})[0].state_dict()
    model, runs = start_from(str(folder), {})
    assert model.config == start_from(str(TINY), {})[0].config
    for name, value in model.state_dict().items():
        moved = 0.0 if "codebook" in name else 0.75
        torch.testing.assert_close(value, expected[name] + moved, atol=2e-3, rtol=0)
    assert runs[-1]["options"]["mean_of"] == "[1.0, 3.0]"
    assert runs[:-1] == start_from(str(TINY), {})[1]


def test_the_length_of_entries_does_not_count(tmp_path: Path) -> None:
    """Nor who has longer ones."""
    one, two = (start_from(str(TINY), {})[0] for _ in range(2))
    two.codebook.weight.data = two.codebook.weight.flip(0) * 5
    expected = one.codebook.entries() + two.codebook.entries()
    found = average.mean_of([one, two], [2, 2])["codebook.weight"]
    cosine = torch.cosine_similarity(found, expected)
    torch.testing.assert_close(cosine, torch.ones_like(cosine))


def test_blocks_that_one_lacks_count_as_nothing_there(tmp_path: Path) -> None:
    small, large = (start_from(str(TINY), config)[0] for config in ({}, GROWN))
    added = large.state_dict().keys() - small.state_dict().keys()
    assert added
    with torch.no_grad():
        for name, value in large.named_parameters():
            if name in added:
                value.copy_(torch.randn_like(value))
    mean, grown = average.mean_of([small, large], [3, 1]), large.state_dict()
    assert mean.keys() == grown.keys()
    for name in added:
        expected = grown[name] / (4 if ".conv2." in name else 1)
        torch.testing.assert_close(mean[name], expected)
    for name in grown.keys() - added - {"codebook.weight"}:
        torch.testing.assert_close(mean[name], grown[name])


def test_models_are_compared_with_the_first(
    tmp_path: Path, cat: Pixels, capsys: pytest.CaptureFixture[str]
) -> None:
    """The tiny model against itself, and against one whose pictures lack contrast, which
    residuals of 8x8 pixels cannot mend."""
    folder = tmp_path / "dull"
    Image.fromarray(cat[:192, :192]).save(tmp_path / "cat.png")
    model, _ = start_from(str(TINY), {})
    with torch.no_grad():
        model.synthesis.to_rgb.weight *= 0.7
    facts = {"config": model.config.to_dict(), "steps": 0, "seconds": 0, "options": {}}
    checkpoint.save(folder, {f"ema.{k}": v for k, v in model.state_dict().items()}, facts)
    names = [str(TINY), str(TINY), str(folder)]
    compare.main([*names, "--validation", str(tmp_path)])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["model"] for line in lines] == names
    for line in lines[:2]:
        assert (line["bd_rate"]["ms_ssim"], line["bd_rate"]["psnr"]) == (0, 0)
        assert all(point["effnet"] > 0 for point in line["points"])
    assert lines[2]["bd_rate"]["psnr"] > 1
    assert [p["lambda"] for p in lines[0]["points"]] == list(compare.LAMBDAS)


def test_lpips_counts_on_the_grid_and_off_it() -> None:
    assert compare.anywhere({"bpp": 1.0, "lpips": 0.1, "lpips_moved": 0.3}) == {
        "bpp": 1.0,
        "lpips": pytest.approx(0.2),
    }
    assert compare.anywhere({"bpp": 1.0, "psnr": 20.0}) == {"bpp": 1.0, "psnr": 20.0}


def test_models_of_other_sizes_and_odd_calls_are_refused(
    other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    larger = tmp_path / "larger"
    model = Model(replace(start_from(str(TINY), {})[0].config, detail_channels=8))
    facts = {"config": model.config.to_dict(), "steps": 0, "seconds": 0, "options": {}}
    checkpoint.save(larger, {f"ema.{k}": v for k, v in model.state_dict().items()}, facts)
    folder = tmp_path / "mean"
    with pytest.raises(SystemExit, match="different sizes"):
        average.main([str(folder), f"{TINY}=1", f"{larger}=1"])
    for given in (f"{TINY}", f"{TINY}=0", f"{TINY}=-1", f"{TINY}=much"):
        with pytest.raises(SystemExit):
            average.main([str(folder), given])
    assert not folder.exists()
    with pytest.raises(SystemExit):
        average.main([str(larger), f"{TINY}=1"])
    assert "exists already" in capsys.readouterr().err
