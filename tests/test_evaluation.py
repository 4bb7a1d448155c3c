import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save

from hvqcodec import Codec, FileError, ImageError, ModelError, compress, probe
from hvqcodec.metrics import Metrics
from hvqcodec.metrics.evaluation import MAX_PSNR, displayed, evaluate
from hvqcodec.metrics.folders import evaluate_folders, pairs
from hvqcodec.models.cards import DEFAULT, list_models
from tests.helpers import TESTS, TINY, Pixels
from tests.samples import swapped_profile
from tests.test_cli import MODEL, call, said

NETWORKS = TESTS.parents[1] / "shared" / "perceptual"


@pytest.fixture
def pair(tmp_path: Path, astronaut: Pixels) -> tuple[Path, Path]:
    """A photo of 192 x 192 as PNG and as JPEG."""
    paths = tmp_path / "photo.png", tmp_path / "photo.jpg"
    image = Image.fromarray(astronaut[:192, :192])
    image.save(paths[0])
    image.save(paths[1], quality=30)
    return paths


def test_figures_are_those_of_the_metrics(pair: tuple[Path, Path]) -> None:
    metrics = Metrics()
    metrics.add_optional()
    images = [np.asarray(Image.open(path)) for path in pair]
    assert evaluate(*pair).figures == metrics(*images)
    assert {"psnr", "ms_ssim"} <= set(metrics.distances)


def test_lpips_by_its_network(pair: tuple[Path, Path]) -> None:
    if not NETWORKS.is_dir():
        pytest.skip("the networks are not at hand")
    figures = evaluate(*pair, NETWORKS).figures
    assert 0.05 < figures["lpips"] < 0.5
    assert figures["dlp"] > 0.1


@pytest.mark.skipif(DEFAULT not in list_models(), reason="no model is embedded")
def test_hvq_files_are_images_too(pair: tuple[Path, Path]) -> None:
    file = pair[0].with_suffix(".hvq")
    file.write_bytes(compress(pair[0], quality=80))
    assert 18 < evaluate(pair[0], file).figures["psnr"] < 40


def test_images_are_compared_as_they_are_displayed(tmp_path: Path, cat: Pixels) -> None:
    image, exif = Image.fromarray(cat), Image.Exif()
    exif[274] = 6
    image.save(tmp_path / "a.png")
    image.rotate(90, expand=True).save(tmp_path / "turned.png", exif=exif)
    assert evaluate(tmp_path / "a.png", tmp_path / "turned.png").figures["psnr"] == MAX_PSNR
    image.save(tmp_path / "swapped.png", icc_profile=swapped_profile())
    assert evaluate(tmp_path / "a.png", tmp_path / "swapped.png").figures["psnr"] < 30


def test_a_model_is_used_wherever_the_file_comes_from(
    tmp_path: Path, codec: Codec, astronaut: Pixels
) -> None:
    """It is not inside the package."""
    data, tiny = codec.compress(astronaut[:48, :64]), MODEL[1]
    (tmp_path / "a.hvq").write_bytes(data)
    found = [
        evaluate(astronaut[:48, :64], source, model=tiny).figures
        for source in (tmp_path / "a.hvq", str(tmp_path / "a.hvq"), data, io.BytesIO(data))
    ]
    assert found == [found[0]] * 4
    Image.fromarray(astronaut[:48, :64]).save(tmp_path / "a.png")
    lines = said(call(tmp_path, "eval", "a.png", "-", *MODEL, stdin=data))
    assert f"{found[0]['psnr']:.4f}" in lines


def test_transparency_is_laid_over_white() -> None:
    clear = np.zeros((4, 6, 4), np.uint8)
    clear[:, 3:, 3] = 255
    np.testing.assert_array_equal(displayed(clear)[:, :3], 255)
    np.testing.assert_array_equal(displayed(clear)[:, 3:], 0)


def test_a_default_device_changes_nothing(pair: tuple[Path, Path], networks: Path) -> None:
    expected = evaluate(*pair, perceptual=networks).figures
    with torch.device("meta"):
        assert evaluate(*pair, perceptual=networks).figures == expected


