"""`hvq batch --decode`: the other way."""

import io
import zipfile
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image

from hvqcodec import Codec, FileError, ImageError, probe
from hvqcodec.batch import Settings, Summary, run
from hvqcodec.batch.inputs import find_jobs
from hvqcodec.batch.work import Job, Worker
from tests.helpers import TINY, Pixels
from tests.test_batch import records
from tests.test_cli import MODEL, call

SETTINGS = Settings(str(TINY), "cpu", 1, {}, ".png")


@pytest.fixture
def coded(tmp_path: Path, astronaut: Pixels, codec: Codec) -> Path:
    """A folder of two files, one of them in a folder inside, as a batch leaves it."""
    folder = tmp_path / "coded"
    (folder / "inside").mkdir(parents=True)
    (folder / "manifest.jsonl").write_text("")
    for number, name in enumerate(("a.hvq", "inside/b.hvq")):
        photo = Image.fromarray(astronaut[60 * number :][:48, 180:260])
        if number:  # as transparent as it is bright
            photo.putalpha(photo.convert("L"))
        (folder / name).write_bytes(codec.compress(photo, quality=40))
    return folder


def pixels(path: Path) -> Pixels:
    with Image.open(path) as image:
        return np.asarray(image)


def test_files_become_images(coded: Path, tmp_path: Path, codec: Codec) -> None:
    jobs = find_jobs([coded], ".png")
    assert [job.output for job in jobs] == ["a.png", "inside/b.png"]
    assert run(jobs, tmp_path / "out", SETTINGS, workers=2) == Summary(total=2, written=2)
    for job in jobs:
        expected = codec.decompress(Path(job.input).read_bytes(), "numpy")
        assert np.array_equal(pixels(tmp_path / "out" / job.output), expected)
    for record in records(tmp_path / "out"):
        output, file = tmp_path / "out" / record.output, Path(record.input).read_bytes()
        assert (record.bytes, record.bpp) == (output.stat().st_size, probe(file).bpp)


def test_what_is_done_is_skipped(coded: Path, tmp_path: Path, codec: Codec) -> None:
    def again(settings: Settings, overwrite: bool = False) -> Summary:
        jobs = find_jobs([coded], settings.suffix)
        return run(jobs, tmp_path / "out", settings, overwrite=overwrite)

    limits = {"tile": 64, "max_pixels": 9000, "max_metadata_bytes": 10}
    assert again(SETTINGS).written == 2
    assert again(Settings(str(TINY), "cpu", 2, limits, ".png")).skipped == 2
    (coded / "a.hvq").write_bytes((coded / "inside" / "b.hvq").read_bytes())
    assert again(SETTINGS) == Summary(total=2, skipped=1, failed=1)
    assert again(SETTINGS, overwrite=True) == Summary(total=2, written=1, skipped=1)
    out = tmp_path / "out"
    assert np.array_equal(pixels(out / "a.png"), pixels(out / "inside" / "b.png"))
    assert again(Settings(str(TINY), "cpu", 1, {}, ".tif")).written == 2
    assert run(find_jobs([coded], ".png"), coded, SETTINGS).written == 2
    assert run(find_jobs([coded], ".png"), coded, SETTINGS).skipped == 2  # without a notice


def test_files_behind_urls(coded: Path, tmp_path: Path, codec: Codec) -> None:
    data = (coded / "a.hvq").read_bytes()
    fsspec.filesystem("memory").pipe({"/coded/a.hvq": data, "/coded/no.txt": b""})
    with zipfile.ZipFile(tmp_path / "coded.zip", "w") as archive:
        archive.write(coded / "inside" / "b.hvq", "b.hvq")
    worker = Worker(SETTINGS)
    for name in ("memory://coded", f"zip://*.hvq::{tmp_path}/coded.zip"):
        (job,) = find_jobs([name], ".png")
        outcome = worker.convert(job.input)
        assert outcome.data is not None
        with Image.open(io.BytesIO(outcome.data)) as image:
            shown = np.asarray(image)
        expected = data if job.output == "a.png" else (coded / "inside" / "b.hvq").read_bytes()
        assert np.array_equal(shown, codec.decompress(expected, "numpy"))


