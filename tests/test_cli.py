"""Real processes of `hvq`, with the tiny model."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hvqcodec
from hvqcodec import Codec, cli
from hvqcodec.bitstream import SIGNATURE
from tests.helpers import TINY, Pixels, psnr, with_section

SCRIPT = Path(sys.executable).with_name("hvq")
COMMAND = (
    [str(SCRIPT)]
    if SCRIPT.exists()
    else [sys.executable, "-c", "from hvqcodec.cli import main; main()"]
)
MODEL = ("--model", str(TINY))

Result = subprocess.CompletedProcess[str]


def start(command: list[str], folder: Path) -> Result:
    source = str(Path(hvqcodec.__file__).parents[1])
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def hvq(folder: Path, *arguments: str) -> Result:
    return start([*COMMAND, *arguments], folder)


def succeed(folder: Path, *arguments: str) -> str:
    result = hvq(folder, *arguments)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


def assert_one_error(result: Result, status: int) -> str:
    """Gives the line."""
    assert result.returncode == status, result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    lines = result.stderr.splitlines()
    assert lines[-1].startswith("Error: ")
    if status == 1:
        assert len(lines) == 1
    else:
        assert lines[0].startswith("Usage: ")
    return lines[-1]


@pytest.fixture(scope="module")
def crop(astronaut: Pixels) -> Pixels:
    """(96, 128, 3)."""
    return astronaut[40:136, 160:288]


@pytest.fixture
def folder(tmp_path: Path, crop: Pixels) -> Path:
    """With photo.png in it."""
    Image.fromarray(crop).save(tmp_path / "photo.png")
    return tmp_path


@pytest.fixture(scope="module")
def coded(codec: Codec, crop: Pixels) -> bytes:
    return codec.compress(crop)


def test_there_and_back(folder: Path, codec: Codec) -> None:
    said = succeed(folder, "encode", "photo.png", "-o", "small.hvq", *MODEL)
    data = (folder / "small.hvq").read_bytes()
    assert said == f"small.hvq: {len(data)} bytes, {8 * len(data) / 96 / 128:.4f} bpp\n"
    assert codec.decompress(data).size == (128, 96)
    assert succeed(folder, "decode", "small.hvq", "-o", "back.png", *MODEL) == ""
    back = np.asarray(Image.open(folder / "back.png"))
    assert np.abs(back.astype(int) - np.asarray(codec.decompress(data))).max() <= 1
    assert set(contents(folder)) == {"photo.png", "small.hvq", "back.png"}


def test_default_names(folder: Path, crop: Pixels) -> None:
    (folder / "photo.png").rename(folder / "my.photo.jpeg")
    succeed(folder, "encode", "my.photo.jpeg", *MODEL)
    succeed(folder, "decode", "my.photo.hvq", *MODEL)
    assert set(contents(folder)) == {"my.photo.jpeg", "my.photo.hvq", "my.photo.png"}
    back = np.asarray(Image.open(folder / "my.photo.png"))
    assert psnr(back, crop) > 14


def test_files_get_the_usual_permissions(folder: Path) -> None:
    succeed(folder, "encode", "photo.png", *MODEL)
    (folder / "plain").write_bytes(b"")
    assert (folder / "photo.hvq").stat().st_mode == (folder / "plain").stat().st_mode


@pytest.mark.parametrize(
    ("option", "value"), [("--rate", "0.12"), ("--max-bytes", "150"), ("--quality", "90")]
)
def test_choices_reach_the_codec(
    folder: Path, codec: Codec, crop: Pixels, option: str, value: str
) -> None:
    name = {"--rate": "bpp", "--max-bytes": "max_bytes", "--quality": "quality"}[option]
    succeed(folder, "encode", "photo.png", option, value, *MODEL)
    expected = codec.compress(crop, **{name: float(value)})  # type: ignore[arg-type]
    assert (folder / "photo.hvq").stat().st_size == pytest.approx(len(expected), abs=8)
    assert len(expected) != len(codec.compress(crop))


def test_ratios_reach_the_codec(folder: Path) -> None:
    sizes = []
    for ratios in ("0,0,1", "1,0,0"):
        succeed(folder, "encode", "photo.png", "--ratios", ratios, "--overwrite", *MODEL)
        sizes.append((folder / "photo.hvq").stat().st_size)
    assert 2 * sizes[0] < sizes[1]


@pytest.mark.parametrize(
    ("suffix", "name"), [(".webp", "WEBP"), (".JPG", "JPEG"), (".tif", "TIFF")]
)
def test_the_suffix_decides_the_format(folder: Path, coded: bytes, suffix: str, name: str) -> None:
    (folder / "photo.hvq").write_bytes(coded)
    succeed(folder, "decode", "photo.hvq", "-o", f"out{suffix}", *MODEL)
    with Image.open(folder / f"out{suffix}") as image:
        assert (image.format, image.size) == (name, (128, 96))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_photos_decode_to_jpeg_too(
    folder: Path, codec: Codec, crop: Pixels, mode: str
) -> None:
    image = Image.fromarray(crop).convert(mode)
    image.putalpha(100)
    (folder / "photo.hvq").write_bytes(codec.compress(image))
    succeed(folder, "decode", "photo.hvq", "-o", "out.jpg", *MODEL)
    with Image.open(folder / "out.jpg") as image:
        assert image.mode == mode.replace("A", "")


def test_info_says_what_a_file_holds(folder: Path, codec: Codec, coded: bytes) -> None:
    (folder / "photo.hvq").write_bytes(with_section(coded, 200, b"12345"))
    said = succeed(folder, "info", "photo.hvq")
    assert re.search(r"^size +128 x 96, rgb$", said, re.MULTILINE)
    assert re.search(rf"^bytes +{len(coded) + 7}, \d\.\d{{4}} bpp$", said, re.MULTILINE)
    assert re.search(rf"^model +{codec.model.fingerprint.hex()} \(", said, re.MULTILINE)
    assert re.search(r"^payload +\d+ bytes$", said, re.MULTILINE)
    assert re.search(r"^symbol crc +4 bytes$", said, re.MULTILINE)
    assert re.search(r"^section 200 +5 bytes$", said, re.MULTILINE)


def test_verbose_info_says_where_the_bits_went(folder: Path, codec: Codec, coded: bytes) -> None:
    (folder / "photo.hvq").write_bytes(coded)
    said = succeed(folder, "info", "photo.hvq", "--verbose", *MODEL)
    for part, amount in codec.inspect(coded).items():
        assert re.search(rf"^{part} +{amount:.0f}$", said, re.MULTILINE)


def test_existing_files_stay_unless_overwrite_is_given(folder: Path) -> None:
    (folder / "photo.hvq").write_bytes(b"precious")
    before = contents(folder)
    line = assert_one_error(hvq(folder, "encode", "photo.png", *MODEL), 1)
    assert "photo.hvq exists: pass --overwrite" in line
    assert contents(folder) == before
    succeed(folder, "encode", "photo.png", "--overwrite", *MODEL)
    assert (folder / "photo.hvq").read_bytes().startswith(SIGNATURE)

    before = contents(folder)
    assert_one_error(hvq(folder, "decode", "photo.hvq", *MODEL), 1)
    assert contents(folder) == before
    succeed(folder, "decode", "photo.hvq", "--overwrite", *MODEL)
    assert (folder / "photo.png").read_bytes() != before["photo.png"]


@pytest.mark.parametrize("command", ["encode", "decode"])
def test_the_input_is_never_overwritten(folder: Path, coded: bytes, command: str) -> None:
    (folder / "photo.hvq").write_bytes(coded)
    source = {"encode": "photo.png", "decode": "photo.hvq"}[command]
    (folder / "link").symlink_to(folder / source)
    for output in (source, "link"):
        result = hvq(folder, command, source, "-o", output, "--overwrite", *MODEL)
        assert "is the input itself" in assert_one_error(result, 1)
    assert (folder / "photo.hvq").read_bytes() == coded


@pytest.fixture
def full_folder(folder: Path, codec: Codec, crop: Pixels, coded: bytes) -> Path:
    """Inputs of every bad kind; out.hvq and out.png are there already."""
    frames = [Image.fromarray(crop), Image.fromarray(crop[::-1])]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    png, avif = (folder / "photo.png").read_bytes(), folder / "damaged.avif"
    frames[0].save(avif)
    avif.write_bytes(avif.read_bytes()[:81] + bytes(30) + avif.read_bytes()[111:])
    flipped = bytearray(coded)
    flipped[-20] ^= 1
    for name, content in {
        "text.png": b"not an image",
        "cut.png": png[: len(png) // 2],
        "good.hvq": coded,
        "cut.hvq": coded[:-1],
        "long.hvq": coded + b"\n",
        "flipped.hvq": bytes(flipped),
        "empty.hvq": b"",
        "newer.hvq": coded[:8] + b"\x02" + coded[9:],
        "out.hvq": b"precious",
        "out.png": b"precious",
    }.items():
        (folder / name).write_bytes(content)
    return folder


ENCODE = "encode photo.png -o out.hvq --overwrite"
DECODE = "-o out.png --overwrite"
BAD_CALLS = {
    "encode absent.png": (2, "'absent.png' does not exist"),
    "encode .": (2, "is a directory"),
    f"{ENCODE} --model MODEL --rate 0": (2, "positive number"),
    f"{ENCODE} --model MODEL --rate nan": (2, "positive number"),
    f"{ENCODE} --model MODEL --rate 0.01": (2, "the smallest file of this image has"),
    f"{ENCODE} --model MODEL --max-bytes 20": (2, "the smallest file of this image has"),
    f"{ENCODE} --model MODEL --rate much": (2, "not a valid float"),
    f"{ENCODE} --model MODEL --quality 101": (2, "between 0 and 100"),
    f"{ENCODE} --model MODEL --rate 0.1 --quality 9": (2, "give one of"),
    f"{ENCODE} --model MODEL --ratios 0.5,0.5": (2, "is not three numbers"),
    f"{ENCODE} --model MODEL --ratios 0.5,0.5,0.5": (2, "shares of 1"),
    f"{ENCODE} --model MODEL --ratios nan,0,1": (2, "shares of 1"),
    f"{ENCODE} --model nowhere": (1, "no model 'nowhere'"),
    f"{ENCODE} --model out.hvq": (1, "no model 'out.hvq'"),
    f"{ENCODE} --model MODEL --device nowhere": (None, "nowhere"),
    f"{ENCODE} --sharper": (2, "No such option"),
    "encode text.png -o out.hvq --overwrite --model MODEL": (1, "cannot be read as an image"),
    "encode cut.png -o out.hvq --overwrite --model MODEL": (1, "cannot be read as an image"),
    "encode moving.gif -o out.hvq --overwrite --model MODEL": (1, "animation"),
    "encode damaged.avif -o out.hvq --overwrite --model MODEL": (1, "cannot be read as an image"),
    "encode photo.png -o absent/out.hvq --model MODEL": (1, "No such file"),
    "encode photo.png -o .": (2, "is a directory"),
    f"decode cut.hvq {DECODE} --model MODEL": (1, "truncated"),
    f"decode long.hvq {DECODE} --model MODEL": (1, "trailing data"),
    f"decode empty.hvq {DECODE} --model MODEL": (1, "truncated"),
    f"decode newer.hvq {DECODE} --model MODEL": (1, "version 2"),
    f"decode flipped.hvq {DECODE} --model MODEL": (1, "the payload is damaged"),
    f"decode photo.png {DECODE} --model MODEL": (1, "not an .hvq file"),
    f"decode good.hvq {DECODE}": (1, "which is not in this package"),
    "decode good.hvq -o out.xyz --model MODEL": (2, "unknown image suffix '.xyz'"),
    "decode good.hvq -o out.psd --model MODEL": (2, "unknown image suffix '.psd'"),
    "decode good.hvq -o absent/out.png --model MODEL": (1, "No such file"),
    "info cut.hvq": (1, "truncated"),
    "info photo.png": (1, "not an .hvq file"),
    "info absent.hvq": (2, "does not exist"),
    "info flipped.hvq --verbose --model MODEL": (None, "the payload is damaged"),
    "sharpen photo.png": (2, "No such command"),
}


@pytest.mark.parametrize("call", BAD_CALLS)
def test_bad_calls_give_one_line_and_write_nothing(full_folder: Path, call: str) -> None:
    status, words = BAD_CALLS[call]
    before = contents(full_folder)
    result = hvq(full_folder, *call.replace("MODEL", str(TINY)).split())
    assert contents(full_folder) == before
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    if status is None:  # of the call or of the file: both have a point
        assert result.returncode in (1, 2)
        assert result.stderr.splitlines()[-1].startswith("Error: ")
    else:
        assert_one_error(result, status)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_to(folder: Path) -> None:
    folder.chmod(0o500)
    try:
        line = assert_one_error(hvq(folder, "encode", "photo.png", *MODEL), 1)
    finally:
        folder.chmod(0o700)
    assert "Permission denied" in line
    assert set(contents(folder)) == {"photo.png"}


def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "photo.hvq"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        cli.write_atomically(path, b"new")
    assert contents(tmp_path) == {"photo.hvq": b"old"}
    monkeypatch.undo()
    cli.write_atomically(path, b"new")
    assert contents(tmp_path) == {"photo.hvq": b"new"}


SPY = """
import sys
from hvqcodec.cli import main
try:
    main(sys.argv[1:])
