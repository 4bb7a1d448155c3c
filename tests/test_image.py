import io
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageCms

from hvqcodec import BitstreamError, ImageError
from hvqcodec.bitstream import Mode
from hvqcodec.image import Picture, from_blocks, pack_alpha, read_picture, to_blocks, unpack_alpha
from tests.helpers import Pixels

ORIENTATION = 0x0112

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


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("suffix", [".png", ".tiff", ".webp"])
def test_orientation_is_applied(
    crop: Image.Image, tmp_path: Path, orientation: int, suffix: str
) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = written(crop, tmp_path / f"photo{suffix}", exif=exif, lossless=True)
    expected = UPRIGHT[orientation](rgb(crop))
    np.testing.assert_array_equal(read_picture(path).rgb, expected)


@pytest.mark.parametrize("mode", ["P", "CMYK", "YCbCr", "HSV", "RGBX"])
def test_colour_modes_become_rgb(crop: Image.Image, mode: str) -> None:
    picture = read_picture(crop.convert(mode))
    assert (picture.mode, picture.alpha) == (Mode.RGB, None)
    np.testing.assert_array_equal(picture.rgb, rgb(crop.convert(mode)))


@pytest.mark.parametrize("mode", ["L", "1"])
def test_grey_modes_stay_grey(crop: Image.Image, mode: str) -> None:
    picture = read_picture(crop.convert(mode))
    assert (picture.mode, picture.alpha) == (Mode.GREY, None)
    np.testing.assert_array_equal(picture.rgb, rgb(crop.convert(mode)))


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I;16L"])
def test_sixteen_bits_are_rounded_to_eight(camera: Pixels, mode: str) -> None:
    grey = camera[100:140, 200:260]
    rng = np.random.default_rng(0)
    deep = (257 * grey.astype(np.int64) + rng.integers(-128, 129, grey.shape)).clip(0, 65535)
    words = deep.astype(">u2" if mode == "I;16B" else "<u2")
    picture = read_picture(Image.frombytes(mode, (60, 40), words.tobytes()))
    assert picture.mode == Mode.GREY
    np.testing.assert_array_equal(picture.rgb, np.stack([grey] * 3, 2))


@pytest.mark.parametrize("mode", ["I", "F"])
def test_wide_numbers_are_scaled_or_refused_but_not_clipped(camera: Pixels, mode: str) -> None:
    """Pillow opens 16-bit PGM files as I; its own conversion makes nearly all of it white."""
    wide = Image.fromarray(257 * camera[100:140, 200:260].astype(np.int32)).convert(mode)
    try:
        picture = read_picture(wide)
    except ImageError:
        return
    assert picture.rgb.mean() == pytest.approx(camera[100:140, 200:260].mean(), abs=1)


def test_sixteen_bit_pgm_is_scaled_or_refused(camera: Pixels, tmp_path: Path) -> None:
    grey = camera[100:140, 200:260]
    path = tmp_path / "photo.pgm"
    path.write_bytes(b"P5 60 40 65535\n" + (257 * grey.astype(">u2")).tobytes())
    try:
        picture = read_picture(path)
    except ImageError:
        return
    assert picture.rgb.mean() == pytest.approx(grey.mean(), abs=1)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "RGBa", "La"])
def test_alpha_is_kept_exactly(crop: Image.Image, mode: str) -> None:
    alpha = np.arange(50 * 70, dtype=np.int64).reshape(50, 70) % 256
    image = crop.convert("LA" if mode in ("LA", "La") else "RGBA")
    image.putalpha(Image.fromarray(alpha.astype(np.uint8)))
    if image.mode != mode:
        image = image.convert(mode)
    picture = read_picture(image)
    np.testing.assert_array_equal(picture.alpha, alpha)
    assert picture.mode == (Mode.GREY if mode in ("LA", "La") else Mode.RGB)


def test_opaque_alpha_is_dropped(crop: Image.Image) -> None:
    for mode in ("RGBA", "LA"):
        assert read_picture(crop.convert(mode)).alpha is None


def test_transparent_colour_of_a_file_becomes_alpha(crop: Image.Image, tmp_path: Path) -> None:
    indexed = crop.quantize(16)
    pixels = np.asarray(indexed)
    path = written(indexed, tmp_path / "photo.png", transparency=int(pixels[0, 0]))
    picture = read_picture(path)
    assert picture.alpha is not None
    np.testing.assert_array_equal(picture.alpha, np.where(pixels == pixels[0, 0], 0, 255))


