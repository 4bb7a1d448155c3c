"""Models from a Hub-like server on loopback, fetched by real `hvq` processes."""

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

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


def download(
    hub: HubServer, home: Path, name: str = "hub:org/tiny"
) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    command = [sys.executable, "-c", "from hvqcodec.cli import main; main()", "models", "download"]
    return subprocess.run(
        [*command, name], env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_a_model_is_fetched_once_and_then_comes_from_the_cache(
    hub: HubServer, tmp_path: Path
) -> None:
    first = download(hub, tmp_path)
    assert first.returncode == 0, first.stderr
    fetched = Path(first.stdout.strip())
    assert fetched.read_bytes() == hub.files["model.safetensors"]
    hub.http.shutdown()
    hub.http.server_close()
    again = download(hub, tmp_path)
    assert again.returncode == 0, again.stderr
    assert again.stdout == first.stdout


def test_a_pinned_revision_is_fetched(hub: HubServer, tmp_path: Path) -> None:
    result = download(hub, tmp_path, f"hub:org/tiny@{COMMIT}")
    assert result.returncode == 0, result.stderr
    assert COMMIT in result.stdout


def test_a_wrong_checksum_is_noticed(hub: HubServer, tmp_path: Path) -> None:
    damaged = bytearray(hub.files["model.safetensors"])
    damaged[-1] ^= 1
    hub.files["model.safetensors"] = bytes(damaged)
    result = download(hub, tmp_path)
    assert result.returncode == 1
    assert "checksum" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_dropped_connection_gives_one_line_and_no_half_file(
    hub: HubServer, tmp_path: Path
) -> None:
    hub.drop_after = 1000
    result = download(hub, tmp_path)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("Error: hub:org/tiny could not be fetched")
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.rglob("model.safetensors"))
    hub.drop_after = None
    assert download(hub, tmp_path).returncode == 0


@pytest.mark.parametrize("name", ["hub:nothing", "hub:org/other", "hub:a b/c"])
def test_what_is_not_there_is_named(hub: HubServer, tmp_path: Path, name: str) -> None:
    result = download(hub, tmp_path, name)
    assert result.returncode == 1
    assert name in result.stderr