except SystemExit as stop:
    status = stop.code
print(status, "torch" in sys.modules, "hvqcodec.cli" in sys.modules)
"""


@pytest.mark.parametrize(
    "call", ["--help", "--version", "encode --help", "info photo.hvq", "models list"]
)
def test_torch_is_loaded_only_to_code(folder: Path, coded: bytes, call: str) -> None:
    (folder / "photo.hvq").write_bytes(coded)
    result = start([sys.executable, "-c", SPY, *call.split()], folder)
    assert result.stdout.splitlines()[-1] == "0 False True", result.stderr


def test_version_and_help(tmp_path: Path) -> None:
    assert succeed(tmp_path, "--version") == f"hvq, version {hvqcodec.__version__}\n"
    for flag in ("--help", "-h"):
        said = succeed(tmp_path, flag)
        for command in ("encode", "decode", "info"):
            assert re.search(rf"^  {command} ", said, re.MULTILINE)


def test_models_info_and_path(tmp_path: Path) -> None:
    card = TINY.with_suffix(".json").read_text()
    assert succeed(tmp_path, "models", "info", str(TINY)) == card
    assert succeed(tmp_path, "models", "path", str(TINY)) == f"{TINY}\n"
    assert "nowhere" in assert_one_error(hvq(tmp_path, "models", "path", "nowhere"), 1)
