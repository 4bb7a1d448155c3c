"""Every example in a docstring runs as it stands, in a folder of its own with photo.png."""

import doctest
import importlib
import inspect
import pkgutil
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import hvqcodec
from hvqcodec import Codec
from hvqcodec.models.cards import DEFAULT, list_models
from tests.helpers import Pixels


def find_examples() -> dict[str, doctest.DocTest]:
    """By name, of all modules of the package."""
    names = [m.name for m in pkgutil.walk_packages(hvqcodec.__path__, "hvqcodec.")]
    modules = [hvqcodec, *map(importlib.import_module, names)]
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = [test for module in modules for test in finder.find(module)]
    return {test.name: test for test in found if test.examples}


EXAMPLES = find_examples()


def public() -> dict[str, Any]:
    """Functions and methods that users call."""
    calls = {name: getattr(hvqcodec, name) for name in hvqcodec.__all__}
    for name, thing in list(calls.items()):
        if is_dataclass(thing) or (inspect.isclass(thing) and issubclass(thing, BaseException)):
            del calls[name]
    methods = inspect.getmembers(Codec, callable)
    return calls | {f"Codec.{name}": m for name, m in methods if not name.startswith("_")}


def test_everything_public_has_an_example() -> None:
    assert {"compress", "decompress_file", "probe", "Codec", "Codec.load"} <= set(public())
    names = {f"{thing.__module__}.{thing.__qualname__}" for thing in public().values()}
    assert names - set(EXAMPLES) == set()


@pytest.mark.skipif(DEFAULT not in list_models(), reason="no model is embedded")
@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_are_true(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, astronaut: Pixels
) -> None:
    photo = Image.fromarray(astronaut[:320, 64:384])
    photo.save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    test = EXAMPLES[name]
    test.globs = {"hvqcodec": hvqcodec, "Codec": Codec, "photo": photo}
    said: list[str] = []
    result = doctest.DocTestRunner(verbose=False).run(test, out=said.append)
    assert result.failed == 0, "".join(said)
    assert result.attempted > 0
