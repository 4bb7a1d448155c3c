import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import hvqcodec
from hvqcodec import BitstreamError, Codec, FileError, UnsupportedVersionError, probe
from hvqcodec.bitstream import Bitstream, Section
from hvqcodec.models.cards import DEFAULT, card_text, list_models
from tests.helpers import Pixels, with_section


@pytest.fixture(scope="module")
def coded(codec: Codec, coffee: Pixels) -> bytes:
    return codec.compress(coffee[100:147, 200:331])


def test_the_facts_of_a_file(codec: Codec, coded: bytes, tmp_path: Path) -> None:
    path = tmp_path / "photo.hvq"
    path.write_bytes(coded)
    info = probe(coded)
    assert info == probe(path) == probe(str(path))
    assert (info.width, info.height, info.mode, info.version) == (131, 47, "RGB", 1)
    assert (info.fingerprint, info.model) == (codec.model.fingerprint.hex(), None)
    assert info.file_bytes == len(coded)
    assert info.bpp == pytest.approx(8 * len(coded) / 131 / 47)
    assert info.sections["symbol crc"] == 4
    assert 0 < len(coded) - sum(info.sections.values()) < 40
    assert json.loads(json.dumps(info.sections)) == info.sections


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "LA"), (3, "RGB"), (4, "RGBA")])
def test_the_mode_is_that_of_the_decoded_image(
    codec: Codec, coffee: Pixels, channels: int, mode: str
) -> None:
    planes = np.dstack([coffee[:32, :48], coffee[32:64, :48, :1]])
    data = codec.compress(planes[:, :, :channels].copy())
    assert probe(data).mode == codec.decompress(data).mode == mode


def test_metadata_is_in_the_bytes_but_not_in_the_rate(coded: bytes) -> None:
    info = probe(with_section(coded, Section.EXIF, bytes(100)))
    assert info.sections["exif"] == 100
    assert info.file_bytes == len(coded) + 102
    assert info.bpp == probe(coded).bpp


def test_unknown_sections_are_named_by_their_numbers(coded: bytes) -> None:
    info = probe(with_section(coded, 200, b"12345"))
    assert info.sections["section 200"] == 5
    assert info.bpp > probe(coded).bpp


@pytest.mark.skipif(DEFAULT not in list_models(), reason="no model is embedded")
def test_an_embedded_model_is_named(coded: bytes) -> None:
    fingerprint = bytes.fromhex(json.loads(card_text(DEFAULT))["fingerprint"])[:8]
    stream = replace(Bitstream.from_bytes(coded), fingerprint=fingerprint)
    assert probe(stream.to_bytes()).model == DEFAULT


def test_what_is_no_sound_file_is_refused(coded: bytes, tmp_path: Path) -> None:
    for data in (b"", b"GIF89a" * 9, coded[:-1], coded + b"\n"):
        with pytest.raises(BitstreamError):
            probe(data)
    with pytest.raises(UnsupportedVersionError, match="version 2"):
        probe(coded[:8] + b"\x02" + coded[9:])
    with pytest.raises(FileError, match=r"absent\.hvq: No such file"):
        probe(tmp_path / "absent.hvq")


SPY = """
import sys
import hvqcodec
print(hvqcodec.probe("photo.hvq").width, hvqcodec.probe(open("photo.hvq", "rb").read()).height)
print("torch" in sys.modules)
"""


def test_probing_does_not_import_torch(coded: bytes, tmp_path: Path) -> None:
    (tmp_path / "photo.hvq").write_bytes(coded)
    source = str(Path(hvqcodec.__file__).parents[1])
    script = f"import sys; sys.path.insert(0, {source!r}){SPY}"
    said = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert said.stdout.split() == ["131", "47", "False"], said.stderr
