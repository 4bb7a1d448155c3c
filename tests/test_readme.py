"""What the README shows runs as it stands, in its order, in one folder with photo.png."""

import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

from hvqcodec.models.cards import DEFAULT, list_models
from tests.helpers import TESTS, Pixels
from tests.test_cli import succeed

README = (TESTS.parent / "README.md").read_text()


def blocks_of(text: str) -> list[tuple[str, str]]:
    """(language, content) of the fenced blocks, in order."""
    found = re.findall(r"^```(\w*)[^\n]*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(language, content) for language, content in found]


def commands_of(block: str) -> list[list[str]]:
    """Words of the lines after `$ `; a backslash at the end joins the next line."""
    joined = block.replace("\\\n", " ")
    return [shlex.split(line[2:]) for line in joined.splitlines() if line.startswith("$ ")]


def test_blocks_are_found() -> None:
    python, plain = "```python\nx = 1\n```\n", "```\nplain\n```\n"
    console = "$ hvq info \\\n  'a b'\nout\n"
    text = f"a\n{python}b\n{plain}```console\n{console}```\n"
    assert blocks_of(text) == [("python", "x = 1\n"), ("", "plain\n"), ("console", console)]
    assert commands_of(console) == [["hvq", "info", "a b"]]


def test_every_shown_command_is_of_hvq() -> None:
    shown = [
        c for kind, block in blocks_of(README) if kind == "console" for c in commands_of(block)
    ]
    assert len(shown) >= 3
    assert {command[0] for command in shown} == {"hvq"}


def test_files_that_the_readme_links_to_are_there() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (TESTS.parent / link).exists()] == []


@pytest.mark.skipif(DEFAULT not in list_models(), reason="no model is embedded")
def test_the_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, astronaut: Pixels
) -> None:
    Image.fromarray(astronaut).save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    ran = {"python": 0, "console": 0}
    for kind, block in blocks_of(README):
        if kind == "python":
            exec(compile(block, "README.md", "exec"), {"__name__": "__main__"})
        elif kind == "console":
            for command in commands_of(block):
                succeed(tmp_path, *command[1:])
        ran[kind] = ran.get(kind, 0) + 1
    assert ran["python"] >= 1
    assert ran["console"] >= 1
