"""The codec: an image to the bytes of an `.hvq` file, and back."""

from os import PathLike

import torch
from PIL import Image

from hvqcodec import rate
from hvqcodec.bitstream import Bitstream, Section
from hvqcodec.encoding import Scene, analyse
from hvqcodec.entropy.budget import bit_budget
from hvqcodec.entropy.map_coding import Levels
from hvqcodec.entropy.symbol_coding import Symbols, decode_symbols, encode_symbols
from hvqcodec.errors import BitstreamError, ImageError, RateError, UnknownFingerprintError
from hvqcodec.granularity import allocate_by_entropy, level_masks
from hvqcodec.image import (
    ImageSource,
    Picture,
    from_blocks,
    pack_alpha,
    read_picture,
    to_blocks,
    unpack_alpha,
)
from hvqcodec.models.cards import DEFAULT
from hvqcodec.models.zoo import LoadedModel, load_model
from hvqcodec.timing import step

MAX_PIXELS = 256_000_000
"""Larger images are refused."""


class Codec:
    """A loaded model that turns images into `.hvq` files and back.

    >>> codec = Codec.load()
    >>> data = codec.compress(photo, bpp=0.2)
    >>> image = codec.decompress(data)
    """

    def __init__(self, model: LoadedModel) -> None:
        self.model = model

    @classmethod
    def load(cls, name_or_path: str | PathLike[str] = DEFAULT, *, device: str = "cpu") -> "Codec":
        """Load a model by its name or by the path of its `.safetensors` file.

        Raises ModelError. The entropy path runs on the CPU whatever the device.
        """
        return cls(load_model(name_or_path, device))

    def compress(
        self,
        image: ImageSource,
        *,
        quality: float | None = None,
        bpp: float | None = None,
        max_bytes: int | None = None,
        ratios: tuple[float, float, float] | None = None,
    ) -> bytes:
        """The bytes of an `.hvq` file. Give at most one of the four choices.

        image: PIL image, (H, W[, 3 or 4]) uint8 array, or path. EXIF orientation is
            applied, colours become sRGB, alpha is kept without loss.
        quality: 0 ... 100, the same trade of size for looks on every image; 50 if nothing
            is said.
        bpp: bits per pixel, transparency not counted; met within 1 % or 16 bytes, or the
            most that the model can spend on this image.
        max_bytes: size of the whole file, never exceeded and filled as far as that goes.
        ratios: shares of (fine, medium, coarse) blocks, ranked by their entropy as in
            Control-GIC.
        Raises ImageError, and RateError for a rate that cannot be met.
        """
        if sum(choice is not None for choice in (quality, bpp, max_bytes, ratios)) > 1:
            raise RateError("give one of quality, bpp, max_bytes and ratios, not several")
        check_target("bpp", bpp)
        check_target("max_bytes", max_bytes)
        lambda_ = rate.lambda_of_quality(rate.DEFAULT_QUALITY if quality is None else quality)
        with step("read"):
            picture = read_picture(image)
        height, width = picture.rgb.shape[:2]
        if height * width > MAX_PIXELS:
            raise ImageError(f"the image has {height * width} pixels, more than {MAX_PIXELS}")
        scene = analyse(
            self.model.networks,
            to_blocks(picture.rgb).to(self._device),
            self.model.normative.index_tables.static,
        )

        alpha = pack_alpha(picture.alpha) if picture.alpha is not None else None
        if ratios is not None:
            return self._code(picture, alpha, scene, entropy_map(picture, ratios))
        if bpp is None and max_bytes is None:
            return self._code(picture, alpha, scene, scene.allocate(lambda_))
        aside = len(alpha) if bpp is not None and alpha is not None else 0

        def code(lambda_: float) -> rate.Coded:
            data = self._code(picture, alpha, scene, scene.allocate(lambda_))
            return rate.Coded(data, len(data) - aside)

        return rate.meet_target(
            code,
            lambda value: scene.estimated_bits(scene.allocate(value)),
            round(bpp * height * width / 8) if bpp is not None else int(max_bytes or 0),
            never_exceed=max_bytes is not None,
        )

    def _code(self, picture: Picture, alpha: bytes | None, scene: Scene, levels: Levels) -> bytes:
        symbols = scene.symbols(levels)
        sections: dict[int, bytes] = {
            Section.PAYLOAD: encode_symbols(self.model.normative, symbols),
            Section.SYMBOL_CRC: symbols.crc().to_bytes(4, "little"),
        }
        if alpha is not None:
            sections[Section.ALPHA] = alpha
        height, width = picture.rgb.shape[:2]
        return Bitstream(self.model.fingerprint, width, height, picture.mode, sections).to_bytes()

    def decompress(self, data: bytes) -> Image.Image:
        """The image of an `.hvq` file: mode L, LA, RGB or RGBA.

        Raises BitstreamError for damaged data and UnknownFingerprintError for a file of
        another model.
        """
        stream = Bitstream.from_bytes(data)
        symbols = self._symbols(stream)
        with step("synthesis"):
            pixels = self._synthesise(symbols)
        with step("write"):
            rgb = from_blocks(pixels, stream.height, stream.width)
            alpha = stream.sections.get(Section.ALPHA)
            plane = unpack_alpha(alpha, stream.height, stream.width) if alpha is not None else None
            return Picture(rgb, stream.mode, plane).to_pil()

    def _symbols(self, stream: Bitstream) -> Symbols:
        if stream.fingerprint != self.model.fingerprint:
            raise UnknownFingerprintError(
                f"the file was made with the model {stream.fingerprint.hex()}, loaded is "
                f"{self.model.fingerprint.hex()}: load the model that made it"
            )
        if stream.width * stream.height > MAX_PIXELS:
            raise BitstreamError(f"the file declares more than {MAX_PIXELS} pixels")
        rows, columns = -(-stream.height // 16), -(-stream.width // 16)
        payload = stream.sections[Section.PAYLOAD]
        symbols = decode_symbols(self.model.normative, payload, rows, columns)
        if symbols.crc() != int.from_bytes(stream.sections[Section.SYMBOL_CRC], "little"):
            raise BitstreamError("the payload is damaged: the checksum of its symbols differs")
        return symbols

    @torch.inference_mode()
    def _synthesise(self, symbols: Symbols) -> torch.Tensor:
        """(1, 3, H', W') about [-1, 1]."""
        networks = self.model.networks
        levels = torch.from_numpy(symbols.levels)[None]
        planes = []
        for mask, index in zip(level_masks(levels), symbols.indices, strict=True):
            plane = torch.zeros((*mask.shape[2:], networks.config.dimensions))
            where = mask[0, 0]
            entries = networks.codebook.weight.cpu()
            plane[where] = torch.nn.functional.normalize(entries, dim=1)[
                torch.from_numpy(index).long()
            ]
            planes.append(plane.permute(2, 0, 1)[None].to(self._device))
        image: torch.Tensor = networks.synthesis(tuple(planes), levels.to(self._device))
        return image

    def inspect(self, data: bytes) -> dict[str, float]:
        """Where the bits of a file go: index_bits, z_bits, map_bits, container_bytes, and
        static_bits, what the same indices would cost under static frequencies."""
        stream = Bitstream.from_bytes(data)
        budget = bit_budget(self.model.normative, self._symbols(stream))
        bodies = sum(
            len(body) for kind, body in stream.sections.items() if kind != Section.SYMBOL_CRC
        )
        return budget | {"container_bytes": float(len(data) - bodies)}

    @property
    def _device(self) -> torch.device:
        return self.model.networks.codebook.weight.device


def check_target(name: str, value: float | None) -> None:
    if value is not None and not 0 < value < float("inf"):
        raise RateError(f"{name} must be a positive number, not {value}")


def entropy_map(picture: Picture, ratios: tuple[float, float, float]) -> Levels:
    """The map of the `entropy` rule."""
    if not (min(ratios) >= 0 and abs(sum(ratios) - 1) <= 1e-6):
        raise RateError(f"the ratios fine, medium, coarse must be shares of 1, not {ratios}")
    grey = to_blocks(picture.rgb).mean(1)[0].add(1).mul(127.5).round().to(torch.uint8)
    levels: Levels = allocate_by_entropy(grey, ratios).numpy()
    return levels
