import itertools
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import hvqcodec
from hvqcodec import (
    BitstreamError,
    Codec,
    HvqError,
    HvqWarning,
    ImageError,
    RateError,
    UnknownFingerprintError,
)
from hvqcodec.alpha import pack_alpha
from hvqcodec.bitstream import Bitstream, Section
from hvqcodec.granularity import COARSE, FINE, MEDIUM
from hvqcodec.image import read_picture
from hvqcodec.metadata import Metadata
from tests.helpers import (
    Pixels,
    assert_same_symbols,
    psnr,
    symbols_of,
    threads,
    with_section,
)
from tests.samples import ORIENTATION, exif_with_thumbnail, swapped_profile

RATES = [
    ("astronaut", 0.08),
    ("astronaut", 0.12),
    ("coffee", 0.1),
    ("cat", 0.055),
    ("camera", 0.06),
]
"""Photos and bits per pixel that the tiny model can spend on them."""


@pytest.fixture(scope="module")
def crop(astronaut: Pixels) -> Pixels:
    """(96, 128, 3), a face."""
    return astronaut[40:136, 160:288]


@pytest.fixture(scope="module")
def file(codec: Codec, crop: Pixels) -> bytes:
    return codec.compress(crop, ratios=(0.3, 0.4, 0.3))


def payload(data: bytes) -> bytes:
    return Bitstream.from_bytes(data).sections[Section.PAYLOAD]


def decoded(codec: Codec, data: bytes) -> Pixels:
    return np.asarray(codec.decompress(data))


@pytest.mark.parametrize(
    ("height", "width"), [(1, 1), (7, 5), (16, 16), (17, 31), (1, 300), (300, 1), (33, 16)]
)
def test_any_size(codec: Codec, coffee: Pixels, height: int, width: int) -> None:
    pixels = coffee[90 : 90 + height, 200 : 200 + width]
    data = codec.compress(pixels)
    image = codec.decompress(data)
    assert (image.mode, image.size) == ("RGB", (width, height))
    assert Bitstream.from_bytes(data).to_bytes() == data
    padded = np.pad(pixels, ((0, -height % 16), (0, -width % 16), (0, 0)), "edge")
    whole = codec.compress(padded)
    assert payload(data) == payload(whole)
    np.testing.assert_array_equal(image, decoded(codec, whole)[:height, :width])


@pytest.mark.parametrize("name", ["astronaut", "coffee", "cat", "rocket", "camera"])
def test_photos_look_like_themselves(
    codec: Codec, name: str, request: pytest.FixtureRequest
) -> None:
    """Well beyond what the best constant colour reaches."""
    photo: Pixels = request.getfixturevalue(name)
    image = decoded(codec, codec.compress(photo))
    assert image.shape == photo.shape
    constant = np.broadcast_to(photo.mean((0, 1)).round().astype(np.uint8), photo.shape)
    assert psnr(image, photo) > psnr(constant, photo) + 3
    assert psnr(image, photo) > psnr(image[:, ::-1], photo) + 3
    if photo.ndim == 3:
        assert psnr(image, photo) > psnr(image[:, :, ::-1], photo)


def test_kodak_photos_look_like_themselves(codec: Codec, kodak: list[Path]) -> None:
    for path in kodak[::8]:
        photo = np.asarray(Image.open(path).convert("RGB"))
        image = decoded(codec, codec.compress(path))
        constant = np.broadcast_to(photo.mean((0, 1)).round().astype(np.uint8), photo.shape)
        assert psnr(image, photo) > psnr(constant, photo) + 2


def test_two_encodes_give_equal_bytes(codec: Codec, crop: Pixels) -> None:
    assert codec.compress(crop) == codec.compress(crop.copy())
    assert codec.compress(crop, bpp=0.12) == codec.compress(crop, bpp=0.12)


