"""Streams of every model that was ever shipped decode to their symbols, for ever."""

import hashlib
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from torch import Tensor

import hvqcodec
from hvqcodec import BitstreamError, Codec
from hvqcodec.bitstream import Bitstream, Mode, Scope, Section
from hvqcodec.entropy.normative import Normative
from hvqcodec.entropy.symbol_coding import decode_stream
from hvqcodec.models.cards import card_text, list_models, model_path
from tests import reference_decoder as reference
from tests import reference_residual, reference_synthesis, reference_tone
from tests.helpers import TESTS, TINY, threads
from tests.make_golden import NORMATIVE, PREFIX, SYMBOLS, digests, make

FOLDERS = sorted(path.parent for path in (TESTS / "golden").glob(f"*/{SYMBOLS}"))
STREAMS = [stream for folder in FOLDERS for stream in sorted(folder.glob("*.hvq"))]


def name_of(path: Path) -> str:
    return f"{path.parent.name}-{path.stem}" if path.suffix == ".hvq" else path.name


def tensors_of(folder: Path) -> dict[str, Tensor]:
    return {k.removeprefix(PREFIX): v for k, v in load_file(folder / NORMATIVE).items()}


@cache
def normative_of(folder: Path) -> Normative:
    return Normative.from_tensors(tensors_of(folder))


def read(path: Path) -> Bitstream:
    return Bitstream.from_bytes(path.read_bytes())


def test_there_are_golden_streams() -> None:
    assert "tiny" in [folder.name for folder in FOLDERS]
    assert len(STREAMS) >= 10 * len(FOLDERS)


def test_the_shipped_models_have_streams() -> None:
    recorded = {normative_of(folder).fingerprint() for folder in FOLDERS}
    assert list_models()
    for name in list_models():
        assert json.loads(card_text(name))["fingerprint"] in recorded


def test_there_are_streams_of_all_kinds() -> None:
    """Of payloads; those that 0.7 and later wrote are there for the shipped models."""
    streams = [read(path) for path in STREAMS]
    assert sum(stream.scope == Scope.NONE for stream in streams) >= 10
    for fingerprint in shipped():
        scopes = [s.scope for s in streams if s.fingerprint.hex() == fingerprint]
        assert scopes.count(Scope.FILE) >= 10
        assert scopes.count(Scope.PLACE) >= 10
        assert scopes.count(Scope.GROWING) >= 10


@pytest.mark.parametrize("kind", [Section.TONE, Section.RESIDUAL])
def test_streams_of_the_shipped_models_are_corrected(kind: Section) -> None:
    for fingerprint in shipped():
        streams = [read(path) for path in STREAMS]
        corrected = [s for s in streams if kind in s.sections]
        assert sum(s.fingerprint.hex() == fingerprint for s in corrected) >= 4


def test_what_a_shipped_model_can_read_becomes_pictures() -> None:
    """Files of earlier releases too, where the model is the same in all that decides bits."""
    streams = [path for path in STREAMS if read(path).fingerprint.hex() in shipped()]
    assert len(streams) >= 10
    for path in streams:
        picture = hvqcodec.decompress(path.read_bytes())
        assert picture.size == (read(path).width, read(path).height)


def shipped() -> set[str]:
    """The fingerprints of the models in the package, as files name them."""
    return {json.loads(card_text(name))["fingerprint"][:16] for name in list_models()}


@pytest.mark.parametrize("folder", FOLDERS, ids=name_of)
def test_every_stream_is_listed(folder: Path) -> None:
    listed = json.loads((folder / SYMBOLS).read_text())
    assert sorted(listed) == sorted(path.stem for path in folder.glob("*.hvq"))


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("path", STREAMS, ids=name_of)
def test_a_stream_decodes_to_its_symbols(path: Path, count: int) -> None:
    normative, stream = normative_of(path.parent), read(path)
    expected = json.loads((path.parent / SYMBOLS).read_text())[path.stem]
    with threads(count):
        assert digests(normative, stream) == expected
        crc = decode_stream(normative, stream).crc()
    assert stream.sections[Section.SYMBOL_CRC] == crc.to_bytes(4, "little")
    assert stream.fingerprint.hex() == normative.fingerprint()[:16]
    assert stream.to_bytes() == path.read_bytes()


