"""Networks on another device: files made there decode here, and files made here there."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils import backend_registration

from hvqcodec import Codec
from tests.elsewhere import PIXELS, compare
from tests.helpers import TESTS, TINY, Pixels
from tests.make_golden import SYMBOLS
from tests.pretended_device import NAME

DEVICES = {
    NAME: hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    "cuda": torch.cuda.is_available(),
}
AT_HAND = [
    pytest.param(name, marks=pytest.mark.skipif(not there, reason="there is no such device"))
    for name, there in DEVICES.items()
]

REFUSED = """
import torch
from hvqcodec.image import read_picture
from tests.pretended_device import pretended_device
with pretended_device():
    there = torch.arange(3.0).to("pretended")
    for mixed in (
        lambda: there + torch.ones(3),
        lambda: torch.ones(3)[there.long()],
        lambda: torch.ones(3).add_(there),
        lambda: torch.nn.functional.conv1d(there[None, None], torch.ones(1, 1, 1)),
        lambda: there.numpy(),
    ):
        try:
            mixed()
        except (RuntimeError, TypeError):
            continue
        raise SystemExit("not refused")
    # As with a GPU, single numbers may be mixed in, and indices.
    assert read_picture(torch.full((3, 4, 5), 0.5).to("pretended")).rgb.max() == 128
    assert (2 * there + torch.tensor(1.0))[torch.tensor([2, 0])].cpu().tolist() == [5.0, 1.0]
"""

TRAINING = """
import sys
from contextlib import nullcontext
import torch
from tests.pretended_device import NAME, pretended_device
from training import realism, train
device, *options = sys.argv[1:]
pretended = device == NAME
if pretended:  # which torch cannot autocast on
    train.fast_dtype = lambda kind: torch.float32
with pretended_device() if pretended else nullcontext():
    realism.main([*options, "--device", device])
"""


def run(*command: str) -> None:
    result = subprocess.run(
        [sys.executable, *command], cwd=TESTS.parent, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.skipif(not DEVICES[NAME], reason="this torch cannot pretend")
def test_the_pretended_device_refuses_what_a_gpu_refuses() -> None:
    run("-c", REFUSED)


@pytest.fixture(scope="module", params=AT_HAND)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `tests.elsewhere` writes of a device."""
    folder = tmp_path_factory.mktemp("elsewhere") / "made"
    run("-m", "tests.elsewhere", "make", request.param, str(folder))
    return folder


# Damaged EXIF is among the golden streams.
@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_files_go_there_and_back(made: Path, shipped: Codec) -> None:
    files, unlike = compare(shipped, made)
    assert files > 100
    assert unlike, "its networks give the very numbers of this one: nothing was tried"


def test_what_differs_is_found_out(made: Path, shipped: Codec) -> None:
    listed, shown = (made / SYMBOLS).read_text(), dict(np.load(made / PIXELS))
    first = next(iter(json.loads(listed)))
    (made / SYMBOLS).write_text(listed.replace('"symbols": "', '"symbols": "0', 1))
    with pytest.raises(AssertionError, match=first):
        compare(shipped, made)
    (made / SYMBOLS).write_text(listed)
    shown["grey"] = shown["grey"] ^ 2  # by two
    np.savez(made / PIXELS, **shown)
    with pytest.raises(AssertionError, match=r"grey: a pixel is [23] away"):
        compare(shipped, made)


@pytest.mark.parametrize("device", AT_HAND)
def test_training_and_validation_work_there(
    device: str, networks: Path, coffee: Pixels, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.fromarray(coffee[100:292, 200:392]).save(photos / "cup.png")
    options = ["--photos", str(photos), "--validation", str(photos), "--perceptual", str(networks)]
    options += ["--run", str(tmp_path / "run"), "--start", str(TINY), "--learn", "everything"]
    options += ["--batch", "2", "--crop", "64", "--threads", "1"]
    for steps in ("2", "3"):  # the second resumes
        run("-c", TRAINING, device, *options, "--budget-steps", steps)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "photos" in line] == [0, 2]
    found = [line["validation"] for line in lines if "validation" in line and "photos" not in line]
    assert len(found) == 6
    assert all(map(math.isfinite, (value for one in found for value in one.values())))
