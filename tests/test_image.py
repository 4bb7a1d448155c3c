import io
import struct
import tempfile
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageCms

from hvqcodec import HvqWarning, ImageError
from hvqcodec.bitstream import Mode
from hvqcodec.exif import EXIF_PREFIX
from hvqcodec.image import Picture, read_picture, to_result
from hvqcodec.metadata import Metadata
from hvqcodec.pixels import from_signal, to_blocks, to_signal
from tests.helpers import Pixels
from tests.samples import (
    ORIENTATION,
    exif_with_thumbnail,
    linear_grey_profile,
    srgb_of_today,
    swapped_profile,
)


def test_a_side_that_no_file_can_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hvqcodec.image.MAX_SIDE", 100)
    assert read_picture(np.zeros((1, 100), np.uint8)).rgb.shape == (1, 100, 3)
    with pytest.raises(ImageError, match="101 x 1 pixels: no side may have more than 100"):
        read_picture(np.zeros((1, 101), np.uint8))


UPRIGHT = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: p.transpose(1, 0, 2)[:, ::-1],
    7: lambda p: p.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda p: p.transpose(1, 0, 2)[::-1],
}
"""What the EXIF orientation says is to be done, by hand."""


@pytest.fixture(scope="module")
def crop(astronaut: Pixels) -> Image.Image:
    """70 x 50 pixels."""
    return Image.fromarray(astronaut[60:110, 180:250])


def rgb(image: Image.Image) -> Pixels:
    return np.asarray(image.convert("RGB"))


def written(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


def test_file_image_and_array_are_read_alike(crop: Image.Image, tmp_path: Path) -> None:
    path = written(crop, tmp_path / "photo.png")
    for source in (crop, np.asarray(crop), path, str(path)):
        picture = read_picture(source)
        np.testing.assert_array_equal(picture.rgb, rgb(crop), strict=True)
        assert (picture.mode, picture.alpha) == (Mode.RGB, None)


def test_open_files_are_read_and_left_open(crop: Image.Image, tmp_path: Path) -> None:
    path = written(crop, tmp_path / "photo.png")
    memory = io.BytesIO(path.read_bytes())
    with path.open("rb") as disk:
        for file in (disk, memory):
            for _ in range(2):
                np.testing.assert_array_equal(read_picture(file).rgb, rgb(crop))
            assert not file.closed


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("suffix", [".png", ".tiff", ".webp"])
def test_orientation_is_applied_where_exif_is_dropped(
    crop: Image.Image, tmp_path: Path, orientation: int, suffix: str
) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = written(crop, tmp_path / f"photo{suffix}", exif=exif, lossless=True)
    expected = UPRIGHT[orientation](rgb(crop))
    picture = read_picture(path, strip=True)
    np.testing.assert_array_equal(picture.rgb, expected)
    assert picture.metadata.exif == b""
    picture = read_picture(path)
    if suffix == ".tiff":  # Pillow turns it.
        np.testing.assert_array_equal(picture.rgb, expected)
        assert picture.metadata.exif == b""
    else:
        np.testing.assert_array_equal(picture.rgb, rgb(crop))
        shown = to_result(picture.to_pil(), "numpy")
        np.testing.assert_array_equal(shown, expected)


@pytest.mark.parametrize("mode", ["P", "RGBX"])
def test_colour_modes_become_rgb(crop: Image.Image, mode: str) -> None:
    picture = read_picture(crop.convert(mode))
    assert (picture.mode, picture.alpha) == (Mode.RGB, None)
    np.testing.assert_array_equal(picture.rgb, rgb(crop.convert(mode)))


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "HSV"])
def test_modes_that_cannot_be_restored_become_rgb_with_a_notice(
    crop: Image.Image, mode: str
) -> None:
    with pytest.warns(HvqWarning, match=f"an image in {mode}: encoded as RGB"):
        picture = read_picture(crop.convert(mode))
    assert (picture.mode, picture.alpha) == (Mode.RGB, None)
    np.testing.assert_array_equal(picture.rgb, rgb(crop.convert(mode)))


def test_lab_becomes_rgb_through_a_profile(crop: Image.Image) -> None:
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    image = ImageCms.profileToProfile(crop, srgb, lab, outputMode="LAB")
    assert image is not None
    with pytest.warns(HvqWarning, match="an image in LAB: encoded as RGB"):
        picture = read_picture(image)
    assert np.abs(picture.rgb.astype(int) - rgb(crop)).mean() < 3
    assert picture.metadata.icc == b""


