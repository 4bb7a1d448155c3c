"""The plugin for Pillow. After `import hvqcodec.pillow` Pillow opens and saves `.hvq` files.

>>> from PIL import Image
>>> import hvqcodec.pillow
>>> photo.save("photo.hvq", bpp=0.2)
>>> with Image.open("photo.hvq") as image:
...     image.size, image.mode
((320, 320), 'RGB')
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import SEEK_END
from typing import IO, Any

from PIL import Image, ImageFile, UnidentifiedImageError

from hvqcodec.bitstream import MAX_HEADER_BYTES, METADATA, SIGNATURE, Bitstream, Header
from hvqcodec.choices import Choices
from hvqcodec.errors import BitstreamError, HvqError
from hvqcodec.exif import EXIF_PREFIX, RAW_EXIF
from hvqcodec.facade import compress, decompress
from hvqcodec.limits import MAX_PIXELS
from hvqcodec.metadata import Metadata
from hvqcodec.probing import image_mode

FORMAT = "HVQ"
SUFFIX = ".hvq"
MIME_TYPE = "image/x-hvq"

_OPTIONS = (*Choices.__annotations__, "model", "device")


class HvqImageFile(ImageFile.ImageFile):
    """An opened file. Size, mode and metadata are read at once; the pixels are decoded when
    they are asked for first, by the model inside the package that made them.

    Raises OSError for what is damaged, as Pillow does.
    """

    format = FORMAT
    format_description = "hvqcodec"

    def _open(self) -> None:
        try:
            header = Header.from_bytes(self._read(slice(0, MAX_HEADER_BYTES)))
            spans = {kind: span for kind, span in header.spans().items() if kind in METADATA}
            # Before memory is taken for what the file only claims to hold.
            file_bytes = self._fp_or_error().seek(0, SEEK_END)
            if any(span.stop > file_bytes for span in spans.values()):
                raise BitstreamError("the file is truncated")
            bodies = {kind: self._read(span) for kind, span in spans.items()}
            Metadata.from_sections(bodies).attach_to(self)
        except BitstreamError as error:
            raise UnidentifiedImageError(str(error)) from error
        self._size = header.width, header.height
        self._mode = image_mode(header.mode, header.lengths)
        # Pillow's sign that there are pixels to be read still.
        self.tile = [ImageFile._Tile("hvq", (0, 0, *self.size), 0, self.mode)]

    def load(self) -> Any:
        """Decode, the first time."""
        if self.tile:
            with os_errors():
                data = self._read(slice(0, None))
                # Pillow has its own limit, which has let the file pass.
                image = decompress(data, max_pixels=max(self.width * self.height, MAX_PIXELS))
            self.im, self.tile = image.im, []
            if self._exclusive_fp:
                self._fp_or_error().close()
            self.fp = None
        return super().load()

    def load_seek(self, pos: int) -> None:
        """Tells `PIL.ImageFile.Parser` that it has no decoder for the bytes as they come."""

    def verify(self) -> None:
        """Raise OSError where the container is damaged or not all there."""
        with os_errors():
            Bitstream.from_bytes(self._read(slice(0, None)))
        super().verify()

    def _read(self, span: slice) -> bytes:
        file = self._fp_or_error()
        file.seek(span.start)
        return file.read(-1 if span.stop is None else span.stop - span.start)

    def _fp_or_error(self) -> IO[bytes]:
        if self.fp is None:
            raise ValueError("Operation on closed image")
        return self.fp


def save(image: Image.Image, file: IO[bytes], filename: str | bytes) -> None:
    """What `Image.save` calls. Options are those of `hvqcodec.compress`; `exif`,
    `icc_profile`, `xmp` and `dpi` replace what the image itself carries. Others are ignored,
    as by all of Pillow's writers. Of an animation the present frame is saved.

    Raises OSError for an image that cannot be encoded and a rate that it cannot have.
    """
    given = getattr(image, "encoderinfo", {})
    with os_errors():
        metadata = Metadata.of(image)
        if "icc_profile" in given:
            metadata = replace(metadata, icc=given["icc_profile"] or b"")
        if "exif" in given:
            metadata = replace(metadata, exif=_exif_bytes(given["exif"]))
        if "xmp" in given:
            metadata = replace(metadata, xmp=given["xmp"] or b"")
        if "dpi" in given:
            metadata = replace(metadata, dpi=given["dpi"])
        frame = image.copy()
        if image.format == "PNG":  # which means its transparent colour in its own way
            frame.format = image.format
        for key in ("icc_profile", "exif", "xmp", "dpi", RAW_EXIF):
            frame.info.pop(key, None)
        metadata.attach_to(frame)
        file.write(compress(frame, **{key: given[key] for key in _OPTIONS if key in given}))


def _exif_bytes(exif: Image.Exif | bytes | None) -> bytes:
    raw = exif.tobytes() if isinstance(exif, Image.Exif) else exif or b""
    return raw.removeprefix(EXIF_PREFIX)


@contextmanager
def os_errors() -> Iterator[None]:
    """The package's errors as the kind that Pillow's users catch."""
    try:
        yield
    except HvqError as error:
        raise OSError(str(error)) from error


def register() -> None:
    """Make the format known to Pillow; importing this module does."""
    Image.register_open(FORMAT, HvqImageFile, lambda prefix: prefix.startswith(SIGNATURE))
    Image.register_save(FORMAT, save)
    Image.register_extension(FORMAT, SUFFIX)
    Image.register_mime(FORMAT, MIME_TYPE)


register()
