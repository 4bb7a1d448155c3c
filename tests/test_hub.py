"""Models from a Hub-like server on loopback, fetched by real `hvq` processes."""

import hashlib
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import pytest

import hvqcodec
from hvqcodec import ModelError
from hvqcodec.models.cards import model_path
from hvqcodec.models.hub import download

TINY = Path(__file__).parent / "models"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """Answers GET and HEAD of /ORG/NAME/resolve/REVISION/FILE as the Hub does."""

    def __init__(self, server_: "HubServer", *args: object) -> None:
        self.hub = server_
        super().__init__(*args)  # type: ignore[arg-type]

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        parts = self.path.split("?")[0].strip("/").split("/")
        content = self.hub.files.get(parts[-1]) if "resolve" in parts else None
        if content is None or parts[:2] != ["org", "tiny"] or parts[3] not in ("main", COMMIT):
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.hub.served.append((self.command, parts[-1]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if body:
            cut = self.hub.drop_after if parts[-1] == "model.safetensors" else None
            self.wfile.write(content[:cut])
            if cut is not None:
                self.wfile.flush()
                self.connection.close()

    def log_message(self, *args: object) -> None:
        """Quiet."""


class HubServer:
    def __init__(self) -> None:
        self.files = {
            "model.safetensors": (TINY / "tiny.safetensors").read_bytes(),
            "model.json": (TINY / "tiny.json").read_bytes(),
        }
        self.served: list[tuple[str, str]] = []
        self.drop_after: int | None = None
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, self))
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_address[1]}"


@pytest.fixture
def hub() -> Iterator[HubServer]:
    server = HubServer()
    yield server
    server.http.shutdown()
    server.http.server_close()


def hvq(
    hub: HubServer, home: Path, command: str, name: str = "hub:org/tiny"
) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PYTHONPATH": str(Path(hvqcodec.__file__).parents[1]),
    }
    words = [sys.executable, "-c", "from hvqcodec.cli import main; main()", "models", command, name]
    return subprocess.run(
        words, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def test_downloads_at_once_leave_the_clients_log_as_it_was(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    both = threading.Barrier(2)

    def fetch(*_: str, revision: str | None) -> str:
        both.wait(60)
        levels.append(logger.level)
        both.wait(60)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    logger = logging.getLogger("huggingface_hub")
    before, levels = logger.level, []
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(download, ["hub:org/one", "hub:org/two"]))
    assert levels == [logging.CRITICAL] * 4
    assert logger.level == before


def error_line(result: subprocess.CompletedProcess[str]) -> str:
    lines = result.stderr.splitlines()
    assert (result.returncode, len(lines), result.stdout) == (1, 1, ""), lines
    assert lines[0].startswith("Error: ")
    return lines[0][7:]


def test_a_model_is_fetched_once_and_then_comes_from_the_cache(
    hub: HubServer, tmp_path: Path
) -> None:
    first = hvq(hub, tmp_path, "download")
    assert (first.returncode, first.stderr) == (0, "")
    fetched = Path(first.stdout.strip())
    assert fetched.read_bytes() == hub.files["model.safetensors"]
    assert sorted(hub.served) == [
        (how, name) for how in ("GET", "HEAD") for name in sorted(hub.files)
    ]
    hub.http.shutdown()
    hub.http.server_close()
    again = hvq(hub, tmp_path, "path")
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout == first.stdout


def test_a_pinned_revision_is_fetched(hub: HubServer, tmp_path: Path) -> None:
    result = hvq(hub, tmp_path, "path", f"hub:org/tiny@{COMMIT}")
    assert result.returncode == 0, result.stderr
    assert COMMIT in result.stdout


def test_a_wrong_checksum_is_noticed(hub: HubServer, tmp_path: Path) -> None:
    damaged = bytearray(hub.files["model.safetensors"])
    damaged[-1] ^= 1
    hub.files["model.safetensors"] = bytes(damaged)
    assert "checksum" in error_line(hvq(hub, tmp_path, "download"))


def test_a_dropped_connection_gives_one_line_and_no_half_file(
    hub: HubServer, tmp_path: Path
) -> None:
    hub.drop_after = 1000
    line = error_line(hvq(hub, tmp_path, "path"))
    assert line.startswith("hub:org/tiny could not be fetched: ")
    assert not list(tmp_path.rglob("model.safetensors"))
    hub.drop_after = None
    assert hvq(hub, tmp_path, "path").returncode == 0


def test_what_is_not_there_is_named(hub: HubServer, tmp_path: Path) -> None:
    line = error_line(hvq(hub, tmp_path, "path", "hub:org/other"))
    assert line.startswith("hub:org/other could not be fetched: ")


@pytest.mark.parametrize("name", ["hub:", "hub:nothing", "hub:a b/c", "hub:org/tiny@"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match=f"'{name}' is no model of the Hub: write hub:org"):
        model_path(name)
