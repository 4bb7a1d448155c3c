"""`hvq` with the tiny model: real processes where one adds something, else calls in this one,
since a process takes seconds to import torch."""

import contextlib
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import zlib
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import hvqcodec
from hvqcodec import Codec, HvqWarning, cli, probe
from hvqcodec.bitstream import SIGNATURE, Bitstream, Section
from hvqcodec.models.cards import DEFAULT, list_models
from tests.helpers import TINY, Pixels, psnr, threads, with_section
from tests.test_files import contents

SCRIPT = Path(sys.executable).with_name("hvq")
COMMAND = (
    [str(SCRIPT)]
    if SCRIPT.exists()
    else [sys.executable, "-c", "from hvqcodec.cli import main; main(prog_name='hvq')"]
)
MODEL = ("--model", str(TINY))

Result = subprocess.CompletedProcess[bytes]


def environment() -> dict[str, str]:
    source = str(Path(hvqcodec.__file__).parents[1])
    path = os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def start(command: list[str], folder: Path, stdin: bytes = b"") -> Result:
    return subprocess.run(
        command, cwd=folder, env=environment(), input=stdin, capture_output=True, check=False
    )


def hvq(folder: Path, *arguments: str, stdin: bytes = b"") -> Result:
    """In a process of its own."""
    return start([*COMMAND, *arguments], folder, stdin)


def call(folder: Path, *arguments: str, stdin: bytes = b"") -> Result:
    """In this process."""
    streams = [io.TextIOWrapper(io.BytesIO(content), "utf-8") for content in (stdin, b"", b"")]
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(folder):
        for name, stream in zip(("stdin", "stdout", "stderr"), streams, strict=True):
            patch.setattr(sys, name, stream)
        with pytest.raises(SystemExit) as stop:
            cli.main(list(arguments), prog_name="hvq")
    assert isinstance(stop.value.code, int)
    for stream in streams[1:]:
        stream.flush()
    out, err = (stream.buffer.getvalue() for stream in streams[1:])  # type: ignore[attr-defined]
    return Result(arguments, stop.value.code, out, err)


def said(result: Result) -> str:
    """On standard output, with nothing amiss."""
    assert (result.returncode, result.stderr.decode()) == (0, "")
    return result.stdout.decode().replace("\r\n", "\n")


def succeed(folder: Path, *arguments: str) -> str:
    return said(hvq(folder, *arguments))


def error_line(result: Result, status: int) -> str:
    """The one line that is said, without its `Error: `."""
    lines = result.stderr.decode().splitlines()
    assert (result.returncode, len(lines), result.stdout) == (status, 1, b""), lines
    assert lines[0].startswith("Error: ")
    return lines[0][7:]


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


class Endless(bytes):
    """Declares that it is as long as a length can be."""

    def __len__(self) -> int:
        return 2**35 - 1


def lengthened(stream: Bitstream) -> bytes:
    sections = stream.sections | {Section.PAYLOAD: Endless(stream.payload)}
    return replace(stream, sections=sections).to_bytes()


