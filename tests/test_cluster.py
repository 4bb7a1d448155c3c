"""The engine of a cluster, on a real one of two nodes on this machine."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from hvqcodec import Codec
from tests.helpers import TESTS, TINY, Pixels
from tests.test_batch import outputs, records
from tests.test_cli import MODEL, call, environment

pytest.importorskip("ray")
if sys.platform != "linux":
    pytest.skip("Ray's clusters of several nodes need Linux", allow_module_level=True)


def test_a_worker_that_is_killed_loses_nothing(
    tmp_path: Path, astronaut: Pixels, codec: Codec
) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(24):
        crop = astronaut[8 * number : 8 * number + 256, :384]
        Image.fromarray(crop).save(tmp_path / "photos" / f"{number}.png")
    (tmp_path / "photos" / "bad.png").write_bytes(b"no image")
    command = [sys.executable, TESTS / "cluster.py", "photos", "out", TINY]
    env = environment() | {"RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(
        command, cwd=tmp_path, env=env, capture_output=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr.decode()
    # Ray may say goodbye after us.
    told = json.loads(next(line for line in done.stdout.splitlines() if line[:8] == b'{"nodes"'))
    assert told == {
        "nodes": 2, "killed": 1, "total": 25, "written": 24, "skipped": 0, "failed": 1
    }  # fmt: skip
    made = outputs(tmp_path / "out")
    assert set(made) == {f"{number}.hvq" for number in range(24)}
    for number in (0, 11, 23):
        photo = tmp_path / "photos" / f"{number}.png"
        assert made[f"{number}.hvq"] == codec.compress(photo, quality=50)
    assert len(records(tmp_path / "out")) == 25


def test_the_command_names_its_extra(
    tmp_path: Path, astronaut: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(astronaut[:16, :16]).save(tmp_path / "a.png")
    monkeypatch.setitem(sys.modules, "ray", None)
    result = call(tmp_path, "batch", "a.png", "-o", "out", "--engine", "ray", *MODEL)
    assert (result.returncode, result.stdout) == (1, b"")
    assert b"hvqcodec[ray]" in result.stderr
