"""`import hvqcodec.pillow`: what Pillow, and what is built on it, does with `.hvq` files."""

import io
import pickle
import subprocess
import sys
import zlib
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageFile, ImageSequence, UnidentifiedImageError
from torch.utils.data import DataLoader, Dataset

import hvqcodec
import hvqcodec.pillow
from hvqcodec import Codec
from hvqcodec.bitstream import (
    FINGERPRINT_BYTES,
    MAX_HEADER_BYTES,
    SIGNATURE,
    VERSION,
    Mode,
    Section,
    varint,
)
from hvqcodec.metadata import Metadata
from hvqcodec.models.cards import DEFAULT, list_models
from tests.helpers import Pixels, psnr, with_section
from tests.samples import XMP, linear_grey_profile, swapped_profile
from tests.test_cli import environment
from tests.test_image import bare_png

pytestmark = pytest.mark.skipif(DEFAULT not in list_models(), reason="no model is embedded")

PREFIX = 16
"""Bytes that Pillow itself reads to find out the format."""


@pytest.fixture(scope="module")
def crop(astronaut: Pixels) -> Image.Image:
    """96 x 64 pixels."""
    return Image.fromarray(astronaut[60:124, 180:276])


@pytest.fixture(scope="module")
def rich(crop: Image.Image) -> bytes:
    """A file with every kind of metadata."""
    image, exif = crop.copy(), Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Artist] = "somebody"
    Metadata(swapped_profile(), exif.tobytes(), XMP, (300.0, 150.5)).attach_to(image)
    return hvqcodec.compress(image)


class Counting(io.BytesIO):
    """Counts what is read of it."""

    bytes_read = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.bytes_read += len(data)
        return data


def test_open_reads_header_and_metadata_alone(rich: bytes) -> None:
    file = Counting(rich)
    payload = hvqcodec.probe(rich).sections["payload"]
    with Image.open(file) as image:
        assert (image.format, image.size, image.mode) == ("HVQ", (96, 64), "RGB")
        assert image.getexif()[ExifTags.Base.Artist] == "somebody"
        assert image.info["icc_profile"] == swapped_profile()
        assert image.info["xmp"] == XMP
        assert image.info["dpi"] == (300, 150.5)
        assert file.bytes_read <= PREFIX + MAX_HEADER_BYTES + len(rich) - payload
        assert image.get_format_mimetype() == "image/x-hvq"
        image.load()
    assert file.bytes_read >= len(rich)


def test_opening_needs_no_torch(tmp_path: Path, rich: bytes) -> None:
    path = tmp_path / "photo.hvq"
    path.write_bytes(rich)
    script = (
        "import sys, hvqcodec.pillow; from PIL import Image; "
        "print(Image.open('photo.hvq').size, 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", script]
    said = subprocess.check_output(command, cwd=tmp_path, env=environment(), text=True)
    assert said.split("\n")[0] == "(96, 64) False"


def test_a_length_that_a_file_only_claims_takes_no_memory() -> None:
    lengths = {Section.SYMBOL_CRC: 4, Section.PAYLOAD: 4, Section.EXIF: 2**35 - 1}
    header = SIGNATURE + bytes([VERSION]) + bytes(FINGERPRINT_BYTES)
    header += b"".join(map(varint, (96, 64, Mode.RGB, len(lengths))))
    header += b"".join(bytes([kind]) + varint(length) for kind, length in lengths.items())
    header += zlib.crc32(header).to_bytes(4, "little")
    with pytest.raises(UnidentifiedImageError):
        Image.open(io.BytesIO(header))


def test_a_file_that_comes_in_pieces(rich: bytes) -> None:
    parser = ImageFile.Parser()
    for start in range(0, len(rich), 100):
        parser.feed(rich[start : start + 100])
    np.testing.assert_array_equal(np.asarray(parser.close()), np.asarray(hvqcodec.decompress(rich)))


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_pixels_are_those_of_decompress(crop: Image.Image, mode: str) -> None:
    file = io.BytesIO()
    crop.convert(mode).save(file, "HVQ")
    expected = hvqcodec.decompress(file.getvalue())
    with Image.open(file) as image:
        assert image.mode == mode == expected.mode
        assert image.copy().tobytes() == expected.tobytes()


