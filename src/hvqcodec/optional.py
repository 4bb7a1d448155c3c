"""Packages that something optional needs, and the rest does without."""

import importlib
from types import ModuleType

from hvqcodec.errors import MissingError


def require(module: str, extra: str) -> ModuleType:
    """The module, or a MissingError that names the extra which brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingError(f"this needs pip install 'hvqcodec[{extra}]' ({error})") from error