@pytest.fixture(scope="module")
def inputs(crop: Pixels, coded: bytes) -> dict[str, bytes]:
    """Of every bad kind; out.hvq and out.png are outputs that are there already."""
    frames = [Image.fromarray(crop), Image.fromarray(crop[::-1])]
    gif, avif, buffer = io.BytesIO(), io.BytesIO(), io.BytesIO()
    frames[0].save(gif, "GIF", save_all=True, append_images=frames[1:])
    frames[0].save(avif, "AVIF")
    frames[0].save(buffer, "PNG")
    png = buffer.getvalue()
    header = b"IHDR" + (2**31 - 1).to_bytes(4, "big") * 2 + png[24:29]
    stream = Bitstream.from_bytes(coded)
    flipped = bytearray(coded)
    flipped[len(coded) // 2] ^= 1
    return {
        "text.png": b"not an image",
        "empty.png": b"",
        "cut.png": png[: len(png) // 2],
        "huge.png": png[:12] + header + zlib.crc32(header).to_bytes(4, "big") + png[33:],
        "moving.gif": gif.getvalue(),
        "damaged.avif": avif.getvalue()[:81] + bytes(30) + avif.getvalue()[111:],
        "good.hvq": coded,
        "cut.hvq": coded[:-1],
        "long.hvq": coded + b"\n",
        "flipped.hvq": bytes(flipped),
        "empty.hvq": b"",
        "newer.hvq": coded[:8] + b"\x02" + coded[9:],
        "unix.hvq": coded.replace(b"\r\n", b"\n", 1),
        "foreign.hvq": replace(stream, fingerprint=b"\xab" * 8).to_bytes(),
        "wide.hvq": replace(stream, width=2**31).to_bytes(),
        "large.hvq": replace(stream, width=2**24, height=2**24).to_bytes(),
        "lengths.hvq": lengthened(stream),
        "out.hvq": b"precious",
        "out.png": b"precious",
    }


@pytest.fixture
def full_folder(folder: Path, inputs: dict[str, bytes]) -> Path:
    for name, content in inputs.items():
        (folder / name).write_bytes(content)
    return folder


def test_there_and_back_in_two_processes(folder: Path, codec: Codec, crop: Pixels) -> None:
    """From file to file, and from standard input to standard output."""
    (folder / "photo.png").rename(folder / "my.photo.jpeg")
    line = succeed(folder, "encode", "my.photo.jpeg", *MODEL)
    data = (folder / "my.photo.hvq").read_bytes()
    assert data == codec.compress(crop)
    assert line == f"my.photo.hvq: {len(data)} bytes, {8 * len(data) / 96 / 128:.4f} bpp\n"
    result = hvq(folder, "decode", "-", *MODEL, stdin=data)
    assert (result.returncode, result.stderr) == (0, b"")
    assert set(contents(folder)) == {"my.photo.jpeg", "my.photo.hvq"}
    with Image.open(io.BytesIO(result.stdout)) as image:
        assert image.format == "PNG"
        back = np.asarray(image)
    assert np.abs(back.astype(int) - np.asarray(codec.decompress(data))).max() <= 1
    assert psnr(back, crop) > 14


def test_default_outputs(folder: Path, codec: Codec, coded: bytes) -> None:
    png = (folder / "photo.png").read_bytes()
    result = call(folder, "encode", "-", *MODEL, stdin=png)
    assert (result.returncode, result.stdout) == (0, coded)
    assert re.fullmatch(rf"-: {len(coded)} bytes, 0\.\d{{4}} bpp\n", result.stderr.decode())
    assert set(contents(folder)) == {"photo.png"}
    (folder / "other.hvq").write_bytes(coded)
    assert said(call(folder, "decode", "other.hvq", *MODEL)) == ""
    assert set(contents(folder)) == {"photo.png", "other.hvq", "other.png"}
    with Image.open(folder / "other.png") as image:
        np.testing.assert_array_equal(image, codec.decompress(coded))


def test_one_end_at_a_file(folder: Path, coded: bytes) -> None:
    png = (folder / "photo.png").read_bytes()
    result = call(folder, "encode", "photo.png", "-o", "-", "--json", *MODEL)
    assert (result.returncode, result.stdout) == (0, coded)
    assert json.loads(result.stderr) == {"output": "-"} | asdict(probe(coded))
    assert said(call(folder, "encode", "-", "-o", "a.hvq", *MODEL, stdin=png))
    assert (folder / "a.hvq").read_bytes() == coded
    assert said(call(folder, "decode", "-", "-o", "a.ppm", *MODEL, stdin=coded)) == ""
    assert (folder / "a.ppm").read_bytes().startswith(b"P6")
    assert call(folder, "decode", "a.hvq", "-o", "-", *MODEL).stdout.startswith(b"\x89PNG")
    info = said(call(folder, "info", "-", stdin=coded))
    assert info == said(call(folder, "info", "a.hvq"))
    # A file of that name is one.
    shutil.copy(folder / "photo.png", folder / "-")
    assert said(call(folder, "encode", "./-", "-o", "b.hvq", *MODEL, stdin=b""))
    assert (folder / "b.hvq").read_bytes() == coded
    result = call(folder, "encode", "photo.png", "-o", "./-", "--overwrite", *MODEL)
    assert said(result).endswith("bpp\n")
    assert (folder / "-").read_bytes() == coded


def test_the_report_as_json(folder: Path) -> None:
    report = json.loads(said(call(folder, "encode", "photo.png", "--json", *MODEL)))
    assert report == {"output": "photo.hvq"} | asdict(probe(folder / "photo.hvq"))


OPTIONS = {
    "--quality 90": {"quality": 90.0},
    "--rate 0.12": {"bpp": 0.12},
    "--rate 0.12 --strict-rate": {"bpp": 0.12},
    "--max-bytes 165": {"max_bytes": 165},
    "--allocation entropy --ratios 0.2,0.3,0.5": {"ratios": (0.2, 0.3, 0.5)},
    "--effort fast --rate 0.12": {"effort": "fast", "bpp": 0.12},
    "--strip": {"strip": True},
    "--tile 48 --bpp 0.12": {"tile": 48, "bpp": 0.12},
    "-q 30": {"quality": 30},
    "--allocation rd --effort auto --device cpu": {},
}


@pytest.mark.parametrize("options", OPTIONS)
def test_choices_reach_the_codec(folder: Path, codec: Codec, crop: Pixels, options: str) -> None:
    photo = Image.fromarray(crop)
    photo.save(folder / "photo.png", dpi=(300, 300))
    said(call(folder, "encode", "photo.png", *options.split(), *MODEL))
    data = (folder / "photo.hvq").read_bytes()
    with Image.open(folder / "photo.png") as image:
        assert data == codec.compress(image, **OPTIONS[options])  # type: ignore[arg-type]
        assert (data == codec.compress(image)) == (OPTIONS[options] == {})


def test_an_output_with_the_name_of_another_format_is_noticed(folder: Path) -> None:
    result = call(folder, "encode", "photo.png", "-o", "new.jpg", *MODEL)
    notice = "Notice: new.jpg is an .hvq file, whatever its name says\n"
    assert (result.returncode, result.stderr.decode()) == (0, notice)
    assert probe(folder / "new.jpg").width == 128
    result = call(folder, "encode", "photo.png", "-o", "new.jxl", *MODEL)
    assert result.stderr == b"Notice: new.jxl is an .hvq file, whatever its name says\n"


def test_threads(folder: Path) -> None:
    with threads(1):
        said(call(folder, "encode", "photo.png", "--threads", "3", *MODEL))
        assert torch.get_num_threads() == 3


def test_what_is_done_otherwise_is_noticed_in_one_line(folder: Path, codec: Codec) -> None:
    result = call(folder, "encode", "photo.png", "--rate", "9", *MODEL)
    bpp = f"{probe(folder / 'photo.hvq').bpp:.4g}"
    notice = f"Notice: this image cannot use more than {bpp} bpp: coded at that\n"
    assert (result.returncode, result.stderr.decode()) == (0, notice)
    assert result.stdout.startswith(b"photo.hvq: ")
    with pytest.warns(HvqWarning):
        assert codec.compress(folder / "photo.png", bpp=9) == (folder / "photo.hvq").read_bytes()

    clear = Image.open(folder / "photo.png").convert("RGBA")
    clear.putalpha(100)
    (folder / "clear.hvq").write_bytes(codec.compress(clear))
    result = call(folder, "decode", "clear.hvq", "-o", "clear.jpg", *MODEL)
    assert (result.returncode, result.stdout) == (0, b"")
    assert re.fullmatch(r"Notice: JPEG holds no transparency: .*\n", result.stderr.decode())
    with Image.open(folder / "clear.jpg") as image:
        assert image.mode == "RGB"


@pytest.mark.parametrize(
    ("suffix", "name"), [(".webp", "WEBP"), (".JPG", "JPEG"), (".tif", "TIFF"), (".ppm", "PPM")]
)
def test_the_suffix_decides_the_format(folder: Path, coded: bytes, suffix: str, name: str) -> None:
    (folder / "photo.hvq").write_bytes(coded)
    assert said(call(folder, "decode", "photo.hvq", "-o", f"out{suffix}", *MODEL)) == ""
    with Image.open(folder / f"out{suffix}") as image:
        assert (image.format, image.size) == (name, (128, 96))


def test_info_says_what_a_file_holds(folder: Path, codec: Codec, coded: bytes) -> None:
    data = with_section(coded, 200, b"12345")
    (folder / "photo.hvq").write_bytes(data)
    lines = said(call(folder, "info", "photo.hvq"))
    fingerprint = codec.model.fingerprint.hex()
    for pattern in (
        r"size +128 x 96, RGB",
        rf"bytes +{len(data)}, \d\.\d{{4}} bpp",
        r"format +version 1",
        rf"model +{fingerprint} \(not inside this package\)",
        r"payload +\d+ bytes",
        r"symbol crc +4 bytes",
        r"section 200 +5 bytes",
    ):
        assert re.search(f"^{pattern}$", lines, re.MULTILINE), pattern
    assert json.loads(said(call(folder, "info", "photo.hvq", "--json"))) == asdict(probe(data))


def test_verbose_info_says_where_the_bits_go(folder: Path, codec: Codec, coded: bytes) -> None:
    (folder / "photo.hvq").write_bytes(coded)
    budget = codec.inspect(coded)
    lines = said(call(folder, "info", "photo.hvq", "--verbose", *MODEL))
    static = budget["static_bits"]
    assert re.search(
        rf"^static bits +{static:.0f} +that the same indices take", lines, re.MULTILINE
    )
    for part, amount in budget.items():
        if part == "static_bits":
            continue
        share = amount / len(coded) / (1 if part.endswith("bytes") else 8)
        name = part.replace("_", " ")
        found = re.search(rf"^{name} +{amount:.0f} +([\d.]+)% of the file$", lines, re.MULTILINE)
        assert found is not None, part
        assert float(found[1]) == pytest.approx(100 * share, abs=0.06)
    as_json = said(call(folder, "info", "photo.hvq", "--verbose", "--json", *MODEL))
    assert json.loads(as_json) == asdict(probe(coded)) | {"budget": budget}


def test_existing_files_stay_unless_overwrite_is_given(folder: Path) -> None:
    (folder / "photo.hvq").write_bytes(b"precious")
    before = contents(folder)
    line = error_line(call(folder, "encode", "photo.png", *MODEL), 1)
    assert line.startswith("photo.hvq exists: ask to overwrite it")
    assert contents(folder) == before
    said(call(folder, "encode", "photo.png", "--overwrite", *MODEL))
    assert (folder / "photo.hvq").read_bytes().startswith(SIGNATURE)

    before = contents(folder)
    line = error_line(call(folder, "decode", "photo.hvq", *MODEL), 1)
    assert line.startswith("photo.png exists: ask to overwrite it")
    assert contents(folder) == before
    said(call(folder, "decode", "photo.hvq", "--overwrite", *MODEL))
    assert (folder / "photo.png").read_bytes() != before["photo.png"]


def test_the_input_is_never_overwritten(folder: Path, coded: bytes) -> None:
    (folder / "stream.png").write_bytes(coded)
    for command, source in (("encode", "photo.png"), ("decode", "stream.png")):
        (folder / "link.png").unlink(missing_ok=True)
        (folder / "link.png").symlink_to(folder / source)
        before = contents(folder)
        for output in (source, "link.png"):
            result = call(folder, command, source, "-o", output, "--overwrite", *MODEL)
            assert "is the input itself" in error_line(result, 1)
            assert contents(folder) == before


ENCODE = "encode photo.png -o out.hvq --overwrite --model TINY"
BAD_CALLS = {
    "": (2, "Missing command"),
    "sharpen photo.png": (2, "No such command 'sharpen'"),
    "models": (2, "Missing command"),
    "models path nowhere": (1, "no model 'nowhere'"),
    "models info nowhere": (1, "no model 'nowhere'"),
    "models download hub:nothing": (1, "write hub:organisation/name"),
    "completion tcsh": (2, "'tcsh' is not one of"),
    "encode": (2, "Missing argument 'PHOTO'"),
    "encode absent.png": (2, "'absent.png' does not exist"),
    "encode .": (2, "is a directory"),
    "encode good.hvq --model TINY": (2, "good.hvq is encoded already"),
    "decode photo.png --model TINY": (1, "photo.png: not an .hvq file"),
    f"{ENCODE} --sharper": (2, "No such option"),
    "encode photo.png -o new/ --model TINY": (2, "new/ names a folder: give the name of a file"),
    "decode good.hvq -o new/ --model TINY": (2, "new/ names a folder: give the name of a file"),
    f"{ENCODE} --rate 0": (2, "bpp (--rate) must be a positive number"),
    f"{ENCODE} --rate -0.1": (2, "bpp (--rate) must be a positive number"),
    f"{ENCODE} --rate nan": (2, "bpp (--rate) must be a positive number"),
    f"{ENCODE} --rate inf": (2, "bpp (--rate) must be a positive number"),
    f"{ENCODE} --rate much": (2, "not a valid float"),
    f"{ENCODE} --rate 0.01": (2, "the smallest file of this image takes 0."),
    f"{ENCODE} --rate 9 --strict-rate": (2, "this image cannot use more than 0."),
    f"{ENCODE} --rate 1e308 --strict-rate": (2, "this image cannot use more than 0."),
    f"{ENCODE} --max-bytes 20": (2, "the smallest file of this image takes 1"),
    f"{ENCODE} --max-bytes 0": (2, "max_bytes (--max-bytes) must be a positive number"),
    f"{ENCODE} --max-pixels 99": (1, "more than the limit of 99"),
    f"{ENCODE} --tile 3": (2, "3 is not in the range x>=16"),
    f"{ENCODE} --max-bytes -5": (2, "max_bytes (--max-bytes) must be a positive number"),
    f"{ENCODE} --max-bytes 9.5": (2, "not a valid integer"),
    f"{ENCODE} --quality 101": (2, "between 0 and 100"),
    f"{ENCODE} --quality nan": (2, "between 0 and 100"),
    f"{ENCODE} --rate 0.1 --quality 9": (2, "give one of"),
    f"{ENCODE} --rate 0.1 --max-bytes 900": (2, "give one of"),
    f"{ENCODE} --allocation entropy --ratios 1,0,0 --rate 1": (2, "give one of"),
    f"{ENCODE} --allocation entropy": (2, "go together"),
    f"{ENCODE} --ratios 1,0,0": (2, "go together"),
    f"{ENCODE} --allocation entropy --ratios 0.5,0.5": (2, "is not three numbers"),
    f"{ENCODE} --allocation entropy --ratios 0.5,0.5,0.5": (2, "shares of 1"),
    f"{ENCODE} --allocation entropy --ratios nan,0,1": (2, "shares of 1"),
    f"{ENCODE} --effort much": (2, "'much' is not one of"),
    f"{ENCODE} --threads 0": (2, "1<=x<=1024"),
    f"{ENCODE} --threads 99999999999": (2, "1<=x<=1024"),
    "batch photo.png -o new --rate -1": (2, "bpp (--rate) must be a positive number"),
    "batch photo.png -o new --rate 1 --quality 3": (2, "give one of"),
    "batch photo.png -o new --allocation entropy --ratios 1,1,1": (2, "shares of 1"),
    "eval photo.png newer.hvq": (
        1,
        "newer.hvq: cannot be read as an image (the file has format version 2",
    ),
    f"{ENCODE} --device nowhere": (1, "the device 'nowhere' cannot be used"),
    f"{ENCODE} --model nowhere": (1, "no model 'nowhere': give the path"),
    f"{ENCODE} --model out.hvq": (1, "no model 'out.hvq'"),
    "encode text.png -o out.hvq --overwrite --model TINY": (1, "text.png: cannot be read as an"),
    "encode empty.png -o out.hvq --overwrite --model TINY": (1, "empty.png: cannot be read as an"),
    "encode cut.png -o out.hvq --overwrite --model TINY": (1, "cut.png: cannot be read as an"),
    "encode huge.png -o out.hvq --overwrite --model TINY": (1, "more than the limit of 256000000"),
    "encode moving.gif -o out.hvq --overwrite --model TINY": (1, "animation"),
    "encode damaged.avif -o out.hvq --overwrite --model TINY": (1, "cannot be read as an image"),
    "encode photo.png -o absent/out.hvq --model TINY": (1, "the folder absent does not exist"),
    "encode photo.png -o .": (2, "is a directory"),
    "decode good.hvq -o new.png --model TINY --max-pixels 99": (1, "more than the limit of 99"),
    "decode good.hvq -o new.png --max-metadata-bytes -1": (2, "x>=0"),
    "info good.hvq --verbose --model TINY --max-pixels 99": (1, "more than the limit of 99"),
    "decode cut.hvq -o new.png --model TINY": (1, "truncated"),
    "decode cut.hvq -o out.png --overwrite --model TINY": (1, "truncated"),
    "decode long.hvq -o new.png --model TINY": (1, "trailing data"),
    "decode empty.hvq -o new.png --model TINY": (1, "truncated"),
    "decode newer.hvq -o new.png --model TINY": (1, "version 2"),
    "decode flipped.hvq -o new.png --model TINY": (1, "the payload is damaged"),
    "decode flipped.hvq -o - --model TINY": (1, "the payload is damaged"),
    "decode photo.png -o new.png --model TINY": (1, "not an .hvq file"),
    "decode unix.hvq -o new.png --model TINY": (1, "not an .hvq file"),
    "decode wide.hvq -o new.png --model TINY": (1, "a size out of bounds: 2147483648x96"),
    "decode large.hvq -o new.png --model TINY": (1, "pixels"),
    "decode lengths.hvq -o new.png --model TINY": (1, "truncated"),
    "decode foreign.hvq -o new.png --model TINY": (1, "load the model that made it"),
    "decode foreign.hvq -o new.png": (1, f"fingerprint {'ab' * 8}, which is not in this package"),
    "decode good.hvq -o out.xyz --model TINY": (2, "unknown image suffix '.xyz'"),
    "decode good.hvq -o out.psd --model TINY": (2, "unknown image suffix '.psd'"),
    "decode good.hvq -o absent/out.png --model TINY": (1, "the folder absent does not exist"),
    "info cut.hvq": (1, "truncated"),
    "info photo.png": (1, "not an .hvq file"),
    "info wide.hvq --json": (1, "out of bounds"),
    "info lengths.hvq": (1, "truncated"),
    "info absent.hvq": (2, "does not exist"),
    "info flipped.hvq --verbose --model TINY": (1, "the payload is damaged"),
}


@pytest.mark.parametrize("arguments", BAD_CALLS)
def test_bad_calls_give_one_line_and_write_nothing(full_folder: Path, arguments: str) -> None:
    status, words = BAD_CALLS[arguments]
    before = contents(full_folder)
    result = call(full_folder, *arguments.replace("TINY", str(TINY)).split())
    assert words in error_line(result, status)
    assert contents(full_folder) == before


@pytest.mark.parametrize(
    ("command", "name", "words"),
    [
        ("encode", "text.png", "cannot be read as an image"),
        ("encode", "empty.png", "cannot be read as an image"),
        ("encode", "cut.png", "cannot be read as an image"),
        ("encode", "huge.png", "more than the limit"),
        ("decode", "empty.hvq", "truncated"),
        ("decode", "cut.hvq", "truncated"),
        ("decode", "flipped.hvq", "the payload is damaged"),
        ("decode", "photo.png", "not an .hvq file"),
    ],
)
def test_bad_input_through_standard_input(
    full_folder: Path, command: str, name: str, words: str
) -> None:
    data, before = (full_folder / name).read_bytes(), contents(full_folder)
    for output in ("-", "new.png"):
        result = call(full_folder, command, "-", "-o", output, *MODEL, stdin=data)
        assert words in error_line(result, 1)
        assert contents(full_folder) == before


def test_errors_of_a_process_of_its_own(full_folder: Path) -> None:
    before = contents(full_folder)
    line = error_line(hvq(full_folder, "decode", "-", *MODEL, stdin=before["cut.hvq"]), 1)
    assert line.startswith("standard input: the file is truncated: get the file again")
    line = error_line(hvq(full_folder, "encode", "photo.png", "--sharper"), 2)
    assert re.fullmatch(r"No such option.* \(hvq encode --help says more\)", line)
    assert contents(full_folder) == before


def unwritable(folder: Path) -> Iterator[Path]:
    if os.name == "posix" and os.geteuid() != 0:
        folder.chmod(0o500)
        yield folder
        folder.chmod(0o700)
    elif Path("/proc").is_dir():  # Not even root may write there.
        yield Path("/proc")


def test_a_folder_that_cannot_be_written_to(folder: Path, coded: bytes) -> None:
    (folder / "photo.hvq").write_bytes(coded)
    for place in unwritable(folder):
        for command, name, new in (
            ("encode", "photo.png", "new.hvq"),
            ("decode", "photo.hvq", "new.png"),
        ):
            output = str(place / new)
            line = error_line(call(folder, command, name, "-o", output, *MODEL), 1)
            assert line.startswith(f"{output}: ")
    assert set(contents(folder)) == {"photo.png", "photo.hvq"}


@pytest.mark.skipif(sys.platform != "linux", reason="needs names that are no Unicode")
def test_names_that_are_no_unicode(folder: Path) -> None:
    name = os.fsdecode(b"\xff.hvq")
    assert said(call(folder, "encode", "photo.png", "-o", name, *MODEL)).startswith("\ufffd.hvq: ")
    assert (folder / name).exists()


@pytest.mark.skipif(os.name != "posix", reason="no such signal")
def test_an_interrupted_process_says_so_and_leaves_nothing(folder: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "encode", "-", "-o", "out.hvq", *MODEL],
        cwd=folder,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Background jobs of a shell ignore the signal, and so would their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    ) as process:
        assert process.stdin is not None
        process.stdin.write(bytes(1 << 20))  # More than a pipe holds: now it is reading.
        process.send_signal(signal.SIGINT)
        # The end of the input wakes it if the signal came between two reads.
        assert process.communicate() == (b"", b"Error: interrupted\n")
    assert process.returncode == 130
    assert set(contents(folder)) == {"photo.png"}


@pytest.mark.parametrize("moment", ["compress", "fsync"])
def test_interrupted_while_it_codes_or_writes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr({"compress": Codec, "fsync": os}[moment], moment, interrupt)
    assert error_line(call(folder, "encode", "photo.png", *MODEL), 130) == "interrupted"
    assert set(contents(folder)) == {"photo.png"}


SPY = """
import sys
from hvqcodec.cli import main
for call in sys.argv[1:]:
    try:
        main(call.split(), prog_name="hvq")
    except SystemExit as stop:
        assert stop.code == 0, call
    assert "torch" not in sys.modules, call
"""


def test_torch_is_loaded_only_to_code(folder: Path, coded: bytes) -> None:
    (folder / "photo.hvq").write_bytes(coded)
    calls = ["--help", "--version", "encode --help", "info photo.hvq", "info photo.hvq --json"]
    calls += ["models list", "models list --json", f"models info {TINY}", f"models path {TINY}"]
    calls += ["completion bash", "completion zsh", "completion fish"]
    result = start([sys.executable, "-c", SPY, *calls], folder)
    assert result.returncode == 0, result.stderr.decode()


def test_version_and_help(tmp_path: Path) -> None:
    version = f"hvq, version {hvqcodec.__version__}\n"
    assert succeed(tmp_path, "--version") == version
    module = start([sys.executable, "-m", "hvqcodec", "--version"], tmp_path)
    assert (module.returncode, module.stdout.decode()) == (0, version)
    for flag in ("--help", "-h"):
        lines = said(call(tmp_path, flag))
        for command in ("encode", "decode", "info", "models", "completion"):
            assert re.search(rf"^  {command} ", lines, re.MULTILINE)
    for option in ("--rate", "--max-bytes", "--quality", "--effort", "--strip", "--json"):
        assert option in said(call(tmp_path, "encode", "--help"))


def test_models_info_and_path(tmp_path: Path) -> None:
    card = TINY.with_suffix(".json").read_text()
    assert said(call(tmp_path, "models", "info", str(TINY))) == card
    assert said(call(tmp_path, "models", "path", str(TINY))) == f"{TINY}\n"


def test_models_list(tmp_path: Path) -> None:
    assert said(call(tmp_path, "models", "list")).split() == list_models()
    cards = json.loads(said(call(tmp_path, "models", "list", "--json")))
    assert list(cards) == list_models()
    assert all(len(card["fingerprint"]) == 64 for card in cards.values())


def complete(folder: Path, words: str) -> list[str]:
    """What the last word can become."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("_HVQ_COMPLETE", "bash_complete")
        patch.setenv("COMP_WORDS", words)
        patch.setenv("COMP_CWORD", str(len(words.split()) - (not words.endswith(" "))))
        return said(
            call(
                folder,
            )
        ).split()


def test_words_are_completed(tmp_path: Path) -> None:
    assert complete(tmp_path, "hvq enc") == ["plain,encode"]
    assert complete(tmp_path, "hvq models ") == [
        f"plain,{name}" for name in ("download", "info", "list", "path")
    ]
    assert complete(tmp_path, "hvq encode --max-b") == ["plain,--max-bytes"]
    assert complete(tmp_path, "hvq encode --effort b") == ["plain,best"]
    assert complete(tmp_path, "hvq decode --model ./my") == ["file,./my"]
    if DEFAULT in list_models():
        names = [f"plain,{name}" for name in list_models()]
        assert complete(tmp_path, f"hvq models info {DEFAULT[:2]}") == names


COMPLETE = """
eval "$(hvq completion bash)"
COMP_WORDS=(hvq deco) COMP_CWORD=1
_hvq_completion hvq
echo "${COMPREPLY[@]}"
complete -p hvq
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes(tmp_path: Path) -> None:
    (tmp_path / "hvq").write_text(f'#!/bin/sh\nexec {shlex.join(COMMAND)} "$@"\n')
    (tmp_path / "hvq").chmod(0o755)
    script = f'PATH="{tmp_path}:$PATH"{COMPLETE}'
    lines = said(start(["bash", "--norc", "-c", script], tmp_path)).splitlines()
    assert lines[0] == "decode"
    assert lines[1].endswith("-F _hvq_completion hvq")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_scripts_of_other_shells(tmp_path: Path, shell: str) -> None:
    assert f"_HVQ_COMPLETE={shell}_complete" in said(call(tmp_path, "completion", shell))


@pytest.mark.parametrize(("descriptor", "words"), [(0, "standard input"), (1, "standard output")])
@pytest.mark.skipif(os.name != "posix", reason="no such descriptors")
def test_closed_streams_are_named(folder: Path, descriptor: int, words: str) -> None:
    photo, output = ("-", "out.hvq") if descriptor == 0 else ("photo.png", "-")
    redirection = "<&-" if descriptor == 0 else ">&-"
    before = contents(folder)
    found = subprocess.run(
        ["sh", "-c", f'"$@" {redirection}', "sh", *COMMAND, "encode", photo, "-o", output, *MODEL],
        cwd=folder,
        env=environment(),
        stderr=subprocess.PIPE,
        check=False,
    )
    assert (found.returncode, found.stderr) == (1, f"Error: {words} is closed\n".encode())
    assert contents(folder) == before


@pytest.mark.skipif(os.name != "posix", reason="closes a stream as shells do")
def test_nobody_to_complain_to_is_no_fault(folder: Path) -> None:
    words = ["sh", "-c", '"$@" 2>&-', "sh", *COMMAND, "encode", "photo.png", *MODEL]
    subprocess.run(words, cwd=folder, env=environment(), check=True)
    assert probe(folder / "photo.hvq").width


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't allocate memory")])
def test_too_little_memory_is_said_in_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def exhaust(*_: object, **__: object) -> bytes:
        raise error

    monkeypatch.setattr(Codec, "compress", exhaust)
    before = contents(folder)
    result = call(folder, "encode", "photo.png", "-o", "out.hvq", *MODEL)
    assert "not enough memory" in error_line(result, 1)
    assert contents(folder) == before


@pytest.mark.skipif(sys.platform != "linux", reason="needs names that are no Unicode")
def test_compare_takes_names_that_are_no_unicode(folder: Path) -> None:
    name = os.fsdecode(b"bad\xff.png")
    (folder / "photo.png").rename(folder / name)
    result = call(folder, "compare", name, "-o", "report.html", "--rates", "0.9", *MODEL)
    assert result.returncode == 0
    assert "bad\ufffd.png" in (folder / "report.html").read_text("utf-8")


def test_only_one_photo_comes_from_standard_input(tmp_path: Path) -> None:
    result = call(tmp_path, "eval", "-", "-", stdin=b"one")
    assert result.returncode == 2
    assert b"only one of the two can come from standard input" in result.stderr


def test_threads_wait_without_spinning_unless_said_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    call(tmp_path, "models", "list")
    assert os.environ["GOMP_SPINCOUNT"] == "7"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    call(tmp_path, "models", "list")
    assert os.environ["GOMP_SPINCOUNT"] == "1000"
