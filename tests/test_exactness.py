"""The symbols do not depend on the machine: threads, instruction sets, settings of torch."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from hvqcodec import Codec
from tests.helpers import TESTS, TINY, Pixels
from tests.make_golden import SYMBOLS
from tests.test_golden import FOLDERS, digests, normative_of, read

ENVIRONMENTS = {
    "one thread": {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
    "two threads": {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"},
    "no vectors": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    "MKL's oldest": {"MKL_CBWR": "COMPATIBLE", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
}

PROGRAM = """
import json
from tests.test_golden import FOLDERS, digests, normative_of, read
found = {folder.name: {} for folder in FOLDERS}
for folder in FOLDERS:
    for path in folder.glob("*.hvq"):
        found[folder.name][path.stem] = digests(normative_of(folder), read(path))
print(json.dumps(found))
"""


def expected() -> dict[str, object]:
    return {folder.name: json.loads((folder / SYMBOLS).read_text()) for folder in FOLDERS}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_golden_streams_decode_alike_whatever_the_instructions(name: str) -> None:
    paths = os.pathsep.join([str(TESTS.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": paths} | ENVIRONMENTS[name]
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, check=True, text=True
    )
    assert json.loads(result.stdout) == expected()


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def test_golden_streams_decode_alike_whatever_torch_is_set_to() -> None:
    for setting in (default_dtype(torch.float64), default_dtype(torch.float16), deterministic()):
        with setting:
            for folder in FOLDERS:
                listed = json.loads((folder / SYMBOLS).read_text())
                for path in folder.glob("*.hvq"):
                    assert digests(normative_of(folder), read(path)) == listed[path.stem]


def test_whole_files_do_not_depend_on_the_default_type(codec: Codec, coffee: Pixels) -> None:
    """Encoder and synthesis too, which compute in floats."""
    crop = coffee[100:180, 200:300]
    data = codec.compress(crop, bpp=0.14)
    with default_dtype(torch.float64):
        assert codec.compress(crop, bpp=0.14) == data
        assert Codec.load(TINY).compress(crop, bpp=0.14) == data
        decoded = codec.decompress(data, "numpy")
    np.testing.assert_array_equal(decoded, codec.decompress(data, "numpy"))


def test_whole_files_do_not_depend_on_the_default_device(codec: Codec, coffee: Pixels) -> None:
    """Of which meta holds no numbers at all."""
    crop = coffee[100:180, 200:300]
    data = codec.compress(crop, bpp=0.14)
    expected = codec.decompress(data, "numpy")
    with torch.device("meta"):
        assert codec.compress(crop, bpp=0.14) == data
        assert Codec.load(TINY).compress(crop, bpp=0.14) == data
        np.testing.assert_array_equal(codec.decompress(data, "numpy"), expected)


def test_one_codec_serves_four_threads(shipped: Codec, astronaut: Pixels) -> None:
    rates = (0.08, 0.12, 0.18, 0.25)
    alone = [shipped.compress(astronaut, bpp=rate) for rate in rates]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda rate: shipped.compress(astronaut, bpp=rate), rates))
        decoded = list(pool.map(lambda data: shipped.decompress(data, "numpy"), alone))
    assert together == alone
    for data, pixels in zip(alone, decoded, strict=True):
        np.testing.assert_array_equal(pixels, shipped.decompress(data, "numpy"))