@pytest.mark.filterwarnings("ignore:an image in")
def test_profiles_stay_where_they_fit(crop: Image.Image) -> None:
    """YCbCr and HSV are RGB in another notation; a profile of inks does not fit RGB."""
    for mode, kept in (("YCbCr", True), ("HSV", True), ("CMYK", False)):
        image = crop.convert(mode)
        image.info["icc_profile"] = swapped_profile()
        assert read_picture(image).metadata.icc == (swapped_profile() if kept else b"")


def test_grey_stays_grey(crop: Image.Image) -> None:
    grey = crop.convert("L")
    picture = read_picture(grey)
    assert (picture.mode, picture.alpha) == (Mode.GREY, None)
    np.testing.assert_array_equal(picture.rgb, rgb(grey))
    with pytest.warns(HvqWarning, match="1 bit per pixel: encoded as 8-bit grey"):
        picture = read_picture(crop.convert("1"))
    assert (picture.mode, picture.alpha) == (Mode.GREY, None)
    np.testing.assert_array_equal(picture.rgb, rgb(crop.convert("1")))


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I;16L"])
def test_sixteen_bits_are_rounded_to_eight(camera: Pixels, mode: str) -> None:
    grey = camera[100:140, 200:260]
    rng = np.random.default_rng(0)
    deep = (257 * grey.astype(np.int64) + rng.integers(-128, 129, grey.shape)).clip(0, 65535)
    words = deep.astype(">u2" if mode == "I;16B" else "<u2")
    with pytest.warns(HvqWarning, match="16 bits per channel: encoded with 8"):
        picture = read_picture(Image.frombytes(mode, (60, 40), words.tobytes()))
    assert picture.mode == Mode.GREY
    np.testing.assert_array_equal(picture.rgb, np.stack([grey] * 3, 2))


@pytest.mark.filterwarnings("ignore:an image of 16 bits")
def test_transparency_of_sixteen_bits_is_kept(camera: Pixels, tmp_path: Path) -> None:
    deep = camera[100:140, 200:260].astype(np.uint16) * 257
    hidden = int(deep[0, 0])
    Image.fromarray(deep).save(tmp_path / "photo.png", transparency=hidden)
    picture = read_picture(tmp_path / "photo.png")
    assert picture.mode == Mode.GREY
    assert picture.alpha is not None
    np.testing.assert_array_equal(picture.alpha, np.where(deep == hidden, 0, 255))