def test_pillows_own_operations(tmp_path: Path, crop: Image.Image) -> None:
    path = tmp_path / "photo.hvq"
    crop.save(path, quality=60)
    image = Image.open(path)
    assert image.crop((8, 8, 40, 24)).size == (32, 16)
    pixels = np.asarray(image)
    assert psnr(pixels, np.asarray(crop)) > 20
    np.testing.assert_array_equal(np.asarray(pickle.loads(pickle.dumps(image))), pixels)
    image.thumbnail((24, 24))
    assert image.size == (24, 16)
    path.unlink()  # nobody holds it any more, which Windows would mind
    assert image.convert("L").mode == "L"


def test_save_passes_options_on(tmp_path: Path, crop: Image.Image) -> None:
    def size(**options: object) -> int:
        crop.save(tmp_path / "photo.hvq", **options)
        return (tmp_path / "photo.hvq").stat().st_size

    assert size() == len(hvqcodec.compress(crop))
    assert size(quality=90) == len(hvqcodec.compress(crop, quality=90)) > size(quality=10)
    assert abs(size(bpp=0.3) - 0.3 * 96 * 64 / 8) <= 16
    assert size(max_bytes=200) <= 200
    assert size(optimize=True, progressive=True) == size()


@pytest.mark.parametrize("name", ["PNG", "TIFF", "JPEG"])
def test_metadata_of_an_opened_file_goes_along(crop: Image.Image, name: str) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "somebody"
    source, target = io.BytesIO(), io.BytesIO()
    crop.save(source, name, exif=exif, icc_profile=swapped_profile(), dpi=(72, 72))
    with Image.open(source) as image:
        image.save(target, "HVQ")
    with Image.open(target) as image:
        assert image.getexif()[ExifTags.Base.Artist] == "somebody"
        assert image.info["icc_profile"] == swapped_profile()
        assert image.info["dpi"] == pytest.approx((72, 72), abs=0.1)


def test_options_replace_metadata(rich: bytes) -> None:
    exif, file = Image.Exif(), io.BytesIO()
    exif[ExifTags.Base.Artist] = "somebody else"
    options = {"exif": exif, "icc_profile": None, "xmp": b"<x/>", "dpi": (96, 96)}
    with Image.open(io.BytesIO(rich)) as image:
        image.save(file, "HVQ", **options)
    with Image.open(file) as image:
        assert dict(image.getexif()) == {ExifTags.Base.Artist: "somebody else"}
        assert "icc_profile" not in image.info
        assert (image.info["xmp"], image.info["dpi"]) == (b"<x/>", (96, 96))


def test_palette_with_transparency(crop: Image.Image) -> None:
    palette = crop.quantize(16)
    file = io.BytesIO()
    palette.save(file, "PNG", transparency=0)
    with Image.open(file) as image:
        expected = hvqcodec.compress(image)
        again = io.BytesIO()
        image.save(again, "HVQ")
    assert again.getvalue() == expected
    assert hvqcodec.probe(expected).mode == "RGBA"


def test_transparent_grey_of_few_bits() -> None:
    """Pillow loads an image before it has it saved."""
    samples = np.arange(16, dtype=np.uint8).repeat(16)[None].repeat(16, 0)
    packed = samples[:, ::2] << 4 | samples[:, 1::2]
    png = bare_png(packed, 256, 4, 0, (b"tRNS", b"\0\3"))
    with Image.open(png) as image:
        target = io.BytesIO()
        image.save(target, "HVQ")
        expected = hvqcodec.compress(png.getvalue())
    assert target.getvalue() == expected
    alpha = np.asarray(Image.open(target).getchannel("A"))
    np.testing.assert_array_equal(alpha, np.where(samples == 3, 0, 255))


@pytest.mark.parametrize("size", [(70_000, 1), (1, 70_000)])
def test_thin_images_are_opened(size: tuple[int, int]) -> None:
    data = hvqcodec.compress(Image.new("RGB", size, "teal"), effort="fast", quality=0)
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(np.asarray(image), hvqcodec.decompress(data, output="numpy"))


def test_the_present_frame_of_an_animation_is_saved(crop: Image.Image) -> None:
    file, second = io.BytesIO(), crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    crop.save(file, "WEBP", save_all=True, append_images=[second], lossless=True)
    with Image.open(file) as animation:
        decoded = []
        for frame in ImageSequence.Iterator(animation):
            target = io.BytesIO()
            frame.save(target, "HVQ", quality=90)
            decoded.append(np.asarray(Image.open(target).convert("RGB")))
    for pixels, original in zip(decoded, (crop, second), strict=True):
        assert psnr(pixels, np.asarray(original)) > 20