def test_all_kinds_of_input_give_equal_bytes(codec: Codec, crop: Pixels, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    Image.fromarray(crop).save(path)
    tensor = torch.from_numpy(crop.copy()).permute(2, 0, 1)
    sources = (crop, Image.fromarray(crop), path, str(path), tensor, tensor / 255)
    found = {codec.compress(source) for source in sources}
    with path.open("rb") as file:
        found.add(codec.compress(file))
    assert len(found) == 1


@pytest.mark.parametrize(
    ("mode", "shape"), [("L", ()), ("LA", (2,)), ("RGB", (3,)), ("RGBA", (4,))]
)
def test_results_on_request(codec: Codec, crop: Pixels, mode: str, shape: tuple[int, ...]) -> None:
    data = codec.compress(Image.fromarray(crop[:, :80]).convert(mode))
    image = codec.decompress(data, "pil")
    assert image == codec.decompress(data)
    assert (image.mode, image.size) == (mode, (80, 96))
    array = codec.decompress(data, output="numpy")
    assert array.dtype == np.uint8
    assert array.shape == (96, 80, *shape)
    np.testing.assert_array_equal(array, np.asarray(image))
    tensor = codec.decompress(data, output="torch")
    assert tensor.dtype == torch.uint8
    planes = array.transpose(2, 0, 1) if shape else array[None]
    np.testing.assert_array_equal(tensor.numpy(), planes)
    assert codec.compress(array, quality=30) == codec.compress(tensor, quality=30)


def test_other_results_are_refused(codec: Codec, file: bytes) -> None:
    with pytest.raises(ValueError, match=r"output must be one of .*'numpy'.*, not 'jax'"):
        codec.decompress(file, output="jax")  # type: ignore[call-overload]


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_arrays_are_turned_upright(codec: Codec, crop: Pixels, kind: str) -> None:
    source = Image.fromarray(crop)
    Metadata(icc=swapped_profile(), exif=exif_with_thumbnail("<", behind=True)).attach_to(source)
    data = codec.compress(source)
    stored = decoded(codec, data)
    assert stored.shape == (96, 128, 3)
    found = np.asarray(codec.decompress(data, output=kind))  # type: ignore[call-overload]
    shown = found.transpose(1, 2, 0) if kind == "torch" else found
    assert shown.shape == (128, 96, 3)
    assert np.abs(shown.astype(int) - np.rot90(stored, -1)[:, :, ::-1]).max() <= 3


@pytest.mark.filterwarnings("ignore:an image (in|of 1 bit)")
@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "YCbCr"])
def test_other_modes_are_coded_as_what_they_show(codec: Codec, crop: Pixels, mode: str) -> None:
    image = Image.fromarray(crop).convert(mode)
    grey = mode in ("L", "1")
    data = codec.compress(image)
    assert data == codec.compress(image.convert("L" if grey else "RGB"))
    assert codec.decompress(data).mode == ("L" if grey else "RGB")


def test_sixteen_bit_grey(codec: Codec, camera: Pixels) -> None:
    grey = camera[80:144, 200:280]
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    assert deep.mode == "I;16"
    with pytest.warns(HvqWarning, match="16 bits per channel: encoded with 8"):
        data = codec.compress(deep)
    assert data == codec.compress(grey)
    assert codec.decompress(data).mode == "L"


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_restored_exactly(codec: Codec, crop: Pixels, mode: str) -> None:
    alpha = np.random.default_rng(3).integers(0, 256, crop.shape[:2]).astype(np.uint8)
    alpha[:40] = 255
    image = Image.fromarray(crop).convert(mode)
    image.putalpha(Image.fromarray(alpha))
    back = codec.decompress(codec.compress(image))
    assert back.mode == mode
    np.testing.assert_array_equal(np.asarray(back.getchannel("A")), alpha)
    filled = read_picture(image).to_pil().convert(mode[:-1])
    opaque = decoded(codec, codec.compress(filled))
    np.testing.assert_array_equal(np.asarray(back.convert(mode[:-1])), opaque)


def test_alpha_of_an_array(codec: Codec, crop: Pixels) -> None:
    alpha = np.tile(np.arange(128, dtype=np.uint8), (96, 1))
    back = decoded(codec, codec.compress(np.dstack([crop, alpha])))
    np.testing.assert_array_equal(back[:, :, 3], alpha)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_an_opaque_alpha_is_restored_for_two_bytes(codec: Codec, crop: Pixels, mode: str) -> None:
    image = Image.fromarray(crop).convert(mode)
    data = codec.compress(image)
    assert Bitstream.from_bytes(data).sections[Section.ALPHA] == b""
    assert len(data) == len(codec.compress(image.convert(mode[:-1]))) + 2
    back = codec.decompress(data)
    assert back.mode == mode
    assert back.getchannel("A").getextrema() == (255, 255)


