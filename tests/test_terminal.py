"""The progress bar, on a real pseudo-terminal."""

import os
import pty
import sys
from pathlib import Path

import pytest

from hvqcodec.cli import terminal
from hvqcodec.cli.terminal import progress_bar


def shown(monkeypatch: pytest.MonkeyPatch, quiet: float) -> str:
    """What a terminal shows of work that goes to its half and then to its end."""
    monkeypatch.setattr(terminal, "QUIET_SECONDS", quiet)
    controller, end = pty.openpty()
    with os.fdopen(end, "w") as screen:
        monkeypatch.setattr(sys, "stderr", screen)
        with progress_bar("encoding") as progress:
            progress(0.5)
            progress(1.0)
        screen.write("end")
        screen.flush()
        text = ""
        while "end" not in text:
            text += os.read(controller, 4096).decode()
    os.close(controller)
    return text


def test_long_work_shows_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, quiet=0.0)
    assert "encoding" in text
    assert "50%" in text
    assert "100%" in text


def test_short_work_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, quiet=60.0) == "end"


def test_a_file_gets_no_bar(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(terminal, "QUIET_SECONDS", 0.0)
    with (tmp_path / "log").open("w") as log:
        monkeypatch.setattr(sys, "stderr", log)
        with progress_bar("encoding") as progress:
            progress(0.5)
            progress(1.0)
    assert not (tmp_path / "log").read_text()
