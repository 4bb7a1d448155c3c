"""The gate, and what it judges by."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.points import Point
from hvqcodec import Codec
from hvqcodec.doctor import sample_picture
from hvqcodec.models.cards import DEFAULT
from tests.helpers import TINY, Pixels
from training import promote
from training.export import write_model


def points(name: str, factor: float) -> list[Point]:
    """A curve with `factor` times the bits of the plain one."""
    figures = {"lpips_anywhere": 1.0, "dlp": 2.0, "effnet": 3.0, "frechet": 9.0}
    return [
        Point(
            name,
            bpp,
            {k: start - bpp for k, start in figures.items()}
            | {"bpp": factor * bpp, "ms_ssim": bpp},
        )
        for bpp in (0.1, 0.2, 0.3, 0.4)
    ]


@pytest.mark.parametrize(("factor", "promoted"), [(0.9, True), (1.0, False), (1.1, False)])
def test_fewer_bits_for_the_same_looks_are_promoted(factor: float, promoted: bool) -> None:
    verdict = promote.judge(points("present", 1.0) + points("candidate", factor))
    assert verdict.pop("frechet") == 0
    assert verdict == pytest.approx(dict.fromkeys(promote.JUDGES, 100 * (factor - 1)), abs=0.01)
    verdict["frechet"] = 0.0
    assert promote.passes(verdict) == promoted


def test_a_gain_is_not_bought_with_one_of_the_metrics() -> None:
    verdict = dict.fromkeys((*promote.JUDGES, "frechet"), -10.0)
    assert promote.passes(verdict | {"ms_ssim": 1.9})
    assert not promote.passes(verdict | {"ms_ssim": 2.1})
    assert promote.passes(verdict | {"frechet": 4.9})
    assert not promote.passes(verdict | {"frechet": 5.1})


@pytest.mark.parametrize(
    ("frechet", "dlp", "promoted"), [(-11.0, 4.9, True), (-9.0, -2.0, False), (-11.0, 5.1, False)]
)
def test_a_graft_may_also_look_more_natural(frechet: float, dlp: float, promoted: bool) -> None:
    verdict = dict.fromkeys(promote.JUDGES, 1.0) | {"dlp": dlp, "frechet": frechet}
    as_they_were = dict.fromkeys(verdict, 0.0)
    assert promote.passes(verdict, as_they_were) == promoted
    assert not promote.passes(verdict)


@pytest.mark.parametrize("figure", [*promote.JUDGES, "frechet"])
def test_a_graft_may_not_spoil_the_files_that_there_are(figure: str) -> None:
    better = dict.fromkeys((*promote.JUDGES, "frechet"), -10.0)
    assert promote.passes(better, better | {figure: 4.9})
    assert not promote.passes(better, better | {figure: 5.1})


def test_a_distance_below_all_of_the_present_ones_is_compared() -> None:
    """Where a BD-rate has no span to be taken over."""
    both = points("present", 1.0) + points("candidate", 1.0)
    for point in both[4:]:
        point.means["frechet"] /= 4
    assert promote.judge(both)["frechet"] == pytest.approx(-75)


def test_no_other_model_is_kept_by_a_name_that_is_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--validation", str(tmp_path), "--perceptual", str(tmp_path)]
    with pytest.raises(SystemExit):
        promote.main([str(TINY), *given, "--keep-as", DEFAULT])
    assert f"there is a model {DEFAULT!r} already" in capsys.readouterr().err


@pytest.fixture
def embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the tiny model, which stands for the embedded one, in a folder of its own."""
    folder = tmp_path / "weights"
    folder.mkdir()
    for suffix in (".safetensors", ".json"):
        shutil.copyfile(TINY.with_suffix(suffix), folder / f"base{suffix}")
    monkeypatch.setattr(promote, "WEIGHTS", folder)
    monkeypatch.setattr(promote, "model_path", lambda _: folder / "base.safetensors")
    return folder / "base.safetensors"


@pytest.mark.parametrize("promoted", [True, False])
def test_the_embedded_model_is_replaced_only_by_a_better_one(
    promoted: bool,
    embedded: Path,
    networks: Path,
    tmp_path: Path,
    astronaut: Pixels,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Photos, files and figures are real; what would be enough is not."""
    monkeypatch.setattr(promote, "RATES", (0.06, 0.07))
    monkeypatch.setattr(promote, "passes", lambda verdict, old: bool(old) and promoted)
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.fromarray(astronaut[:192, 128:384]).save(photos / "photo.png")
    tensors = load_file(TINY)
    changed = "network.synthesis.to_rgb.bias" if promoted else "network.analysis.stem.bias"
    tensors[changed] += 0.01
    candidate = tmp_path / "candidate.safetensors"
    write_model(candidate, tensors, json.loads(TINY.with_suffix(".json").read_text()))
    lines: list[dict[str, object]] = []
    of_a_graft = [*2 * ["candidate"], *2 * ["present"], None, *2 * ["old files"], None]

    def told() -> list[object]:
        printed = capsys.readouterr().out.splitlines()
        lines.extend(json.loads(line) for line in printed if line.startswith("{"))
        return [line.get("model") for line in lines]

    before = embedded.read_bytes()
    given = [str(candidate), "--validation", str(photos), "--perceptual", str(networks)]
    given += ["--keep-as", "earlier"]
    kept = embedded.with_name("earlier.safetensors")
    if not promoted:
        with pytest.raises(SystemExit, match="the embedded model stays"):
            promote.main(given)
        assert told() == of_a_graft
        assert embedded.read_bytes() == before
        assert not embedded.with_suffix(".hvq").exists()
        assert not kept.exists()
        return
    promote.main(given)
    assert embedded.read_bytes() == candidate.read_bytes()
    assert kept.read_bytes() == before
    assert kept.with_suffix(".json").read_bytes() == TINY.with_suffix(".json").read_bytes()
    card = json.loads(embedded.with_suffix(".json").read_text())
    assert set(card["validation"]) == {"0.06", "0.07"}
    assert told() == of_a_graft
    assert card["percent_against_predecessor"] == lines[4]["percent_against_present"]
    sample = Codec.load(embedded).decompress(embedded.with_suffix(".hvq").read_bytes())
    assert np.asarray(sample).shape == sample_picture().shape


def test_nothing_is_won_on_the_grid_alone() -> None:
    """A distance that sees every fourth pixel alone is fooled; its mean is not."""

    def at_the_grid(a: Tensor, b: Tensor) -> Tensor:
        return (a - b)[..., ::4, ::4].abs().mean((1, 2, 3))

    a = torch.zeros(1, 3, 16, 16)
    b = torch.ones(1, 3, 16, 16)
    b[..., ::4, ::4] = 0
    assert at_the_grid(a, b).item() == 0
    assert promote.anywhere(at_the_grid)(a, b).item() == 0.5


@pytest.mark.parametrize("missing", ["lpips_alex", "tiny_darknet"])
def test_both_networks_are_wanted_before_any_work(
    networks: Path, tmp_path: Path, missing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for network in networks.glob("*.safetensors"):
        if network.stem != missing:
            shutil.copy(network, tmp_path)
    given = ["--validation", str(tmp_path), "--perceptual", str(tmp_path)]
    with pytest.raises(SystemExit):
        promote.main([str(TINY), *given])
    assert "does not hold the networks of both" in capsys.readouterr().err