def test_pixels_stay_as_stored_and_are_turned_with_strip(codec: Codec, crop: Pixels) -> None:
    image = Image.fromarray(crop)
    Metadata(exif=exif_with_thumbnail(">", behind=False)).attach_to(image)
    back = codec.decompress(codec.compress(image))
    assert back.size == (128, 96)
    assert back.getexif()[ORIENTATION] == 6
    assert codec.compress(image, strip=True) == codec.compress(np.rot90(crop, -1))


def test_animations_are_refused(codec: Codec, crop: Pixels, tmp_path: Path) -> None:
    path = tmp_path / "moving.gif"
    frames = [Image.fromarray(crop), Image.fromarray(crop[::-1])]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match="animation"):
        codec.compress(path)


def test_thin_images_count_as_what_they_are_padded_to(codec: Codec) -> None:
    thin = np.full((1, 100_000, 3), 90, np.uint8)
    data = codec.compress(thin, effort="fast")
    for read in (codec.decompress, codec.inspect):
        with pytest.raises(BitstreamError, match=r"limit of 300000 allows, since .* as 1600000"):
            read(data, max_pixels=thin.size)
    with pytest.raises(ImageError, match="more than the limit of"):
        codec.compress(thin, max_pixels=thin.size)
    assert codec.decompress(data, max_pixels=800_000).size == (100_000, 1)


def test_images_beyond_the_limit_are_refused(codec: Codec, crop: Pixels) -> None:
    """By the encoder as by the decoder: else it makes files that nobody can read."""
    pixels = crop[:, :, 0].size
    data = codec.compress(crop, max_pixels=pixels)
    assert codec.decompress(data, max_pixels=pixels).size == crop.shape[1::-1]
    assert codec.inspect(data, max_pixels=pixels)
    for read in (codec.decompress, codec.inspect):
        with pytest.raises(BitstreamError, match="more than the limit of"):
            read(data, max_pixels=pixels - 1)
    with pytest.raises(ImageError, match="more than the limit of"):
        codec.compress(crop, max_pixels=pixels - 1)
    huge = Bitstream.from_bytes(data)
    huge = replace(huge, width=2**14, height=2**14)
    with pytest.raises(BitstreamError, match="16384 x 16384 pixels, more than the limit of 256000"):
        codec.decompress(huge.to_bytes())


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_progress_is_told_in_the_modes_of_the_caller(
    codec: Codec, crop: Pixels, mode: Callable[[], AbstractContextManager[None]]
) -> None:
    found = set()

    def told(_: float) -> None:
        found.add((torch.is_grad_enabled(), torch.is_inference_mode_enabled()))

    with mode():
        expected = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        data = codec.compress(crop, effort="max", tile=48, progress=told)
        codec.decompress(data, progress=told)
    assert found == {expected}


def test_transparency_and_metadata_are_told_apart(codec: Codec, crop: Pixels) -> None:
    alpha = np.random.default_rng(0).integers(0, 256, crop.shape[:2], np.uint8)
    image = Image.fromarray(np.dstack([crop, alpha]))
    Metadata(xmp=b"<x/>" * 20, dpi=(72, 72)).attach_to(image)
    data = codec.compress(image)
    sections, budget = Bitstream.from_bytes(data).sections, codec.inspect(data)
    assert budget["alpha_bytes"] == len(sections[Section.ALPHA]) > crop[:, :, 0].size / 2
    assert budget["metadata_bytes"] == len(sections[Section.XMP]) + len(sections[Section.DPI])
    plain = codec.inspect(codec.compress(crop))
    assert not {"alpha_bytes", "metadata_bytes"} & plain.keys()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_files_do_not_depend_on_the_default_type(
    codec: Codec, crop: Pixels, dtype: torch.dtype
) -> None:
    rates = (0.1, 0.2, 0.4)
    expected = [codec.compress(crop, bpp=rate) for rate in rates]
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        assert [codec.compress(crop, bpp=rate) for rate in rates] == expected
    finally:
        torch.set_default_dtype(before)


