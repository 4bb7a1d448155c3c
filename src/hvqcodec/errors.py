"""What can go wrong, as one family: catch `HvqError` to catch it all."""

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_PACKAGE = os.path.dirname(__file__) + os.sep


class HvqError(Exception):
    """Base of every error that hvqcodec raises on purpose. One line, saying what to do."""


class ImageError(HvqError):
    """The input is no image that can be encoded, or cannot be read."""


class FileError(HvqError):
    """A file cannot be read, or must not or cannot be written."""


class BitstreamError(HvqError):
    """The data is no `.hvq` file, or a damaged one."""

    advice = "get the file again, or encode its image again"

    def __str__(self) -> str:
        return f"{super().__str__()}: {self.advice}"


class UnsupportedVersionError(BitstreamError):
    """The file has a newer version of the format, or something newer in it."""

    advice = "a newer release may read it"


class TooManyPixelsError(BitstreamError):
    """The file declares more pixels than the limit allows."""

    advice = "raise the limit (max_pixels, --max-pixels) if you trust the file"


class TooMuchMetadataError(BitstreamError):
    """A piece of the file's metadata has more bytes than the limit allows."""

    advice = "raise the limit (max_metadata_bytes, --max-metadata-bytes) if you trust the file"


class ModelError(HvqError):
    """A model cannot be found, read or trusted."""


class UnknownFingerprintError(ModelError):
    """The file was made with a model that is not at hand."""


class RateError(HvqError):
    """The rate asked for cannot be met."""


class HvqWarning(UserWarning):
    """Something was done otherwise than one might expect. One line."""


class MissingError(HvqError):
    """Something optional is not installed. Says what to install."""


@contextmanager
def in_file(name: object) -> Iterator[None]:
    """What is wrong with a file within the block is wrong with the file of this name."""
    try:
        yield
    except (BitstreamError, UnknownFingerprintError) as error:
        raise type(error)(f"{name}: {error.args[0]}") from None


def is_out_of_memory(error: BaseException) -> bool:
    """Torch says so in errors of several kinds."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and any(words in str(error) for words in ("out of memory", "allocate memory"))
    )


def notice(message: str) -> None:
    """Warn of something that was done otherwise than one might expect, where it was asked for."""
    frame, level = sys._getframe(1), 2
    while frame.f_code.co_filename.startswith(_PACKAGE) and frame.f_back:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, HvqWarning, stacklevel=level)
