"""Encode and decode on another device or machine, and compare that with this one.

    python -m tests.elsewhere make cuda FOLDER
    python -m tests.elsewhere compare FOLDER

The first writes what a device makes: files of photos, `pixels.npz` and `symbols.json`, how they
and the golden streams of the model look there, and the SHA-256 of their symbols. The second, on
any machine, decodes the same on the CPU: symbols must be equal, pixels within 1 of 255.
"""

import argparse
import json
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from hvqcodec import Codec
from hvqcodec.bitstream import Bitstream
from tests.helpers import TESTS
from tests.make_golden import SYMBOLS, digests, streams
from tests.pretended_device import NAME, pretended_device

PIXELS = "pixels.npz"


def golden_streams(codec: Codec) -> Iterator[tuple[str, bytes]]:
    """Of that model, made elsewhere long ago."""
    for path in sorted((TESTS / "golden").glob("*/*.hvq")):
        data = path.read_bytes()
        if Bitstream.from_bytes(data).fingerprint == codec.model.fingerprint:
            yield f"{path.parent.name}/{path.stem}", data


def make(codec: Codec, folder: Path) -> None:
    """Write everything; never into a folder that is there already."""
    folder.mkdir(parents=True)
    files = streams(codec)
    for name, data in files.items():
        (folder / f"{name}.hvq").write_bytes(data)
    files |= golden_streams(codec)
    normative = codec.model.normative
    found = {name: digests(normative, Bitstream.from_bytes(data)) for name, data in files.items()}
    (folder / SYMBOLS).write_text(json.dumps(found, indent=1) + "\n")
    shown = {name: codec.decompress(data, "numpy") for name, data in files.items()}
    np.savez_compressed(folder / PIXELS, **shown)  # type: ignore[arg-type]


def compare(codec: Codec, folder: Path) -> tuple[int, int]:
    """How many files there are, and how many of them have pixels that differ at all. Raises
    AssertionError where symbols or metadata do, or pixels by more than 1."""
    files = {path.stem: path.read_bytes() for path in folder.glob("*.hvq")}
    files |= golden_streams(codec)
    listed, shown = json.loads((folder / SYMBOLS).read_text()), np.load(folder / PIXELS)
    assert set(files) == set(listed) == set(shown)
    unlike = 0
    for name, data in files.items():
        assert digests(codec.model.normative, Bitstream.from_bytes(data)) == listed[name], name
        away = np.abs(codec.decompress(data, "numpy") - shown[name].astype(int)).max()
        assert away <= 1, f"{name}: a pixel is {away} away"
        unlike += away > 0
    return len(files), unlike


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="base", help="name, or path of a .safetensors file")
    commands = parser.add_subparsers(dest="command", required=True)
    maker = commands.add_parser("make")
    maker.add_argument("device", help=f"of torch, or {NAME}")
    maker.add_argument("folder", type=Path, help="to be made")
    commands.add_parser("compare").add_argument("folder", type=Path)
    options = parser.parse_args()
    if options.command == "make":
        with pretended_device() if options.device == NAME else nullcontext():
            make(Codec.load(options.model, device=options.device), options.folder)
    else:
        files, unlike = compare(Codec.load(options.model), options.folder)
        print(f"{files} files with the same symbols, pixels differ by 1 in {unlike} of them")


if __name__ == "__main__":
    main()