def test_progress_rises_to_one(codec: Codec, crop: Pixels) -> None:
    shares: list[float] = []
    data = codec.compress(crop, tile=48, progress=shares.append)
    assert len(shares) > 3
    assert shares == sorted(shares)
    assert shares[-1] == 1
    shares.clear()
    codec.decompress(data, tile=48, progress=shares.append)
    assert len(shares) > 3
    assert shares == sorted(shares)
    assert shares[-1] == 1


@pytest.mark.parametrize(("name", "bpp"), RATES)
def test_a_rate_is_met(codec: Codec, name: str, bpp: float, request: pytest.FixtureRequest) -> None:
    photo: Pixels = request.getfixturevalue(name)
    target = bpp * photo.shape[0] * photo.shape[1] / 8
    size = len(codec.compress(photo, bpp=bpp))
    assert abs(size - target) <= max(0.01 * target, 16) + 1


def test_rates_of_kodak_are_met(codec: Codec, kodak: list[Path]) -> None:
    for path in kodak[::6]:
        low, high = (len(codec.compress(path, quality=quality)) for quality in (0, 100))
        target = (low + high) / 2
        size = len(codec.compress(path, bpp=8 * target / (768 * 512)))
        assert size == pytest.approx(target, rel=0.01, abs=17)


def test_a_higher_rate_looks_better(shipped: Codec, astronaut: Pixels) -> None:
    photo = astronaut[:256, 100:356]
    quality = [
        psnr(decoded(shipped, shipped.compress(photo, bpp=bpp)), photo) for bpp in (0.1, 0.2, 0.3)
    ]
    assert quality == sorted(quality)
    assert quality[-1] > quality[0] + 0.5


def test_transparency_counts_for_the_rate_and_metadata_do_not(codec: Codec, cat: Pixels) -> None:
    alpha = np.full((*cat.shape[:2], 1), 255, np.uint8)
    alpha[0] = np.random.default_rng(0).integers(1, 256, (cat.shape[1], 1))
    image = Image.fromarray(np.dstack([cat, alpha]))
    size = 950 + len(pack_alpha(alpha[:, :, 0]))
    bare = codec.compress(image, bpp=8 * size / alpha.size)
    assert size > 2 * 1000
    assert len(bare) == pytest.approx(size, rel=0.01)
    Metadata(xmp=np.random.default_rng(1).bytes(3000)).attach_to(image)
    rich = codec.compress(image, bpp=8 * size / alpha.size)
    assert Bitstream.from_bytes(rich).image_bytes == len(bare)
    assert payload(rich) == payload(bare)
    assert len(rich) > len(bare) + 3000


@pytest.mark.parametrize("max_bytes", [2500, 3000, 4000])
def test_a_size_is_filled_and_never_exceeded(
    codec: Codec, astronaut: Pixels, max_bytes: int
) -> None:
    size = len(codec.compress(astronaut, max_bytes=max_bytes))
    assert max_bytes - max(0.01 * max_bytes, 16) - 1 <= size <= max_bytes


def test_all_bytes_count_for_the_size(codec: Codec, cat: Pixels) -> None:
    alpha = np.full((*cat.shape[:2], 1), 255, np.uint8)
    alpha[100:200, 100:200] = 254
    image = Image.fromarray(np.dstack([cat, alpha]))
    Metadata(xmp=np.random.default_rng(1).bytes(1000)).attach_to(image)
    data = codec.compress(image, max_bytes=2150)
    assert {Section.ALPHA, Section.XMP} < set(Bitstream.from_bytes(data).sections)
    assert 2110 < len(data) <= 2150
    with pytest.raises(RateError, match=r"smallest file of this image takes 1\d\d\d bytes"):
        codec.compress(image, max_bytes=1600)