def swapped_profile() -> bytes:
    """sRGB with the primaries of red and blue in each other's place."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert profile.count(b"rXYZ") == profile.count(b"bXYZ") == 1
    return profile.replace(b"rXYZ", b"tmp_").replace(b"bXYZ", b"rXYZ").replace(b"tmp_", b"bXYZ")


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_colours_become_srgb(crop: Image.Image, tmp_path: Path, suffix: str) -> None:
    path = written(crop, tmp_path / f"photo{suffix}", icc_profile=swapped_profile())
    picture = read_picture(path)
    difference = picture.rgb.astype(int) - rgb(crop)[:, :, ::-1]
    assert np.abs(difference).max() <= 3


def test_colours_of_transparent_photos_become_srgb(crop: Image.Image, tmp_path: Path) -> None:
    image = crop.convert("RGBA")
    image.putalpha(128)
    picture = read_picture(written(image, tmp_path / "photo.png", icc_profile=swapped_profile()))
    assert picture.alpha is not None
    assert (picture.alpha == 128).all()
    assert np.abs(picture.rgb.astype(int) - rgb(crop)[:, :, ::-1]).max() <= 3


def test_an_unreadable_profile_is_passed_over(crop: Image.Image, tmp_path: Path) -> None:
    path = written(crop, tmp_path / "photo.png", icc_profile=b"no profile at all")
    np.testing.assert_array_equal(read_picture(path).rgb, rgb(crop))


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".tiff"])
def test_several_frames_are_refused(crop: Image.Image, tmp_path: Path, suffix: str) -> None:
    other = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    path = written(crop, tmp_path / f"two{suffix}", save_all=True, append_images=[other])
    with pytest.raises(ImageError, match="animation"):
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
        np.zeros((8, 8, 2), np.uint8),
        np.zeros((8, 8, 1), np.uint8),
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


def test_strided_arrays_are_read(astronaut: Pixels) -> None:
    view = astronaut[100:200:2, 300:200:-2, ::-1]
    np.testing.assert_array_equal(read_picture(view).rgb, view)


def test_an_image_without_pixels_is_refused() -> None:
    with pytest.raises(ImageError, match="no pixels"):
        read_picture(Image.new("RGB", (0, 5)))


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"no image" * 100])
def test_files_that_are_no_images_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"photo\.png: cannot be read as an image"):
        read_picture(path)


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
    path = written(crop, tmp_path / f"photo{suffix}")
    sound, refused = path.read_bytes(), 0
    for position in range(0, 300, 4):
        damaged = bytearray(sound)
        damaged[position] ^= 255
        path.write_bytes(damaged)
        try:
            assert read_picture(path).rgb.size
        except ImageError:
            refused += 1
    assert refused


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_alpha_round_trip(alpha: Pixels) -> None:
    np.testing.assert_array_equal(unpack_alpha(pack_alpha(alpha), *alpha.shape), alpha, strict=True)


def test_alpha_of_another_size_is_refused() -> None:
    body = pack_alpha(np.full((7, 9), 200, np.uint8))
    for height, width in ((7, 8), (7, 10), (1, 1), (5000, 5000)):
        with pytest.raises(BitstreamError, match="its size does not match"):
            unpack_alpha(body, height, width)
    for more in (body + b"\0", body[:-1], body[:-4]):
        with pytest.raises(BitstreamError, match="transparency is damaged"):
            unpack_alpha(more, 7, 9)


@given(st.binary(max_size=60))
def test_garbage_alpha_is_refused(garbage: bytes) -> None:
    with pytest.raises(BitstreamError, match="transparency is damaged"):
        unpack_alpha(garbage, 30, 40)


def test_an_alpha_bomb_is_not_inflated() -> None:
    bomb = zlib.compress(bytes(1 << 24), 9)
    assert len(bomb) < 1 << 15
    with pytest.raises(BitstreamError, match="its size does not match"):
        unpack_alpha(bomb, 16, 16)


@pytest.mark.parametrize(("h", "w"), [(1, 1), (7, 5), (16, 16), (17, 31), (50, 70)])
def test_blocks_repeat_the_edge_and_are_cut_off(astronaut: Pixels, h: int, w: int) -> None:
    pixels = astronaut[60 : 60 + h, 180 : 180 + w]
    blocks = to_blocks(pixels)
    assert blocks.shape == (1, 3, -(-h // 16) * 16, -(-w // 16) * 16)
    assert -1 <= blocks.min() <= blocks.max() <= 1
    assert torch.equal(
        blocks[..., :h, w:], blocks[..., :h, w - 1 : w].expand_as(blocks[..., :h, w:])
    )
    assert torch.equal(blocks[..., h:, :], blocks[..., h - 1 : h, :].expand_as(blocks[..., h:, :]))
    np.testing.assert_array_equal(from_blocks(blocks, h, w), pixels)


def test_from_blocks_saturates() -> None:
    image = torch.tensor([-3.0, -1.001, 1.001, 7.0]).view(1, 1, 1, 4).expand(1, 3, 1, 4)
    assert from_blocks(image, 1, 4)[0, :, 0].tolist() == [0, 0, 255, 255]


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


def test_damaged_exif_is_passed_over(crop: Image.Image) -> None:
    """With no more than a warning of Pillow's own."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    file = io.BytesIO()
    crop.save(file, "PNG", exif=exif.tobytes()[:14])
    image = Image.open(io.BytesIO(file.getvalue()))
    assert "exif" in image.info
    with pytest.warns(UserWarning, match="EXIF"):
        picture = read_picture(image)
    np.testing.assert_array_equal(picture.rgb, rgb(crop))
