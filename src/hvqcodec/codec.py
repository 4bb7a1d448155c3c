"""The codec: an image to the bytes of an `.hvq` file, and back."""

from os import PathLike
from typing import Literal, Unpack, get_args, overload

import torch
from PIL import Image

from hvqcodec import correction, rate
from hvqcodec.allocation import allocate_by_entropy
from hvqcodec.alpha import unpack_alpha
from hvqcodec.arrays import Floats, Pixels
from hvqcodec.bitstream import METADATA, Bitstream, Section
from hvqcodec.choices import DEFAULT_EFFORT, DecodingChoices, Effort
from hvqcodec.decoding import synthesise
from hvqcodec.entropy.budget import bit_budget, index_bits_by_cell
from hvqcodec.entropy.residual_coding import Residual
from hvqcodec.entropy.symbol_coding import Symbols, decode_stream
from hvqcodec.entropy.tone_coding import Tone
from hvqcodec.errors import (
    BitstreamError,
    RateError,
    TooManyPixelsError,
    UnknownFingerprintError,
)
from hvqcodec.granularity import BLOCK, MEDIUM, Levels
from hvqcodec.image import (
    ImageResult,
    ImageSource,
    Picture,
    ResultKind,
    read_picture,
    to_result,
)
from hvqcodec.importance import cell_weights
from hvqcodec.limits import MAX_METADATA_BYTES, MAX_PIXELS, check_limit, is_too_large, too_large
from hvqcodec.metadata import Metadata
from hvqcodec.models.cards import DEFAULT
from hvqcodec.models.zoo import LoadedModel, load_model
from hvqcodec.picture_coding import PictureCoder
from hvqcodec.pixels import to_grey
from hvqcodec.tiling import UNTILED, Progress, Stages
from hvqcodec.timing import step

