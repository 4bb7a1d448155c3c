"""The progress bars, on a real pseudo-terminal."""

import os
import pty
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from hvqcodec.batch import Record, Summary
from hvqcodec.cli import terminal
from hvqcodec.cli.many import counting_bar
from hvqcodec.cli.terminal import OneLine, progress_bar
from hvqcodec.errors import notice


def shown(monkeypatch: pytest.MonkeyPatch, work: Callable[[], None]) -> str:
    """What a terminal shows of work."""
    controller, end = pty.openpty()
    with os.fdopen(end, "w") as screen:
        monkeypatch.setattr(sys, "stderr", screen)
        work()
        screen.write("end")
        screen.flush()
        text = ""
        while not text.endswith("end"):
            text += os.read(controller, 4096).decode()
    os.close(controller)
    return text


def half_and_end() -> None:
    with progress_bar("encoding") as progress:
        progress(0.5)
        progress(1.0)


def test_long_work_shows_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "QUIET_SECONDS", 0.0)
    text = shown(monkeypatch, half_and_end)
    assert "encoding" in text
    assert "50%" in text
    assert "100%" in text


def test_short_work_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "QUIET_SECONDS", 60.0)
    assert shown(monkeypatch, half_and_end) == "end"


def test_a_file_gets_no_bar(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(terminal, "QUIET_SECONDS", 0.0)
    with (tmp_path / "log").open("w") as log:
        monkeypatch.setattr(sys, "stderr", log)
        half_and_end()
    assert not (tmp_path / "log").read_text()


def three_photos() -> None:
    """One encoded, one skipped, one failed."""
    failed = Record("c.png", "c.hvq", None, None, 0.1, "c.png: no image", [], None, "")
    with counting_bar(3, "encoding") as report:
        report(Summary(3, written=1), Record("a.png", "a.hvq", 9, 0.1, 0.1, None, [], "", ""))
        report(Summary(3, written=1, skipped=1), None)
        report(Summary(3, written=1, skipped=1, failed=1), failed)


def test_a_batch_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, three_photos)
    assert "3/3" in text
    assert "photos/s, 1 skipped, 1 failed" in text
    # The failure has a line of its own, off that of the bar.
    assert "\r\x1b[KError: c.png: no image\r\n" in text


@click.group(cls=OneLine)
def command() -> None:
    """Of commands that go on after a notice."""


@command.command()
def serve() -> None:
    with progress_bar("serving") as progress:
        progress(0.5)
        notice("a photo is odd")
        warnings.warn("the inside of a file is odd", stacklevel=1)
        click.echo("answered", err=True)


def test_notices_come_when_they_are_due(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "QUIET_SECONDS", 0.0)

    def work() -> None:
        with pytest.raises(SystemExit):
            command(["serve"])

    text = shown(monkeypatch, work)
    assert "\r\x1b[KNotice: a photo is odd\r\nanswered\r\n" in text
    assert "inside" not in text


def test_a_batch_into_a_file_says_what_failed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with (tmp_path / "log").open("w") as log:
        monkeypatch.setattr(sys, "stderr", log)
        three_photos()
    assert (tmp_path / "log").read_text() == "Error: c.png: no image\n"
