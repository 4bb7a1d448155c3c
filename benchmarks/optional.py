"""Packages that one metric, one codec or the plot needs, and the rest does without."""

import importlib
from types import ModuleType


class MissingError(Exception):
    """Something optional cannot be had here; the text says in one line what to do about it."""


def require(module: str, package: str) -> ModuleType:
    """The module, or a MissingError that names its package."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingError(f"install the package {package} ({error})") from error