def test_the_limit_of_pillow_is_named(
    crop: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crop.save(tmp_path / "photo.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", crop.width * crop.height // 3)
    with pytest.raises(ImageError, match=r"photo\.png: .* PIL\.Image\.MAX_IMAGE_PIXELS"):
        read_picture(tmp_path / "photo.png")


def test_too_little_memory_is_no_fault_of_the_image(
    crop: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    hidden = crop.copy()
    hidden.putalpha(0)
    hidden.save(tmp_path / "photo.png")
    monkeypatch.setattr("hvqcodec.image.fill_hidden", full)
    with pytest.raises(MemoryError):
        read_picture(tmp_path / "photo.png")


def test_sixteen_bit_pgm_is_scaled(camera: Pixels) -> None:
    """Pillow opens it as I; its own conversion makes nearly all of it white."""
    grey = camera[100:140, 200:260]
    for most in (65535, 4095):
        words = np.round(grey / 255 * most).astype(">u2")
        file = io.BytesIO(b"P5 60 40 %d\n" % most + words.tobytes())
        with pytest.warns(HvqWarning, match="16 bits per channel"):
            picture = read_picture(file)
        assert picture.mode == Mode.GREY
        np.testing.assert_array_equal(picture.rgb[:, :, 0], grey)


def test_floating_point_images_are_refused() -> None:
    with pytest.raises(ImageError, match="floating-point numbers has no range"):
        read_picture(Image.new("F", (8, 8), 0.5))


def sixteen_bit_png(pixels: Pixels, kind: int, *extra: tuple[bytes, bytes]) -> io.BytesIO:
    """Pillow writes none in colour. extra: further chunks."""
    height, width = pixels.shape[:2]
    rows = (257 * pixels.astype(">u2")).astype(">u2").reshape(height, -1)
    return bare_png(rows, width, 16, kind, *extra)


def bare_png(
    rows: NDArray[Any], width: int, depth: int, kind: int, *extra: tuple[bytes, bytes]
) -> io.BytesIO:
    """rows: of packed samples."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, len(rows), depth, kind, 0, 0, 0)),
        *extra,
        (b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))),
        (b"IEND", b""),
    ]
    bodies = [
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    ]
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + b"".join(bodies))


@pytest.mark.parametrize(("kind", "channels"), [(0, 1), (2, 3), (6, 4)])
def test_sixteen_bit_png(crop: Image.Image, kind: int, channels: int) -> None:
    alpha = np.arange(50 * 70).reshape(50, 70, 1) % 255 + 1
    pixels = np.concatenate([rgb(crop), alpha], 2).astype(np.uint8)[:, :, :channels]
    with pytest.warns(HvqWarning, match="16 bits per channel"):
        picture = read_picture(sixteen_bit_png(pixels, kind))
    np.testing.assert_array_equal(picture.rgb, np.broadcast_to(pixels[:, :, :3], (50, 70, 3)))
    assert picture.mode == (Mode.GREY if kind == 0 else Mode.RGB)
    if channels == 4:
        np.testing.assert_array_equal(picture.alpha, pixels[:, :, 3])
    else:
        assert picture.alpha is None


@pytest.mark.filterwarnings("ignore:an image of 16 bits")
def test_the_transparent_colour_of_sixteen_bits_is_kept(crop: Image.Image) -> None:
    pixels = rgb(crop)
    hidden = struct.pack(">3H", *(257 * int(value) for value in pixels[3, 5]))
    picture = read_picture(sixteen_bit_png(pixels, 2, (b"tRNS", hidden)))
    expected = np.where((pixels == pixels[3, 5]).all(2), 0, 255)
    np.testing.assert_array_equal(picture.alpha, expected)


@pytest.mark.filterwarnings("ignore:an image of 16 bits")
def test_a_dark_transparent_colour_of_sixteen_bits_is_not_one_of_eight() -> None:
    pixels = np.full((4, 3, 3), 5, np.uint8)  # 5 * 257, of 16 bits
    picture = read_picture(sixteen_bit_png(pixels, 2, (b"tRNS", struct.pack(">3H", 5, 5, 5))))
    np.testing.assert_array_equal(picture.alpha, np.full((4, 3), 255))


@pytest.mark.filterwarnings("ignore:an image of 16 bits")
def test_grey_of_sixteen_bits_with_alpha_stays_grey(coffee: Pixels) -> None:
    pixels = coffee[:20, :30, :2].copy()
    picture = read_picture(sixteen_bit_png(pixels, 4))
    assert picture.mode == Mode.GREY
    np.testing.assert_array_equal(picture.alpha, pixels[:, :, 1])
    shown = pixels[:, :, 1] > 0
    np.testing.assert_array_equal(picture.rgb[shown][:, 0], pixels[:, :, 0][shown])


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_the_transparent_grey_of_few_bits_is_kept(depth: int) -> None:
    levels = 1 << depth
    samples = np.arange(levels).repeat(16)[None].repeat(3, 0)
    packed = np.packbits(
        (samples[:, :, None] >> np.arange(depth)[::-1] & 1).astype(np.uint8).reshape(3, -1), axis=1
    )
    for hidden in (0, levels - 1):
        png = bare_png(packed, samples.shape[1], depth, 0, (b"tRNS", struct.pack(">H", hidden)))
        for image in (png, loaded(png)):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", HvqWarning)  # of 1 bit
                picture = read_picture(image)
            np.testing.assert_array_equal(picture.alpha, np.where(samples == hidden, 0, 255))


def loaded(file: io.BytesIO) -> Image.Image:
    """As it comes from a caller who has looked at it."""
    image = Image.open(file)
    image.load()
    return image


def test_a_transparent_grey_of_eight_bits_is_not_scaled() -> None:
    """Though all greys that there are could be those of fewer bits."""
    samples = np.array([[0, 5, 85, 255] * 4], np.uint8)
    png = bare_png(samples, 16, 8, 0, (b"tRNS", struct.pack(">H", 5)))
    for image in (png, loaded(png)):
        alpha = read_picture(image).alpha
        np.testing.assert_array_equal(alpha, np.where(samples == 5, 0, 255))


@pytest.mark.filterwarnings("ignore:an image of 16 bits")
@pytest.mark.parametrize("value", [-1, 65536])
def test_more_than_sixteen_bits_are_refused(value: int) -> None:
    with pytest.raises(ImageError, match="32 bits per channel: scale it"):
        read_picture(Image.fromarray(np.array([[0, value]], np.int32)))


def test_notices_are_told_from_damage_where_warnings_are_errors(
    crop: Image.Image, tmp_path: Path
) -> None:
    path = written(crop.convert("1"), tmp_path / "photo.png")
    with pytest.raises(HvqWarning, match="1 bit per pixel"):
        read_picture(path)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "RGBa", "La"])
def test_alpha_is_kept_exactly(crop: Image.Image, mode: str) -> None:
    alpha = np.arange(50 * 70, dtype=np.int64).reshape(50, 70) % 256
    alpha[0, 0] = 0
    image = crop.convert("LA" if mode in ("LA", "La") else "RGBA")
    image.putalpha(Image.fromarray(alpha.astype(np.uint8)))
    if image.mode != mode:
        image = image.convert(mode)
    picture = read_picture(image)
    np.testing.assert_array_equal(picture.alpha, alpha)
    assert picture.mode == (Mode.GREY if mode in ("LA", "La") else Mode.RGB)
    if mode in ("LA", "RGBA"):
        shown = np.asarray(image.convert("RGB"))
        np.testing.assert_array_equal(picture.rgb[alpha > 0], shown[alpha > 0])
        assert picture.to_pil().mode == mode


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_opaque_alpha_is_kept(crop: Image.Image, mode: str) -> None:
    picture = read_picture(crop.convert(mode))
    assert picture.alpha is not None
    assert (picture.alpha == 255).all()
    assert picture.to_pil().mode == mode


def test_transparent_colour_of_a_file_becomes_alpha(crop: Image.Image, tmp_path: Path) -> None:
    indexed = crop.quantize(16)
    pixels = np.asarray(indexed)
    path = written(indexed, tmp_path / "photo.png", transparency=int(pixels[0, 0]))
    picture = read_picture(path)
    assert picture.alpha is not None
    np.testing.assert_array_equal(picture.alpha, np.where(pixels == pixels[0, 0], 0, 255))
    hidden, visible = picture.rgb[picture.alpha == 0], picture.rgb[picture.alpha > 0]
    assert (hidden.min(0) >= visible.min(0)).all()


@pytest.mark.parametrize("mode", ["L", "1"])
@pytest.mark.filterwarnings("ignore:an image of 1 bit")
def test_transparent_grey_of_a_file_becomes_alpha(
    crop: Image.Image, tmp_path: Path, mode: str
) -> None:
    grey = crop.convert("1").convert(mode)
    picture = read_picture(written(grey, tmp_path / "photo.png", transparency=0))
    assert picture.mode == Mode.GREY
    np.testing.assert_array_equal(picture.alpha, np.asarray(grey.convert("L")))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_colours_become_srgb_where_the_profile_is_dropped(
    crop: Image.Image, tmp_path: Path, suffix: str, mode: str
) -> None:
    image = crop.convert(mode)
    if mode == "RGBA":
        image.putalpha(128)
    path = written(image, tmp_path / f"photo{suffix}", icc_profile=swapped_profile())
    swapped = rgb(image)[:, :, ::-1].astype(int)
    picture = read_picture(path, strip=True)
    assert np.abs(picture.rgb - swapped).max() <= 3
    assert picture.metadata == Metadata()
    assert (picture.alpha is None) == (mode != "RGBA")
    picture = read_picture(path)
    np.testing.assert_array_equal(picture.rgb, rgb(image))
    assert picture.metadata.icc == swapped_profile()
    shown = to_result(picture.to_pil(), "numpy")
    assert isinstance(shown, np.ndarray)
    assert np.abs(shown[:, :, :3] - swapped).max() <= 3


@pytest.mark.parametrize("strip", [False, True])
def test_an_unreadable_profile_changes_nothing(
    crop: Image.Image, tmp_path: Path, strip: bool
) -> None:
    path = written(crop, tmp_path / "photo.png", icc_profile=b"no profile at all")
    np.testing.assert_array_equal(read_picture(path, strip).rgb, rgb(crop))


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".tiff"])
def test_several_frames_are_refused(crop: Image.Image, tmp_path: Path, suffix: str) -> None:
    other = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    path = written(crop, tmp_path / f"two{suffix}", save_all=True, append_images=[other])
    with pytest.raises(ImageError, match="it holds 2 pictures, as an animation or pages"):
        read_picture(path)
    single = written(crop.convert("P"), tmp_path / f"one{suffix}")
    assert read_picture(single).rgb.shape == (50, 70, 3)


def test_the_preview_inside_a_photo_is_no_frame(crop: Image.Image, tmp_path: Path) -> None:
    """Many cameras and phones put a second picture into their JPEG files (MPO)."""
    path = tmp_path / "phone.jpg"
    crop.save(path, "MPO", save_all=True, append_images=[crop.resize((35, 25))])
    assert read_picture(path).rgb.shape == (50, 70, 3)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((8, 8), np.float32),
        np.zeros((8, 8, 3), np.int64),
        np.zeros((8, 8), bool),
        np.zeros((8, 8, 0), np.uint8),
        np.zeros((8, 8, 5), np.uint8),
        np.zeros((1, 8, 8, 3), np.uint8),
        np.zeros(8, np.uint8),
        np.zeros((0, 8, 3), np.uint8),
        np.zeros((8, 0), np.uint8),
    ],
    ids=lambda a: f"{a.dtype}{a.shape}",
)
def test_unfit_arrays_are_refused(array: Pixels) -> None:
    with pytest.raises(ImageError, match="an array must be uint8"):
        read_picture(array)


CHANNELS = [(1, Mode.GREY, False), (2, Mode.GREY, True), (3, Mode.RGB, False), (4, Mode.RGB, True)]


@pytest.mark.parametrize(("channels", "mode", "has_alpha"), CHANNELS)
def test_arrays_and_tensors_of_1_to_4_channels(
    crop: Image.Image, channels: int, mode: Mode, has_alpha: bool
) -> None:
    """And back: the same pixels from what they were read as."""
    alpha = np.arange(50 * 70).reshape(50, 70, 1) % 255 + 1
    colours = rgb(crop)[:, :, : channels - has_alpha]
    array = np.concatenate([colours, alpha], 2)[:, :, :channels].astype(np.uint8)
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    floats = tensor / 255
    sources = [array, tensor, floats, floats.double(), tensor.contiguous()]
    if channels == 1:
        sources.append(array[:, :, 0])
    for source in sources:
        picture = read_picture(source)
        assert picture.mode == mode
        np.testing.assert_array_equal(picture.rgb, np.broadcast_to(colours, (50, 70, 3)))
        assert (picture.alpha is not None) == has_alpha
        back = to_result(picture.to_pil(), "torch")
        assert torch.equal(back, tensor)
        assert back.is_contiguous()
        back = to_result(picture.to_pil(), "numpy")
        np.testing.assert_array_equal(back, array[:, :, 0] if channels == 1 else array, strict=True)
        assert back.flags.writeable
    for dtype, away in ((torch.float16, 1), (torch.bfloat16, 1), (torch.float8_e4m3fn, 8)):
        picture = read_picture(floats.to(dtype))
        assert np.abs(picture.rgb.astype(int) - colours).max() <= away


def test_a_tensor_that_learns_is_read(crop: Image.Image) -> None:
    tensor = torch.from_numpy(rgb(crop).copy()).permute(2, 0, 1) / 255
    np.testing.assert_array_equal(read_picture(tensor.requires_grad_()).rgb, rgb(crop))


@pytest.mark.parametrize(
    ("tensor", "match"),
    [
        (torch.zeros(1, 3, 8, 8), r"one image of shape \(C, H, W\).*not \(1, 3, 8, 8\)"),
        (torch.zeros(8, 8), "one image of shape"),
        (torch.zeros(5, 8, 8), "with 1 to 4 channels"),
        (torch.zeros(8, 8, 3), "with 1 to 4 channels"),
        (torch.zeros(0, 8, 8), "with 1 to 4 channels"),
        (torch.zeros(3, 8, 0), "shape"),
        (torch.zeros(3, 0, 8, dtype=torch.uint8), "shape"),
        (torch.full((3, 8, 8), 1.001), r"must lie in \[0, 1\]: scale or clamp"),
        (torch.full((3, 8, 8), -0.001), r"must lie in \[0, 1\]"),
        (torch.full((3, 8, 8), 255.0), r"must lie in \[0, 1\]"),
        (torch.full((3, 8, 8), torch.nan), r"must lie in \[0, 1\]"),
        (torch.eye(8).expand(3, 8, 8) * torch.inf, r"must lie in \[0, 1\]"),
        (torch.zeros(3, 8, 8, dtype=torch.int64), "uint8 or floats in .*, not torch.int64"),
        (torch.zeros(3, 8, 8, dtype=torch.bool), "uint8 or floats"),
        (torch.zeros(3, 8, 8, dtype=torch.complex64), "uint8 or floats"),
        (torch.zeros(3, 8, 8).to_sparse(), "must be dense"),
        (torch.zeros(3, 8, 8, device="meta"), "must be dense"),
    ],
    ids=lambda value: (
        f"{value.dtype}{tuple(value.shape)}" if isinstance(value, torch.Tensor) else ""
    ),
)
def test_unfit_tensors_are_refused(tensor: torch.Tensor, match: str) -> None:
    with pytest.raises(ImageError, match=match):
        read_picture(tensor)


def test_one_bad_float_among_many_is_enough() -> None:
    for bad in (torch.nan, torch.inf, -torch.inf, -1e-6, 1 + 1e-6):
        tensor = torch.full((3, 16, 16), 0.5, dtype=torch.float64)
        tensor[1, 2, 3] = bad
        with pytest.raises(ImageError, match=r"must lie in \[0, 1\]"):
            read_picture(tensor)


def test_strided_arrays_are_read(astronaut: Pixels) -> None:
    view = astronaut[100:200:2, 300:200:-2, ::-1]
    np.testing.assert_array_equal(read_picture(view).rgb, view)


def test_bytes_with_gaps_are_read(crop: Image.Image) -> None:
    file = io.BytesIO()
    crop.save(file, "PNG")
    spread = np.repeat(np.frombuffer(file.getvalue(), np.uint8), 2).tobytes()
    np.testing.assert_array_equal(read_picture(memoryview(spread)[::2]).rgb, rgb(crop))


def test_a_file_without_a_name_is_not_called_by_its_number() -> None:
    with (
        tempfile.TemporaryFile() as file,
        pytest.raises(ImageError, match=r"^the image: cannot be"),
    ):
        read_picture(file)


def test_an_image_without_pixels_is_refused() -> None:
    with pytest.raises(ImageError, match="no pixels"):
        read_picture(Image.new("RGB", (0, 5)))


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"no image" * 100])
def test_files_that_are_no_images_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"photo\.png: cannot be read as an image"):
        read_picture(path)


def test_images_that_cannot_be_loaded_are_refused(crop: Image.Image) -> None:
    file = io.BytesIO()
    crop.save(file, "PNG")
    with (
        Image.open(io.BytesIO(file.getvalue()[:2000])) as image,
        pytest.raises(ImageError, match="the image: cannot be read as an image"),
    ):
        read_picture(image)


def test_folders_and_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="cannot be read"):
        read_picture(tmp_path)
    with pytest.raises(ImageError, match="no such file"):
        read_picture(tmp_path / "absent.png")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".gif", ".bmp", ".avif", ".jp2"])
def test_truncated_photos_are_refused(
    crop: Image.Image, tmp_path: Path, suffix: str, share: float
) -> None:
    path = written(crop, tmp_path / f"photo{suffix}")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ImageError, match="cannot be read as an image"):
        read_picture(path)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".gif", ".bmp", ".avif", ".tiff"])
def test_damaged_photos_are_read_or_refused(crop: Image.Image, tmp_path: Path, suffix: str) -> None:
    exif = EXIF_PREFIX + exif_with_thumbnail("<", behind=False)
    path = written(crop, tmp_path / f"photo{suffix}", exif=exif)
    sound, refused = path.read_bytes(), 0
    for position in range(0, 300, 3):
        damaged = bytearray(sound)
        damaged[position] ^= 255
        path.write_bytes(damaged)
        try:
            assert read_picture(path, strip=position % 2 == 0).rgb.size
        except ImageError:
            refused += 1
    assert refused


@pytest.mark.parametrize(("h", "w"), [(1, 1), (7, 5), (16, 16), (17, 31), (50, 70)])
def test_blocks_repeat_the_edge_and_are_cut_off(astronaut: Pixels, h: int, w: int) -> None:
    pixels = astronaut[60 : 60 + h, 180 : 180 + w]
    blocks = to_blocks(pixels)
    assert blocks.shape == (-(-h // 16) * 16, -(-w // 16) * 16, 3)
    assert (blocks[:h, w:] == blocks[:h, w - 1 : w]).all()
    assert (blocks[h:] == blocks[h - 1 : h]).all()
    np.testing.assert_array_equal(blocks[:h, :w], pixels)


def test_signals_lie_within_one_of_zero_and_lead_back(astronaut: Pixels) -> None:
    signal = to_signal(astronaut)
    assert signal.shape == (1, 3, 512, 512)
    assert (signal.min(), signal.max()) == (-1, 1)
    np.testing.assert_array_equal(from_signal(signal), astronaut)


def test_pixels_saturate() -> None:
    signal = torch.tensor([-3.0, -1.001, 1.001, 7.0]).view(1, 1, 1, 4).expand(1, 3, 1, 4)
    assert from_signal(signal)[0, :, 0].tolist() == [0, 0, 255, 255]


def test_grey_is_the_rounded_mean_of_the_channels() -> None:
    noisy = np.array([[[10, 11, 11], [255, 255, 255], [0, 0, 1], [0, 1, 1]]], np.uint8)
    image = Picture(noisy, Mode.GREY).to_pil()
    assert image.mode == "L"
    assert np.asarray(image).tolist() == [[11, 255, 0, 1]]


@pytest.mark.parametrize(("mode", "name"), [(Mode.RGB, "RGBA"), (Mode.GREY, "LA")])
def test_pictures_with_alpha(mode: Mode, name: str) -> None:
    alpha = np.array([[0, 128, 255]], np.uint8)
    image = Picture(np.full((1, 3, 3), 90, np.uint8), mode, alpha).to_pil()
    assert image.mode == name
    assert np.asarray(image.getchannel("A")).tolist() == alpha.tolist()


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_arrays_are_upright_and_in_srgb(crop: Image.Image, kind: str) -> None:
    """They can carry neither orientation nor profile."""
    exif = exif_with_thumbnail(">", behind=True)
    for image, profile in ((crop, swapped_profile()), (crop.convert("L"), linear_grey_profile())):
        grey = image.mode == "L"
        source = image.copy()
        Metadata(icc=profile, exif=exif).attach_to(source)
        picture = read_picture(source)
        assert to_result(picture.to_pil(), "pil").info["icc_profile"] == profile
        found = np.asarray(to_result(picture.to_pil(), kind))  # type: ignore[arg-type]
        if kind == "torch":
            found = found[0] if grey else found.transpose(1, 2, 0)
        turned = np.rot90(np.asarray(image), -1).astype(int)
        assert found.shape == turned.shape
        if grey:
            assert (found >= turned).all()
            assert found.mean() > turned.mean() + 30, "linear light is brighter than it looks"
        else:
            assert np.abs(found - turned[:, :, ::-1]).max() <= 3


def test_an_srgb_profile_changes_no_pixel(crop: Image.Image) -> None:
    image = crop.copy()
    image.info["icc_profile"] = srgb_of_today()
    for strip in (False, True):
        found = to_result(read_picture(image, strip).to_pil(), "numpy")
        assert np.abs(np.asarray(found).astype(int) - rgb(crop)).max() <= 1


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("strip", [False, True])
def test_damaged_exif_is_passed_over(crop: Image.Image, strip: bool) -> None:
    """With no more than a warning of Pillow's own."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    for damaged in (exif.tobytes()[:14], b"neither II nor MM"):
        file = io.BytesIO()
        crop.save(file, "PNG", exif=damaged)
        picture = read_picture(file, strip)
        np.testing.assert_array_equal(picture.rgb, rgb(crop))
        assert picture.metadata.exif == (b"" if strip else damaged.removeprefix(b"Exif\0\0"))


def test_sixteen_bit_colour_of_ppm_is_noticed(astronaut: Pixels, tmp_path: Path) -> None:
    grid = np.ascontiguousarray(astronaut[:20, :30])
    path = tmp_path / "photo.ppm"
    path.write_bytes(b"P6 30 20 65535\n" + (257 * grid.astype(">u2")).tobytes())
    with pytest.warns(HvqWarning, match="16 bits per channel"):
        picture = read_picture(path)
    np.testing.assert_array_equal(picture.rgb, grid)
