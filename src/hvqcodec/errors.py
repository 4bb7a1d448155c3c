"""What can go wrong, as one family: catch `HvqError` to catch it all."""


class HvqError(Exception):
    """Base of every error that hvqcodec raises on purpose. One line, saying what to do."""


class ImageError(HvqError):
    """The input is no image that can be encoded."""


class BitstreamError(HvqError):
    """The data is no `.hvq` file, or a damaged one."""


class UnsupportedVersionError(BitstreamError):
    """The file was made by a newer version of the format."""


class ModelError(HvqError):
    """A model cannot be found, read or trusted."""


class UnknownFingerprintError(ModelError):
    """The file was made with a model that is not at hand."""


class RateError(HvqError):
    """The rate asked for cannot be met."""