CODE_STEPS = {"best": 4, "max": 6}
"""Of the descent to better codes, by effort."""
LATENT_ROUNDS = {"best": 4, "max": 8}
"""Of changes to z, likewise."""


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
        """Load a model by its name, the path of its `.safetensors` file, or
        `hub:organisation/name[@revision]`.

        Raises ModelError. The entropy path runs on the CPU whatever the device.

        >>> codec = Codec.load("base", device="cpu")
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
        strict_rate: bool = False,
        strip: bool = False,
        importance: ImageSource | None = None,
        effort: Effort = DEFAULT_EFFORT,
        tile: int | None = None,
        max_pixels: int = MAX_PIXELS,
        progress: Progress | None = None,
    ) -> bytes:
        """The bytes of an `.hvq` file. Give at most one of the first four choices.

        image: PIL image; path, open file or bytes of an image file; uint8 array, (H, W) or
            (H, W, 1 ... 4); tensor of uint8 or of floats in [0, 1], (1 ... 4, H, W). Channels:
            grey, grey and alpha, RGB, RGBA. Alpha is kept without loss.
        quality: 0 ... 100, the same trade of size for looks on every image; 50 if nothing
            is said.
        bpp: bits per pixel, all bytes but metadata; met within 1 % or 16 bytes, whichever
            is larger. An image that cannot use so many is coded at its maximum.
        max_bytes: size of the whole file, never exceeded and filled as far as that goes.
        ratios: shares of (fine, medium, coarse) blocks, ranked by their entropy as in
            Control-GIC (arXiv 2406.00758, section 3.2).
        strict_rate: raise RateError where an image cannot have so many bits per pixel (`bpp`).
        strip: drop EXIF, XMP, resolution and colour profile, after turning the image
            upright and into sRGB.
        importance: an image of the same size, whose brightness says how much errors count there
            when blocks share out the bits: white most, black hardly. Not with ratios.
        effort: "fast" takes the codes that the analysis guesses. "best" looks for codes that look
            better once decoded and for the z that makes the file smallest, in several times the
            time. "max" looks longer, and measures on three trial decodings what the others
            predict when they choose the granularity of each block. Files decode as quickly.
            "auto" is "best" up to 4 megapixels, "fast" above.
        tile: side in pixels of the squares in which the networks take the image, which
            bounds the memory; chosen by its size if nothing is said.
        max_pixels: a larger image is refused, and one of few rows or columns that has more than
            twice as many with sides raised to multiples of 16. Of files Pillow refuses those
            above twice its own limit as well, `PIL.Image.MAX_IMAGE_PIXELS`, and warns above it.
        progress: called with the share of the work that is done, from 0 to 1.
        Raises ImageError, and RateError for a rate that cannot be met. Warns with
        HvqWarning where the image is coded otherwise than one might expect.

        >>> data = Codec.load().compress(photo, bpp=0.2)
        >>> round(8 * len(data) / (320 * 320), 1)
        0.2
        """
        rate.check_choices(quality, bpp, max_bytes, ratios, strict_rate)
        if importance is not None and ratios is not None:
            raise RateError("importance does not go with ratios, which look at no errors")
        if effort not in get_args(Effort):
            raise ValueError(f"effort must be one of {get_args(Effort)}, not {effort!r}")
        stages = Stages(as_called(progress))
        with step("read"):
            picture = read_picture(image, strip, max_pixels)
            weights = None
            if importance is not None:
                weights = cell_weights(importance, picture, strip, max_pixels)
        coder = self._coder(picture, tile, stages)
        if effort == "auto":
            effort = "best" if picture.pixels <= UNTILED else "fast"

        def refine(draft: rate.Coded) -> rate.Coded:
            if effort == "fast":
                return draft
            better = coder.refine_codes(draft, CODE_STEPS[effort])
            return coder.refine_latents(better, LATENT_ROUNDS[effort])

        if effort == "max" and ratios is None:  # which look at neither distortion nor price
            coder.measure()
        if weights is not None:
            coder.weigh(weights)
        fixed = coder.alpha_bytes, coder.metadata_bytes
        target = rate.target_of(bpp, max_bytes, picture.pixels, strict_rate, *fixed)
        lambda_ = rate.lambda_of_quality(quality)
        if target is not None:
            data = rate.meet_target(coder.at, coder.estimated_bits, target, refine, coder.finish)
        elif ratios is not None:
            levels = allocate_by_entropy(to_grey(coder.blocks), ratios)
            data = coder.finish(refine(coder.with_map(levels, lambda_)), rate.Room()).data
        else:
            data = coder.finish(refine(coder.at(lambda_)), rate.Room()).data
        stages.end()
        return data

    def _coder(self, picture: Picture, tile: int | None, stages: Stages) -> PictureCoder:
        return PictureCoder(self.model, picture, tile, stages)

    @overload
    def decompress(
        self, data: bytes, output: Literal["pil"] = "pil", **choices: Unpack[DecodingChoices]
    ) -> Image.Image: ...
    @overload
    def decompress(
        self, data: bytes, output: Literal["numpy"], **choices: Unpack[DecodingChoices]
    ) -> Pixels: ...
    @overload
    def decompress(
        self, data: bytes, output: Literal["torch"], **choices: Unpack[DecodingChoices]
    ) -> torch.Tensor: ...
    @overload
    def decompress(
        self, data: bytes, output: ResultKind, **choices: Unpack[DecodingChoices]
    ) -> ImageResult: ...
    def decompress(
        self,
        data: bytes,
        output: ResultKind = "pil",
        *,
        tile: int | None = None,
        max_pixels: int = MAX_PIXELS,
        max_metadata_bytes: int = MAX_METADATA_BYTES,
        progress: Progress | None = None,
    ) -> ImageResult:
        """The image of an `.hvq` file.

        output: "pil" for a PIL image, mode L, LA, RGB or RGBA, pixels as they were stored,
            with EXIF, XMP, profile and resolution in its `info`; "numpy" for a uint8 array,
            (H, W) if grey, else (H, W, C); "torch" for a uint8 tensor, (C, H, W). Array and
            tensor are upright and in sRGB.
        tile, progress: as in `compress`.
        max_pixels: a file that declares more is refused; before memory is taken for it, as
            is one that declares more than its bytes can hold.
        max_metadata_bytes: a file with a larger piece of metadata is refused.
        Raises BitstreamError for damaged data and UnknownFingerprintError for a file of
        another model.

        >>> codec = Codec.load()
        >>> codec.decompress(codec.compress(photo), output="torch").shape
        torch.Size([3, 320, 320])
        """
        if output not in get_args(ResultKind):
            raise ValueError(f"output must be one of {get_args(ResultKind)}, not {output!r}")
        check_limit("max_metadata_bytes", max_metadata_bytes)
        stream = Bitstream.from_bytes(data)
        symbols = self._symbols(stream, max_pixels)
        metadata = Metadata.from_sections(stream.sections, max_metadata_bytes)
        alpha = stream.sections.get(Section.ALPHA)
        plane = unpack_alpha(alpha, stream.height, stream.width) if alpha is not None else None
        corrections = corrections_of(stream, symbols).values()
        with step("synthesis"):
            pixels = synthesise(self.model.networks, symbols, tile, as_called(progress))
        with step("residual"):
            for found in corrections:
                correction.add(pixels, found.grids())
        with step("write"):
            rgb = pixels[: stream.height, : stream.width]
            return to_result(Picture(rgb, stream.mode, plane, metadata).to_pil(), output)

    def _symbols(self, stream: Bitstream, max_pixels: int) -> Symbols:
        check_limit("max_pixels", max_pixels)
        if stream.fingerprint != self.model.fingerprint:
            raise UnknownFingerprintError(
                f"the file was made with the model {stream.fingerprint.hex()}, loaded is "
                f"{self.model.fingerprint.hex()}: load the model that made it"
            )
        if is_too_large(stream.width, stream.height, max_pixels):
            raise TooManyPixelsError(
                f"the file declares {too_large(stream.width, stream.height, max_pixels)}"
            )
        symbols = decode_stream(self.model.normative, stream)
        if symbols.crc() != int.from_bytes(stream.sections[Section.SYMBOL_CRC], "little"):
            raise BitstreamError("the payload is damaged: the checksum of its symbols differs")
        return symbols

    def inspect(self, data: bytes, *, max_pixels: int = MAX_PIXELS) -> dict[str, float]:
        """Where the bits of a file go: index_bits, z_bits, map_bits, container_bytes, if it has
        any residual_bytes (or tone_bytes), alpha_bytes and metadata_bytes, and static_bits, what
        the same indices would cost under static frequencies.

        Raises as `decompress` does.

        >>> codec = Codec.load()
        >>> budget = codec.inspect(codec.compress(photo))
        >>> budget["index_bits"] < budget["static_bits"]
        True
        """
        stream = Bitstream.from_bytes(data)
        symbols = self._symbols(stream, max_pixels)
        budget = bit_budget(self.model.normative, symbols, stream.scope)
        bodies = sum(
            len(body) for kind, body in stream.sections.items() if kind != Section.SYMBOL_CRC
        )
        budget["container_bytes"] = float(len(data) - bodies)
        for kind in corrections_of(stream, symbols):
            budget[f"{kind.name.lower()}_bytes"] = float(len(stream.sections[kind]))
        for name, kinds in (("alpha", (Section.ALPHA,)), ("metadata", METADATA)):
            if there := [len(stream.sections[kind]) for kind in kinds if kind in stream.sections]:
                budget[f"{name}_bytes"] = float(sum(there))
        return budget

    def maps(self, data: bytes, *, max_pixels: int = MAX_PIXELS) -> tuple[Levels, Floats]:
        """Where a file spends its bits: for each 8x8 pixels its level (0 sent as a part of
        16x16, 1 as 8x8, 2 as four of 4x4) and the bits of its indices, (H', W') each, the
        sides those of the image divided by 16, rounded up, and doubled.

        Raises as `decompress` does.

        >>> codec = Codec.load()
        >>> levels, bits = codec.maps(codec.compress(photo))
        >>> levels.shape
        (40, 40)
        """
        stream = Bitstream.from_bytes(data)
        symbols = self._symbols(stream, max_pixels)
        bits = index_bits_by_cell(self.model.normative, symbols, stream.scope)
        return symbols.levels, bits


def as_called(progress: Progress | None) -> Progress | None:
    """The caller's function in the caller's modes of torch, wherever it is told."""
    if progress is None:
        return None
    inference, grad = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    def told(share: float) -> None:
        with torch.inference_mode(inference), torch.set_grad_enabled(grad):
            progress(share)

    return told


def corrections_of(stream: Bitstream, symbols: Symbols) -> dict[Section, Tone | Residual]:
    """What a file has to be added to its pixels, in this order; raises BitstreamError."""
    height, width = (BLOCK[MEDIUM] * side for side in symbols.levels.shape)
    found: dict[Section, Tone | Residual] = {}
    if (body := stream.sections.get(Section.TONE)) is not None:
        found[Section.TONE] = Tone.from_bytes(body, height, width)
    if (body := stream.sections.get(Section.RESIDUAL)) is not None:
        found[Section.RESIDUAL] = Residual.from_bytes(body, height, width)
    return found