def test_without_a_model_files_have_those_of_the_package(
    coded: Path, tmp_path: Path, astronaut: Pixels, shipped: Codec
) -> None:
    data = shipped.compress(astronaut[:32, :48], effort="fast")
    (coded / "shipped.hvq").write_bytes(data)
    settings = Settings(None, "cpu", 1, {}, ".png")
    summary = run(find_jobs([coded], ".png"), tmp_path / "out", settings)
    assert summary == Summary(total=3, written=1, failed=2)
    expected = shipped.decompress(data, "numpy")
    assert np.array_equal(pixels(tmp_path / "out" / "shipped.png"), expected)
    faults = [record.error for record in records(tmp_path / "out") if record.error]
    assert all("made with a model of fingerprint" in fault for fault in faults), faults


def test_names(coded: Path) -> None:
    """Also those that a batch gave to images that differed in their suffix alone."""
    for name in ("c.jpg.hvq", "c.png.hvq"):
        (coded / name).write_bytes((coded / "a.hvq").read_bytes())
    Image.new("L", (2, 2)).save(coded / "photo.png")
    with pytest.warns(match=r"left out as no \.hvq files: \.png \(1\)"):
        names = {job.output for job in find_jobs([coded], ".jpg")}
    assert names == {"a.jpg", "c.jpg.jpg", "c.png.jpg", "inside/b.jpg"}
    with pytest.raises(FileError, match=r"no \.hvq file is found there"):
        find_jobs([coded / "*.x"], ".jpg")


def test_settings_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"unknown image suffix '\.gif'"):
        run([], tmp_path, Settings(None, "cpu", 1, {}, ".gif"))
    with pytest.raises(ValueError, match=r"a\.png has not the suffix of the settings, \.jpg"):
        run([Job("a.hvq", "a.png")], tmp_path, Settings(None, "cpu", 1, {}, ".jpg"))
    with pytest.raises(ValueError, match="the model to encode with"):
        run([], tmp_path, Settings(None, "cpu", 1, {}))


class TestCommand:
    def test_there_and_back(self, tmp_path: Path, coded: Path, codec: Codec) -> None:
        given = ("batch", str(coded), "-o", "out", "--decode", "JPG", "--workers", "1", *MODEL)
        result = call(tmp_path, *given)
        assert result.returncode == 0
        assert result.stdout.startswith(b"2 decoded, 0 skipped, 0 failed in ")
        assert b"Notice" in result.stderr
        assert b"b.hvq: JPEG holds no transparency" in result.stderr
        image = codec.decompress((coded / "a.hvq").read_bytes())
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=95, subsampling="4:4:4")
        assert np.array_equal(pixels(tmp_path / "out" / "a.jpg"), np.asarray(Image.open(buffer)))
        assert call(tmp_path, *given).stdout.startswith(b"0 decoded, 2 skipped, 0 failed in ")

    def test_a_damaged_file_does_not_stop_the_others(self, tmp_path: Path, coded: Path) -> None:
        damaged = bytearray((coded / "a.hvq").read_bytes())
        damaged[-1] ^= 1
        (coded / "a.hvq").write_bytes(damaged)
        result = call(tmp_path, "batch", "coded", "-o", "out", "--decode", "png", *MODEL)
        assert result.returncode == 1
        assert result.stdout.startswith(b"1 decoded, 0 skipped, 1 failed in ")
        (line,) = result.stderr.splitlines()
        assert line.startswith(b"Error: coded/a.hvq: ")
        assert not (tmp_path / "out" / "a.png").exists()

    def test_limits(self, tmp_path: Path, coded: Path, codec: Codec, astronaut: Pixels) -> None:
        described = Image.fromarray(astronaut[:16, :16])
        described.info["xmp"] = b"<x/>" * 50
        (coded / "xmp.hvq").write_bytes(codec.compress(described))
        limits = ["--max-metadata-bytes", "100", "--max-pixels", "3000"]
        result = call(tmp_path, "batch", "coded", "-o", "out", "--decode", "png", *limits, *MODEL)
        assert result.stdout.startswith(b"0 decoded, 0 skipped, 3 failed in ")
        limits = ["--max-metadata-bytes", "200", "--max-pixels", "3840"]
        result = call(tmp_path, "batch", "coded", "-o", "out", "--decode", "png", *limits, *MODEL)
        assert result.stdout.startswith(b"3 decoded, 0 skipped, 0 failed in ")

    def test_calls_that_cannot_be(self, tmp_path: Path, coded: Path) -> None:
        for given, fault in {
            "--decode gif": "'gif' is none of png, jpg",
            "--decode png --rate 0.2 --effort fast": "--rate, --effort: for encoding alone",
        }.items():
            result = call(tmp_path, "batch", str(coded), "-o", "out", *given.split(), *MODEL)
            assert result.returncode == 2
            assert fault in result.stderr.decode()
            assert not (tmp_path / "out").exists()