def test_small_images_have_fewer_figures(astronaut: Pixels) -> None:
    measured = evaluate(astronaut[:100, :300], astronaut[100:200, :300])
    assert set(measured.figures) == {"psnr"}
    assert [line for line in measured.left_out if "MS-SSIM" in line and "161" in line]


def test_sizes_must_agree(astronaut: Pixels) -> None:
    with pytest.raises(ImageError, match="differ in size: 32 x 16 and 16 x 32"):
        evaluate(astronaut[:16, :32], astronaut[:32, :16])


def test_command(tmp_path: Path, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ssimulacra2.ssimulacra2", None)
    names = [path.name for path in pair]
    lines = said(call(tmp_path, "eval", *names)).splitlines()
    measured = evaluate(*pair)
    assert lines[0].split() == ["PSNR", f"{measured.figures['psnr']:.4f}"]
    assert [line for line in lines if "SSIMULACRA2" in line and "hvqcodec[metrics]" in line]
    spoken = json.loads(said(call(tmp_path, "eval", *names, "--json")))
    assert spoken["figures"] == pytest.approx(measured.figures)


def test_command_with_a_file_that_is_no_image(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    (tmp_path / "text.png").write_text("no image")
    result = call(tmp_path, "eval", pair[0].name, "text.png")
    assert (result.returncode, result.stdout) == (1, b"")
    assert result.stderr.decode().count("\n") == 1
    assert b"text.png" in result.stderr


def test_lpips_is_left_out_where_it_sees_nothing(networks: Path, astronaut: Pixels) -> None:
    for side in (1, 30, 31):
        photo = astronaut[:side, :40] if side > 1 else astronaut[:1, :1]
        found = evaluate(photo, photo, networks)
        line = "LPIPS is left out: it needs sides of 31 pixels"
        assert (line in found.left_out) == (side < 31) == ("lpips" not in found.figures)


def test_damaged_networks_are_named(tmp_path: Path, astronaut: Pixels) -> None:
    (tmp_path / "lpips_alex.safetensors").write_bytes(b"damaged")
    with pytest.raises(ModelError, match="not the weights of a network"):
        evaluate(astronaut, astronaut, tmp_path)
    (tmp_path / "lpips_alex.safetensors").write_bytes(save({"conv1.weight": torch.zeros(1)}))
    with pytest.raises(ModelError, match=r"not the weights of LPIPS: it lacks conv1\.bias"):
        evaluate(astronaut, astronaut, tmp_path)


def test_a_folder_without_networks_is_named(tmp_path: Path, astronaut: Pixels) -> None:
    with pytest.raises(ModelError, match=r"holds neither lpips_alex\.safetensors nor tiny_dark"):
        evaluate(astronaut, astronaut, tmp_path)


def test_a_file_of_a_model_of_ones_own(
    tmp_path: Path, codec: Codec, pair: tuple[Path, Path], networks: Path
) -> None:
    """Whose model is not inside the package."""
    photo = np.asarray(Image.open(pair[0]))
    data = codec.compress(photo)
    (tmp_path / "photo.hvq").write_bytes(data)
    result = call(tmp_path, "eval", pair[0].name, "photo.hvq")
    assert result.returncode == 1
    spoken = said(call(tmp_path, "eval", pair[0].name, "photo.hvq", "--json", *MODEL))
    expected = evaluate(photo, codec.decompress(data)).figures["psnr"]
    assert json.loads(spoken)["figures"]["psnr"] == pytest.approx(expected)


def test_standard_input(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    names = [path.name for path in pair]
    told = said(call(tmp_path, "eval", "-", names[1], stdin=pair[0].read_bytes()))
    assert told == said(call(tmp_path, "eval", *names))


def test_notices_of_encoding_are_not_given(
    tmp_path: Path, camera: Pixels, recwarn: pytest.WarningsRecorder
) -> None:
    Image.fromarray(camera[:64, :64].astype(np.uint16) * 257).save(tmp_path / "deep.png")
    evaluate(tmp_path / "deep.png", camera[:64, :64])
    assert not recwarn


@pytest.fixture
def folders(tmp_path: Path, codec: Codec, coffee: Pixels) -> tuple[Path, Path]:
    """Originals, and what has become of them."""
    originals, coded = tmp_path / "originals", tmp_path / "coded"
    (originals / "below").mkdir(parents=True)
    (coded / "below").mkdir(parents=True)
    for name, left in (("a.png", 0), ("b.jpg", 64), ("below/B.PNG", 128)):
        image = Image.fromarray(coffee[:192, left : left + 192])
        image.save(originals / name)
    (coded / "a.hvq").write_bytes(codec.compress(originals / "a.png"))
    Image.open(originals / "b.jpg").save(coded / "b.jpg.webp", quality=20)
    Image.open(originals / "below" / "B.PNG").save(coded / "below" / "b.jpg", quality=20)
    (coded / "manifest.jsonl").touch()
    return originals, coded


def test_folders_are_compared_image_by_image(folders: tuple[Path, Path]) -> None:
    originals, coded = folders
    told: list[float] = []
    found = evaluate_folders(*folders, model=TINY, progress=told.append)
    places = {"a.png": "a.hvq", "b.jpg": "b.jpg.webp", "below/B.PNG": "below/b.jpg"}
    for place, partner in places.items():
        one = evaluate(originals / place, coded / partner, model=TINY)
        rate = {"bpp": probe(coded / partner).bpp} if partner == "a.hvq" else {}
        assert found.images[place] == rate | one.figures
    assert set(found.images) == set(places)
    assert found.left_out == one.left_out
    assert "bpp" not in found.mean  # not all have one
    psnrs = [figures["psnr"] for figures in found.images.values()]
    assert found.mean["psnr"] == pytest.approx(np.mean(psnrs))
    assert told == pytest.approx([1 / 3, 2 / 3, 1])


def test_command_with_folders(folders: tuple[Path, Path], tmp_path: Path) -> None:
    found = evaluate_folders(*folders, model=TINY)
    head, *rows = said(call(tmp_path, "eval", "originals", "coded", *MODEL)).splitlines()
    assert head.split()[:3] == ["bpp", "PSNR", "MS-SSIM"]
    for row, (place, figures) in zip(rows, found.images.items(), strict=False):
        cells = row.removeprefix(place).split()
        expected = [figures.get(name) for name in ("bpp", "psnr")]
        assert cells[:2] == [f"{value:.4f}" if value else "-" for value in expected]
    assert rows[3].split()[:5] == ["mean", "of", "3", "-", f"{found.mean['psnr']:.4f}"]
    spoken = json.loads(said(call(tmp_path, "eval", "originals", "coded", "--json", *MODEL)))
    assert spoken["mean"] == pytest.approx(found.mean)
    assert spoken["images"]["a.png"] == pytest.approx(found.images["a.png"])


def test_folders_that_do_not_fit(folders: tuple[Path, Path], tmp_path: Path) -> None:
    originals, coded = folders
    result = call(tmp_path, "eval", "originals", "coded/a.hvq")
    assert (result.returncode, result.stdout) == (2, b"")
    assert b"two images, or two folders" in result.stderr
    Image.new("RGB", (8, 8)).save(coded / "below" / "b.webp")
    with pytest.raises(FileError, match=r"below.b\.jpg and .*b\.webp may both be .*B\.PNG"):
        pairs(originals, coded)
    (coded / "below" / "b.jpg").unlink()
    with pytest.raises(ImageError, match=r"192 x 192 \(.*B\.PNG\) and 8 x 8 \(.*b\.webp\)"):
        evaluate_folders(originals, coded, model=TINY)
    (coded / "below" / "b.webp").unlink()
    with pytest.raises(FileError, match=r"coded has no image that was below/B\.PNG"):
        pairs(originals, coded)
