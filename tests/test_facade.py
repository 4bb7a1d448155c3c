"""The functions of the package, with the tiny model."""

import io
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import hvqcodec
from hvqcodec import (
    BitstreamError,
    Codec,
    FileError,
    HvqError,
    HvqWarning,
    ImageError,
    ModelError,
    RateError,
    UnknownFingerprintError,
    UnsupportedVersionError,
    compress,
    compress_file,
    decompress,
    decompress_file,
    facade,
)
from hvqcodec.bitstream import Bitstream
from hvqcodec.models.cards import card_of
from tests.helpers import CONTEXT, TINY, Pixels
from tests.test_files import contents


@pytest.fixture(scope="module")
def crop(astronaut: Pixels) -> Pixels:
    """(96, 128, 3)."""
    return astronaut[40:136, 160:288]


@pytest.fixture(scope="module")
def coded(codec: Codec, crop: Pixels) -> bytes:
    return codec.compress(crop)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crop: Pixels, coded: bytes) -> Path:
    """The current one, with photo.png and coded.hvq."""
    Image.fromarray(crop).save(tmp_path / "photo.png")
    (tmp_path / "coded.hvq").write_bytes(coded)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_names_are_there() -> None:
    for name in hvqcodec.__all__:
        assert getattr(hvqcodec, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        hvqcodec.nothing  # noqa: B018


def test_all_errors_are_of_one_family() -> None:
    errors = [getattr(hvqcodec, name) for name in hvqcodec.__all__ if name.endswith("Error")]
    assert len(errors) == 11
    assert all(issubclass(error, HvqError) for error in errors)
    assert issubclass(UnsupportedVersionError, BitstreamError)
    assert issubclass(UnknownFingerprintError, ModelError)
    assert not issubclass(hvqcodec.HvqWarning, HvqError)


def test_bytes_are_those_of_the_codec(codec: Codec, crop: Pixels, coded: bytes) -> None:
    assert compress(crop, model=TINY) == coded
    for choices in ({"bpp": 0.12}, {"quality": 90}, {"max_bytes": 165}, {"ratios": (1, 0, 0)}):
        data = compress(crop, model=str(TINY), **choices)  # type: ignore[arg-type]
        assert data == codec.compress(crop, **choices) != coded  # type: ignore[arg-type]
    fast = compress(crop, model=TINY, effort="fast", strip=True, bpp=0.12, strict_rate=True)
    assert fast == codec.compress(crop, effort="fast", bpp=0.12)


def test_results_are_of_the_kind_asked_for(codec: Codec, coded: bytes) -> None:
    image = decompress(coded, model=TINY)
    assert isinstance(image, Image.Image)
    assert image == codec.decompress(coded)
    array = decompress(coded, output="numpy", model=TINY)
    np.testing.assert_array_equal(array, np.asarray(image), strict=True)
    tensor = decompress(coded, output="torch", model=TINY)
    assert torch.equal(tensor, torch.from_numpy(array).permute(2, 0, 1))


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is loaded from now on."""
    names, load = list[str](), Codec.load

    def count(name: str, *, device: str) -> Codec:
        names.append(name)
        return load(name, device=device)

    monkeypatch.setattr(Codec, "load", count)
    return names


def test_a_model_is_loaded_once(tmp_path: Path, loaded: list[str], crop: Pixels) -> None:
    model = Path(shutil.copy(TINY, tmp_path))
    shutil.copy(TINY.with_suffix(".json"), tmp_path)
    data = compress(crop, model=model)
    assert compress(crop, model=str(model)) == data
    decompress(data, model=model)
    assert loaded == [str(model)]


def test_threads_that_come_first_share_a_model(loaded: list[str], crop: Pixels) -> None:
    facade._loaded.clear()
    with ThreadPoolExecutor(4) as pool:
        files = list(pool.map(lambda _: compress(crop, model=TINY), range(4)))
    assert len(set(files)) == 1
    assert loaded == [str(TINY)]


def test_a_path_means_what_lies_there_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crop: Pixels
) -> None:
    """From another folder, and after another model has taken its place."""
    for name, model in (("a", TINY), ("b", CONTEXT)):
        (tmp_path / name).mkdir()
        for suffix in (".safetensors", ".json"):
            shutil.copy(model.with_suffix(suffix), tmp_path / name / f"m{suffix}")
    found = []
    for folder in ("a", "b"):
        monkeypatch.chdir(tmp_path / folder)
        found.append(hvqcodec.probe(compress(crop, model="m.safetensors")).fingerprint)
    for suffix in (".safetensors", ".json"):
        shutil.copy(tmp_path / "a" / f"m{suffix}", tmp_path / "b")
    found.append(hvqcodec.probe(compress(crop, model="m.safetensors")).fingerprint)
    tiny, context = (card_of(model)["fingerprint"][:16] for model in (TINY, CONTEXT))
    assert found == [tiny, context, tiny]


def test_a_model_in_use_waits_for_no_other(crop: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    compress(crop, model=TINY)
    begun, go_on, load = threading.Event(), threading.Event(), Codec.load

    def slow(name: str, *, device: str) -> Codec:
        begun.set()
        assert go_on.wait(60)
        return load(name, device=device)

    monkeypatch.setattr(Codec, "load", slow)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(compress, crop, model=CONTEXT)
        assert begun.wait(60)
        data = compress(crop, model=TINY)
        go_on.set()
        assert other.result() != data


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no such call")
def test_a_child_of_a_process_that_loads_a_model_can_load_it(crop: Pixels) -> None:
    """In a process of its own: threads of torch do not outlive a fork either."""
    script = f"""
import os, threading, warnings
warnings.simplefilter("ignore")
import numpy as np, torch
import hvqcodec
from hvqcodec import Codec
torch.set_num_threads(1)
load, begun = Codec.load, threading.Event()
def slow(name, *, device):
    begun.set()
    threading.Event().wait()
Codec.load = slow
image = np.zeros((32, 32, 3), np.uint8)
compress = lambda: hvqcodec.compress(image, model={str(TINY)!r})
threading.Thread(target=compress, daemon=True).start()
begun.wait()
child = os.fork()
Codec.load = load
if child:
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
compress()
os._exit(7)
"""
    source = str(Path(hvqcodec.__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": source}
    done = subprocess.run([sys.executable, "-c", script], env=environment, timeout=120, check=False)
    assert done.returncode == 7


@pytest.mark.parametrize("image", [None, [1, 2], 7])
def test_what_can_be_no_image_is_a_type_error(image: object) -> None:
    with pytest.raises(TypeError, match="an image, its file or its bytes are wanted"):
        compress(image, model=TINY)  # type: ignore[arg-type]


def test_a_limit_is_a_number(crop: Pixels) -> None:
    with pytest.raises(TypeError, match="max_pixels must be a number, not None"):
        compress(crop, model=TINY, max_pixels=None)  # type: ignore[arg-type]


def test_from_file_to_file(folder: Path, codec: Codec, crop: Pixels) -> None:
    assert compress_file("photo.png", model=TINY, bpp=0.12) == Path("photo.hvq")
    data = (folder / "photo.hvq").read_bytes()
    assert data == codec.compress(crop, bpp=0.12)
    (folder / "photo.png").unlink()
    assert decompress_file(Path("photo.hvq"), model=TINY) == Path("photo.png")
    assert decompress_file("photo.hvq", "other.webp", model=TINY) == Path("other.webp")
    assert compress_file(folder / "photo.png", folder / "b.x", model=TINY) == folder / "b.x"
    assert set(contents(folder)) == {"photo.png", "coded.hvq", "photo.hvq", "other.webp", "b.x"}
    with Image.open("photo.png") as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        np.testing.assert_array_equal(image, codec.decompress(data))
    with Image.open("other.webp") as image:
        assert (image.format, image.size) == ("WEBP", (128, 96))


def test_metadata_goes_from_file_to_file(folder: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "a face"
    with Image.open("photo.png") as image:
        image.save("tagged.jpg", exif=exif)
    decompress_file(compress_file("tagged.jpg", model=TINY), "back.tif", model=TINY)
    with Image.open("back.tif") as image:
        assert image.getexif()[0x010E] == "a face"


def test_existing_files_stay_unless_overwrite_is_given(folder: Path) -> None:
    """Refused before any work: the model is not even looked for."""
    before = contents(folder)
    with pytest.raises(FileError, match=r"coded\.hvq exists: ask to overwrite"):
        compress_file("photo.png", "coded.hvq", model="nowhere")
    with pytest.raises(FileError, match=r"photo\.png exists: ask to overwrite"):
        decompress_file("coded.hvq", "photo.png", model="nowhere")
    for call in (compress_file, decompress_file):
        with pytest.raises(FileError, match="is the input itself"):
            call("photo.png", "photo.png", overwrite=True, model="nowhere")  # type: ignore[operator]
    assert contents(folder) == before
    compress_file("photo.png", "coded.hvq", model=TINY, quality=0, overwrite=True)
    decompress_file("coded.hvq", "photo.png", model=TINY, overwrite=True)
    after = contents(folder)
    assert all(after[name] != before[name] for name in before)


def other_fingerprint() -> bytes:
    stream = Bitstream.from_bytes(Path("coded.hvq").read_bytes())
    return replace(stream, fingerprint=bytes(8)).to_bytes()


def flipped() -> bytes:
    data = bytearray(Path("coded.hvq").read_bytes())
    data[len(data) // 2] ^= 1
    return bytes(data)


GREY = np.zeros((16, 16), np.uint8)
FAILURES: dict[str, tuple[Callable[[], object], type[HvqError], str]] = {
    "no photo": (lambda: compress("absent.png", model=TINY), ImageError, "absent.png: no such"),
    "no image": (lambda: compress(__file__, model=TINY), ImageError, "format is unknown"),
    "no image inside": (
        lambda: compress(io.BytesIO(b"text"), model=TINY),
        ImageError,
        "cannot be read as an image",
    ),
    "floats": (lambda: compress(GREY.astype(float), model=TINY), ImageError, "must be uint8"),
    "two rates": (lambda: compress(GREY, bpp=1, quality=1, model=TINY), RateError, "give one of"),
    "no rate": (lambda: compress(GREY, bpp=0, model=TINY), RateError, "a positive number"),
    "low rate": (lambda: compress(GREY, max_bytes=9, model=TINY), RateError, "ask for no less"),
    "high rate": (
        lambda: compress(GREY, bpp=64, strict_rate=True, model=TINY),
        RateError,
        "ask for no more",
    ),
    "no shares": (lambda: compress(GREY, ratios=(1, 1, 1), model=TINY), RateError, "shares of 1"),
    "two shares": (
        lambda: compress(GREY, ratios=(0.5, 0.5), model=TINY),  # type: ignore[arg-type]
        RateError,
        "shares of 1",
    ),
    "a destination of no name": (
        lambda: compress_file("photo.png", "a\0/b.hvq"),
        FileError,
        "names no file",
    ),
    "a file of no name": (lambda: hvqcodec.probe("a\0b"), FileError, "names no file"),
    "no name": (lambda: compress_file(""), FileError, "'' names no file"),
    "a device without numbers": (
        lambda: compress(GREY, model=TINY, device="meta"),
        ModelError,
        "cannot be used",
    ),
    "no model": (lambda: compress(GREY, model="nowhere"), ModelError, "one of these"),
    "no device": (lambda: compress(GREY, model=TINY, device="no"), ModelError, "cannot be used"),
    "no stream": (lambda: decompress(b"text" * 9, model=TINY), BitstreamError, "not an .hvq"),
    "other model": (
        lambda: decompress(other_fingerprint()),
        UnknownFingerprintError,
        "use the release",
    ),
    "wrong model": (
        lambda: decompress(other_fingerprint(), model=TINY),
        UnknownFingerprintError,
        "load the model that made it",
    ),
    "a damaged stream": (lambda: decompress(flipped(), model=TINY), BitstreamError, "damaged"),
    "no file": (lambda: decompress_file("absent.hvq"), FileError, "absent.hvq: No such file"),
    "no suffix": (lambda: decompress_file("coded.hvq", "out.xyz"), ImageError, "use one of .png"),
    "no folder": (lambda: compress_file("photo.png", "no/b.hvq"), FileError, "does not exist"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_failures_say_in_one_line_what_is_wrong(folder: Path, name: str) -> None:
    call, error, words = FAILURES[name]
    before = contents(folder)
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert contents(folder) == before


@pytest.mark.parametrize("name", ["max_pixels", "max_metadata_bytes"])
def test_limits_of_decoding_are_numbers(coded: bytes, name: str) -> None:
    with pytest.raises(TypeError, match=f"{name} must be a number"):
        decompress(coded, model=TINY, **{name: None})  # type: ignore[call-overload]


def test_a_suffix_says_what_is_written(folder: Path) -> None:
    with pytest.raises(TypeError, match="the suffix of the destination"):
        hvqcodec.decompress_file("coded.hvq", output="numpy", model=TINY)  # type: ignore[call-arg]


def test_unknown_words_are_the_callers_mistake(coded: bytes) -> None:
    with pytest.raises(
        ValueError, match=r"effort must be one of \('auto', 'fast', 'best', 'max'\)"
    ):
        compress(GREY, model=TINY, effort="much")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="output must be one of"):
        decompress(coded, model=TINY, output="jpeg")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="sharpness"):
        compress(GREY, model=TINY, sharpness=3)  # type: ignore[call-arg]


@pytest.mark.parametrize("given", ["coded.hvq", Path("coded.hvq"), None])
def test_paths_are_not_taken_for_bytes(folder: Path, given: object) -> None:
    with pytest.raises(TypeError, match=r"pass the bytes of an \.hvq file, not .*_file take paths"):
        decompress(given, model=TINY)  # type: ignore[call-overload]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_of_every_kind(folder: Path, coded: bytes, kind: Callable[[bytes], bytes]) -> None:
    photo = (folder / "photo.png").read_bytes()
    assert compress(kind(photo), model=TINY) == compress("photo.png", model=TINY)
    decoded = decompress(kind(coded), model=TINY, output="numpy")
    np.testing.assert_array_equal(decoded, decompress(coded, model=TINY, output="numpy"))
    assert hvqcodec.probe(kind(coded)) == hvqcodec.probe(coded)


def test_type_checkers_may_use_the_annotations() -> None:
    assert (Path(hvqcodec.__file__).parent / "py.typed").is_file()


def test_a_notice_names_the_line_that_asked(astronaut: Pixels) -> None:
    image = Image.fromarray(astronaut[:32, :48]).convert("1")
    with pytest.warns(HvqWarning, match="1 bit") as caught:
        hvqcodec.compress(image)
    assert [warning.filename for warning in caught] == [__file__]
