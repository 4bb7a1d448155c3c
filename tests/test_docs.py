"""What README and documentation show runs as it stands: the blocks of a page in their order, in
a folder of their own with photo.png. And the site is built of them."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from hvqcodec.models.cards import DEFAULT, list_models
from tests.helpers import TESTS, Pixels
from tests.test_cli import call, said

ROOT = TESTS.parent
PAGES = {path.name: path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
PLAIN = ("comparison.md", "format.md", "reference.md", "trust.md")
"""Pages that show nothing to run, or commands of the repository."""


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


@pytest.mark.parametrize("name", PAGES)
def test_files_that_a_page_links_to_are_there(name: str) -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", PAGES[name].read_text("utf-8"))
    assert [link for link in links if not (PAGES[name].parent / link).exists()] == []


@pytest.mark.skipif(DEFAULT not in list_models(), reason="no model is embedded")
@pytest.mark.parametrize("name", PAGES)
def test_a_page_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, astronaut: Pixels
) -> None:
    # The face, since pages code it often.
    Image.fromarray(astronaut[:320, 64:384]).save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    ran = 0
    for kind, block in blocks_of(PAGES[name].read_text("utf-8")):
        if kind == "python":
            exec(compile(block, name, "exec"), {"__name__": "__main__"})
            ran += 1
        for command in commands_of(block) if kind == "console" else ():
            assert command[0] == "hvq"
            result = call(tmp_path, *command[1:])
            assert (result.returncode, result.stderr.decode()) == (0, ""), command
            ran += 1
    assert bool(ran) != (name in PLAIN)


def test_the_site_is_built(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    reference = (tmp_path / "reference" / "index.html").read_text("utf-8")
    for name in ("compress", "decompress_file", "Codec.compress", "UnknownFingerprintError"):
        assert name in reference
    assert "bits needed for the same" in (tmp_path / "comparison" / "index.html").read_text("utf-8")
    for page in tmp_path.rglob("*.html"):
        # Links may lead elsewhere; nothing is fetched from there.
        fetched = re.findall(
            r'<(?:script|img|link)[^>]+(?:src|href)="(https?://[^"]+)"', page.read_text("utf-8")
        )
        assert [url for url in fetched if "canonical" not in url] == []


def test_commands_of_this_test_run_in_this_process(tmp_path: Path) -> None:
    assert said(call(tmp_path, "models", "list")).split() == list_models()
