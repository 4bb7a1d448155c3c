"""Whatever kills the process, a destination is absent, the old file, or a complete new one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from hvqcodec import Codec
from tests.helpers import TESTS, TINY, Pixels

KILLS = 50
"""Of encodes, and of decodes."""

PROGRAM = """
import json, os, random, signal, sys, time
from pathlib import Path
import torch
import hvqcodec

torch.set_num_threads(1)  # a fork keeps but one
source, destination, kills = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
work = hvqcodec.decompress_file if source.suffix == ".hvq" else hvqcodec.compress_file
run = lambda: work(source, destination, overwrite=True, model=sys.argv[4])
run()
begin = time.perf_counter()
run()
seconds = time.perf_counter() - begin
new, old = destination.read_bytes(), b"what was there before"
seen, rng = {"absent": 0, "old": 0, "new": 0, "killed": 0}, random.Random(1)
for number in range(kills):
    destination.unlink(missing_ok=True)
    if number % 2:
        destination.write_bytes(old)
    child = os.fork()
    if not child:
        try:
            run()
        finally:
            os._exit(0)
    time.sleep(rng.uniform(0, 1.3 * seconds))
    os.kill(child, signal.SIGKILL)
    seen["killed"] += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    if not destination.exists():
        seen["absent"] += 1
    else:
        seen[{old: "old", new: "new"}[destination.read_bytes()]] += 1
print(json.dumps(seen))
"""


@pytest.fixture
def source(request: pytest.FixtureRequest, tmp_path: Path, codec: Codec, coffee: Pixels) -> Path:
    """A photo of 400 x 600 pixels, or the file made of it."""
    path = tmp_path / f"source{request.param}"
    if path.suffix == ".hvq":
        path.write_bytes(codec.compress(coffee))
    else:
        Image.fromarray(coffee).save(path)
    return path


@pytest.mark.parametrize("source", [".png", ".hvq"], indirect=True)
def test_a_kill_leaves_all_or_nothing(source: Path, tmp_path: Path) -> None:
    destination = tmp_path / ("out.png" if source.suffix == ".hvq" else "out.hvq")
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, source, destination, str(KILLS), TINY],
        cwd=TESTS.parent,
        capture_output=True,
        check=True,
        text=True,
    )
    seen = json.loads(result.stdout)
    assert seen["absent"] + seen["old"] + seen["new"] == KILLS
    assert seen["killed"] > KILLS // 4
    assert seen["absent"] > KILLS // 10
    assert seen["old"] > KILLS // 10