def test_rates_are_met_beside_much_metadata_and_alpha(codec: Codec, cat: Pixels) -> None:
    """Of a file that is mostly what no lambda changes."""
    noise = np.random.default_rng(1)
    image = Image.fromarray(cat)
    Metadata(xmp=noise.bytes(30_000)).attach_to(image)
    least, most = (len(codec.compress(image, quality=quality)) for quality in (0, 100))
    for limit in (least + 60, (least + most) // 2, most - 60):
        size = len(codec.compress(image, max_bytes=limit))
        assert limit - 40 <= size <= limit
    alpha = noise.integers(0, 256, (*cat.shape[:2], 1), dtype=np.uint8)
    matted = Image.fromarray(np.dstack([cat, alpha]))
    sizes = [len(codec.compress(matted, quality=quality)) for quality in (10, 90)]
    middle = sum(sizes) / 2
    size = len(codec.compress(matted, bpp=8 * middle / (matted.width * matted.height)))
    assert size == pytest.approx(middle, abs=0.01 * middle + 1)
    assert middle - 60 <= len(codec.compress(matted, max_bytes=round(middle))) <= middle


def test_a_rate_below_the_minimum_is_refused_and_the_minimum_named(
    shipped: Codec, coffee: Pixels
) -> None:
    compress = partial(shipped.compress, effort="fast")  # what is refused is so before any effort
    with pytest.raises(RateError, match="bytes: ask for no less") as caught:
        compress(coffee, max_bytes=100)
    found = re.search(r"smallest file of this image takes (\d+) bytes", str(caught.value))
    assert found is not None
    least = int(found[1])
    assert len(compress(coffee, max_bytes=least)) <= least
    assert least < len(compress(coffee, quality=0))
    with pytest.raises(RateError):
        compress(coffee, max_bytes=least - 1)
    bpp = f"{8 * least / (400 * 600):.4g}"
    with pytest.raises(RateError, match=f"takes {bpp} bpp: ask for no less"):
        compress(coffee, bpp=0.01)


def test_a_rate_above_the_maximum_gives_the_maximum(codec: Codec, crop: Pixels) -> None:
    """With a notice, or an error if that is asked for; a limit is none the less kept."""
    most = codec.compress(crop, max_bytes=10**9)
    assert len(most) >= len(codec.compress(crop, quality=100))
    bpp = f"{8 * len(most) / (96 * 128):.4g}"
    for much in (2, 24):
        with pytest.warns(HvqWarning, match=f"cannot use more than {bpp} bpp: coded at that"):
            assert codec.compress(crop, bpp=much) == most
        with pytest.raises(RateError, match=f"more than {bpp} bpp: ask for no more"):
            codec.compress(crop, bpp=much, strict_rate=True)
    assert codec.compress(crop, bpp=float(bpp), strict_rate=True)
    assert codec.compress(crop, max_bytes=10**9) == most
    with pytest.raises(RateError, match="strict_rate goes with bpp"):
        codec.compress(crop, max_bytes=10**9, strict_rate=True)


def test_qualities_rise_in_size_and_looks(codec: Codec, astronaut: Pixels) -> None:
    files = [codec.compress(astronaut, quality=quality) for quality in (0, 30, 70, 100)]
    sizes = [len(data) for data in files]
    assert sizes == sorted(set(sizes))
    looks = [psnr(decoded(codec, data), astronaut) for data in files]
    assert looks[-1] > looks[0] + 0.5
    assert codec.compress(astronaut) == codec.compress(astronaut, quality=50)


@pytest.mark.parametrize(
    ("ratios", "levels"),
    [
        ((1, 0, 0), {FINE}),
        ((0, 1, 0), {MEDIUM}),
        ((0, 0, 1), {COARSE}),
        ((0.2, 0.5, 0.3), {COARSE, MEDIUM, FINE}),
    ],
)
def test_ratios_set_the_shares(
    codec: Codec, camera: Pixels, ratios: tuple[float, float, float], levels: set[int]
) -> None:
    photo = camera[:256, :320]
    symbols = symbols_of(codec.model, codec.compress(photo, ratios=ratios))
    assert set(np.unique(symbols.levels).tolist()) == levels
    shares = [(symbols.levels == level).mean() for level in (FINE, MEDIUM, COARSE)]
    assert shares == pytest.approx(ratios, abs=0.02)


CHOICES = {"quality": 50.0, "bpp": 0.1, "max_bytes": 500, "ratios": (0.3, 0.3, 0.4)}


@pytest.mark.parametrize("pair", list(itertools.combinations(CHOICES, 2)), ids="-".join)
def test_two_choices_at_once_are_refused(codec: Codec, crop: Pixels, pair: tuple[str, str]) -> None:
    with pytest.raises(RateError, match="give one of"):
        codec.compress(crop, **{name: CHOICES[name] for name in pair})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [0, -1, -0.1, float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["bpp", "max_bytes"])
def test_targets_that_are_no_positive_numbers_are_refused(
    codec: Codec, crop: Pixels, name: str, value: float
) -> None:
    with pytest.raises(RateError, match=rf"^{name} \(--[a-z-]+\) must be a positive number"):
        codec.compress(crop, **{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("quality", [-1, 101, float("nan"), float("inf")])
def test_qualities_beyond_0_and_100_are_refused(codec: Codec, crop: Pixels, quality: float) -> None:
    with pytest.raises(RateError, match="between 0 and 100"):
        codec.compress(crop, quality=quality)


@pytest.mark.parametrize(
    "ratios",
    [
        (0.5, 0.5, 0.5),
        (-0.1, 0.6, 0.5),
        (0, 0, 0),
        (float("nan"), 0, 1),
        (float("nan"),) * 3,
        (float("inf"), 0, float("-inf")),
    ],
)
def test_ratios_that_are_no_shares_are_refused(
    codec: Codec, crop: Pixels, ratios: tuple[float, float, float]
) -> None:
    with pytest.raises(RateError, match="must be shares of 1"):
        codec.compress(crop, ratios=ratios)


def test_a_file_of_another_model_is_refused(codec: Codec, file: bytes) -> None:
    other = replace(Bitstream.from_bytes(file), fingerprint=b"8 bytes!").to_bytes()
    for use in (codec.decompress, codec.inspect):
        with pytest.raises(UnknownFingerprintError, match=b"8 bytes!".hex()):
            use(other)


def test_flipped_bits_of_the_payload_are_noticed(codec: Codec, file: bytes) -> None:
    """The last word aside, whose lowest bits no symbol may need."""
    body = payload(file)
    for bit in np.random.default_rng(0).choice(8 * (len(body) - 4), 200, replace=False):
        damaged = bytearray(body)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BitstreamError, match="the payload is damaged"):
            codec.decompress(with_section(file, Section.PAYLOAD, bytes(damaged)))


def test_flipped_bits_of_the_last_word_never_give_another_image(codec: Codec, file: bytes) -> None:
    body, noticed = payload(file), 0
    original = symbols_of(codec.model, file)
    for bit in range(8 * (len(body) - 4), 8 * len(body)):
        damaged = bytearray(body)
        damaged[bit // 8] ^= 1 << bit % 8
        data = with_section(file, Section.PAYLOAD, bytes(damaged))
        try:
            codec.decompress(data)
        except BitstreamError:
            noticed += 1
        else:
            assert_same_symbols(symbols_of(codec.model, data), original)
    assert noticed > 16


def test_flipped_bits_of_the_checksum_are_noticed(codec: Codec, file: bytes) -> None:
    crc = Bitstream.from_bytes(file).sections[Section.SYMBOL_CRC]
    for bit in range(32):
        damaged = (int.from_bytes(crc, "little") ^ 1 << bit).to_bytes(4, "little")
        with pytest.raises(BitstreamError, match="checksum of its symbols differs"):
            codec.decompress(with_section(file, Section.SYMBOL_CRC, damaged))


def test_payloads_cut_short_or_swapped_are_noticed(codec: Codec, file: bytes) -> None:
    body = payload(file)
    other = payload(codec.compress(np.zeros((96, 128), np.uint8)))
    for damaged in (
        b"",
        body[:4],
        body[:-4],
        body[:-1],
        body[4:],
        body[: len(body) // 8 * 4],
        other,
    ):
        with pytest.raises(BitstreamError, match="payload"):
            codec.decompress(with_section(file, Section.PAYLOAD, damaged))


def test_damaged_alpha_never_gives_another_image(codec: Codec, crop: Pixels) -> None:
    alpha = np.tile(np.arange(128, dtype=np.uint8), (96, 1)) + crop[:, :, 0] // 64
    data = codec.compress(np.dstack([crop, alpha]))
    body, original = Bitstream.from_bytes(data).sections[Section.ALPHA], decoded(codec, data)
    noticed = 0
    for bit in np.random.default_rng(1).choice(8 * len(body), 60, replace=False):
        damaged = bytearray(body)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            found = decoded(codec, with_section(data, Section.ALPHA, bytes(damaged)))
        except BitstreamError:
            noticed += 1
        else:
            np.testing.assert_array_equal(found, original)
    assert noticed > 50


@pytest.mark.parametrize("kind", [Section.ICC, Section.EXIF])
def test_damaged_metadata_never_give_another_image(
    codec: Codec, crop: Pixels, kind: Section
) -> None:
    """What arrays show depends on them."""
    source = Image.fromarray(crop)
    Metadata(icc=swapped_profile(), exif=exif_with_thumbnail("<", behind=False)).attach_to(source)
    data = codec.compress(source)
    body, original = Bitstream.from_bytes(data).sections[kind], codec.decompress(data, "numpy")
    for bit in np.random.default_rng(2).choice(8 * len(body), 40, replace=False):
        damaged = bytearray(body)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            found = codec.decompress(with_section(data, kind, bytes(damaged)), "numpy")
        except BitstreamError:
            continue
        np.testing.assert_array_equal(found, original)


def test_sizes_that_the_payload_cannot_hold_are_refused(codec: Codec, crop: Pixels) -> None:
    stream = Bitstream.from_bytes(codec.compress(crop[:1, :1]))
    for width, height in ((16_000, 16_000), (1 << 24, 1), (1, 1 << 24), (1 << 24, 1 << 24)):
        data = replace(stream, width=width, height=height).to_bytes()
        with pytest.raises(BitstreamError, match="pixels"):
            codec.decompress(data)


def test_symbols_are_the_same_whatever_the_number_of_threads(codec: Codec, crop: Pixels) -> None:
    for encoding, decoding in ((1, 2), (2, 1)):
        with threads(encoding):
            data = codec.compress(crop)
            symbols = symbols_of(codec.model, data)
            image = decoded(codec, data)
        with threads(decoding):
            assert_same_symbols(symbols_of(codec.model, data), symbols)
            assert np.abs(decoded(codec, data).astype(int) - image).max() <= 1


def test_inspect_accounts_for_every_byte(codec: Codec, astronaut: Pixels) -> None:
    alpha = np.tile(np.arange(512) // 2, (512, 1)).astype(np.uint8)
    data = codec.compress(np.dstack([astronaut, alpha]), ratios=(0.3, 0.4, 0.3))
    spent = codec.inspect(data)
    names = {"map_bits", "z_bits", "index_bits", "static_bits", "container_bytes"}
    assert set(spent) == names | {"residual_bytes", "alpha_bytes"}
    sections = Bitstream.from_bytes(data).sections
    assert spent["alpha_bytes"] == len(sections[Section.ALPHA])
    assert spent["residual_bytes"] == len(sections[Section.RESIDUAL])
    bodies = sum(len(sections[k]) for k in (Section.PAYLOAD, Section.ALPHA, Section.RESIDUAL))
    assert spent["container_bytes"] == len(data) - bodies
    coded = spent["map_bits"] + spent["z_bits"] + spent["index_bits"]
    assert 8 * len(sections[Section.PAYLOAD]) == pytest.approx(coded, rel=0.01, abs=64)
    assert spent["static_bits"] == pytest.approx(spent["index_bits"], rel=0.5)


def test_the_facade_names_what_it_has() -> None:
    assert hvqcodec.Codec is Codec
    for name in hvqcodec.__all__:
        assert getattr(hvqcodec, name).__doc__
    for name in hvqcodec.__all__:
        if name.endswith("Error"):
            assert issubclass(getattr(hvqcodec, name), HvqError)
    with pytest.raises(AttributeError, match="no attribute 'Kodec'"):
        hvqcodec.Kodec  # noqa: B018