def test_grey_profile(crop: Image.Image) -> None:
    file = io.BytesIO()
    crop.convert("L").save(file, "HVQ", icc_profile=linear_grey_profile())
    with Image.open(file) as image:
        assert image.info["icc_profile"] == linear_grey_profile()


class TestDamage:
    def test_header(self, rich: bytes) -> None:
        for data in (rich[:20], SIGNATURE + bytes(400), rich[:8] + b"\x09" + rich[9:]):
            with pytest.raises(UnidentifiedImageError):
                Image.open(io.BytesIO(data))

    def test_the_reason_is_given(self, rich: bytes) -> None:
        with pytest.raises(UnidentifiedImageError, match="version 9"):
            Image.open(io.BytesIO(rich[:8] + b"\x09" + rich[9:]))

    def test_a_truncated_payload_shows_when_it_is_read(self, crop: Image.Image) -> None:
        data = hvqcodec.compress(crop)
        with Image.open(io.BytesIO(data[:-20])) as image:
            assert image.size == crop.size
            with pytest.raises(OSError, match="truncated"):
                image.load()

    def test_a_truncated_payload_shows_when_it_is_verified(self, crop: Image.Image) -> None:
        data = hvqcodec.compress(crop)
        with Image.open(io.BytesIO(data)) as image:
            image.verify()
        cut = Image.open(io.BytesIO(data[:-20]))
        with pytest.raises(OSError, match="truncated"):
            cut.verify()

    def test_metadata_out_of_bounds(self, rich: bytes) -> None:
        with pytest.raises(UnidentifiedImageError, match="EXIF"):
            Image.open(io.BytesIO(with_section(rich, Section.EXIF, b"no zlib")))

    def test_a_model_that_is_not_at_hand(self, codec: Codec, crop: Image.Image) -> None:
        with (
            Image.open(io.BytesIO(codec.compress(crop))) as image,
            pytest.raises(OSError, match="model"),
        ):
            image.load()

    def test_closed(self, tmp_path: Path, rich: bytes) -> None:
        (tmp_path / "photo.hvq").write_bytes(rich)
        image = Image.open(tmp_path / "photo.hvq")
        image.close()
        with pytest.raises(ValueError, match="closed"):
            image.load()

    def test_saving_in_vain_leaves_no_file(self, tmp_path: Path, crop: Image.Image) -> None:
        with pytest.raises(OSError, match="the smallest file"):
            crop.save(tmp_path / "photo.hvq", max_bytes=10)
        with pytest.raises(OSError, match="floating-point"):
            Image.new("F", (8, 8)).save(tmp_path / "photo.hvq")
        assert list(tmp_path.iterdir()) == []


def test_imageio(tmp_path: Path, crop: Image.Image) -> None:
    path = tmp_path / "photo.hvq"
    iio.imwrite(path, np.asarray(crop), plugin="pillow", bpp=0.3)
    pixels = iio.imread(path)
    np.testing.assert_array_equal(pixels, hvqcodec.decompress(path.read_bytes(), output="numpy"))
    assert iio.improps(path, plugin="pillow").shape == (64, 96, 3)


class Folder(Dataset[torch.Tensor]):
    """The photos of a folder, as many training scripts read them."""

    def __init__(self, folder: Path) -> None:
        self.paths = sorted(folder.glob("*.hvq"))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> torch.Tensor:
        with Image.open(self.paths[number]) as image:
            return torch.from_numpy(np.array(image)).permute(2, 0, 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, crop: Image.Image) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number in range(4):
        crop.rotate(90 * number, expand=False).save(folder / f"{number}.hvq")
    return folder


@pytest.mark.parametrize("context", [None, "fork", "spawn"])
def test_data_loader(folder: Path, context: str | None) -> None:
    """In this process, and in workers, which have used torch before or load it anew."""
    if context == "fork" and sys.platform != "linux":
        pytest.skip("only Linux forks safely")
    expected = torch.stack(list(iter(Folder(folder)[i] for i in range(4))))
    loader = DataLoader(
        Folder(folder),
        batch_size=2,
        num_workers=2 if context else 0,
        multiprocessing_context=context,
    )
    torch.testing.assert_close(torch.cat(list(loader)), expected, rtol=0, atol=0)