@pytest.mark.parametrize("path", STREAMS, ids=name_of)
def test_the_decoder_of_the_page_agrees(path: Path) -> None:
    model = reference.load_model(path.parent / NORMATIVE)
    found = reference.decode_symbols(model, path.read_bytes())
    expected = json.loads((path.parent / SYMBOLS).read_text())[path.stem]
    assert hashlib.sha256(reference.symbol_bytes(found)).hexdigest() == expected["symbols"]
    planes = reference_tone.tone(path.read_bytes())
    tone = planes and hashlib.sha256(reference_tone.tone_bytes(planes)).hexdigest()
    assert tone == expected.get("tone")
    residual = reference_residual.residual(path.read_bytes())
    raw = residual and hashlib.sha256(reference_residual.residual_bytes(*residual)).hexdigest()
    assert raw == expected.get("residual")


def readable() -> list[tuple[Path, Path]]:
    """Streams, and the model file of each, where it is at hand."""
    models = [TINY, *(model_path(name) for name in list_models())]
    files = {json.loads(card_text(model))["fingerprint"][:16]: model for model in models}
    found = [(path, files.get(read(path).fingerprint.hex())) for path in STREAMS]
    return [(path, model) for path, model in found if model]


@pytest.mark.parametrize(
    ("path", "model"), [pytest.param(*pair, id=name_of(pair[0])) for pair in readable()]
)
def test_the_pixels_of_the_page_agree(path: Path, model: Path) -> None:
    expected = reference_synthesis.decode_pixels(str(model), path.read_bytes())
    image = hvqcodec.decompress(path.read_bytes(), model=model)
    found = np.asarray(image).reshape(*expected.shape[:2], -1)[
        ..., : 3 if expected.ndim == 3 else 1
    ]
    assert np.abs(found.astype(int) - expected.reshape(found.shape)).max() <= 1


@pytest.mark.parametrize("folder", FOLDERS, ids=name_of)
def test_the_streams_of_a_model_reach_everything(folder: Path) -> None:
    streams = [read(path) for path in folder.glob("*.hvq")]
    assert {stream.mode for stream in streams} == set(Mode)
    assert any(Section.ALPHA in stream.sections for stream in streams)
    assert {(1, 1), (7, 5), (16, 16)} <= {(s.width, s.height) for s in streams}
    decoded = [decode_stream(normative_of(folder), stream) for stream in streams]
    for level in range(3):
        assert sum(len(symbols.indices[level]) for symbols in decoded) > 50
        assert any(symbols.latents[level].any() for symbols in decoded)


def test_a_changed_integer_changes_the_symbols() -> None:
    """Else the streams would guard nothing."""
    folder = TESTS / "golden" / "tiny"
    expected = json.loads((folder / SYMBOLS).read_text())
    tensors = tensors_of(folder)
    tensors["index_tables.exponential"][100:] += 2**12
    changed, noticed = Normative.from_tensors(tensors), 0
    for path in folder.glob("*.hvq"):
        try:
            noticed += digests(changed, read(path)) != expected[path.stem]
        except BitstreamError:
            noticed += 1
    assert noticed >= 5


def test_the_script_makes_such_a_folder(codec: Codec, tmp_path: Path) -> None:
    make(codec, tmp_path / "new")
    before = {path.name for path in (TESTS / "golden" / "tiny").iterdir()}
    more = {"144x112-max.hvq"}  # which came later
    assert {path.name for path in (tmp_path / "new").iterdir()} == before | more
    listed = json.loads((tmp_path / "new" / SYMBOLS).read_text())
    expected = json.loads((TESTS / "golden" / "tiny" / SYMBOLS).read_text())
    assert listed["random"] == expected["random"]
    assert load_file(tmp_path / "new" / NORMATIVE).keys() == {
        name for name in load_file(TINY) if name.startswith(PREFIX)
    }
    with pytest.raises(FileExistsError):
        make(codec, tmp_path / "new")
