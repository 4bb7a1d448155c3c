"""Packages that something optional needs, and the rest does without."""

import importlib
from types import ModuleType

from hvqcodec.errors import MissingError


def require(module: str, extra: str) -> ModuleType:
    """The module, or a MissingError that names the extra which brings it, or why it does not load
    although it is there."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingError(f"this needs pip install 'hvqcodec[{extra}]' ({error})") from error
    except ImportError as error:
        raise MissingError(f"{module} does not load ({error})") from error
