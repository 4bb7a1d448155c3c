import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from hvqcodec import Codec, ModelError, UnknownFingerprintError
from hvqcodec.entropy.constants import ONE
from hvqcodec.models import cards
from hvqcodec.models.config import ModelConfig
from hvqcodec.models.zoo import LoadedModel, load_model
from tests.helpers import TINY, Pixels


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the tiny model, to be damaged."""
    shutil.copy(TINY.with_suffix(".json"), tmp_path / "copy.json")
    return Path(shutil.copy(TINY, tmp_path / "copy.safetensors"))


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return load_model(TINY)


def edit_card(model: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = model.with_suffix(".json")
    card = json.loads(path.read_text())
    change(card)
    path.write_text(json.dumps(card))


def rewrite(model: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Change tensors, and the card's checksum along with them."""
    tensors = load_file(model)
    change(tensors)
    save_file(tensors, model)
    checksum = hashlib.sha256(model.read_bytes()).hexdigest()
    edit_card(model, lambda card: card.update(sha256=checksum))


def test_a_copy_elsewhere_is_the_same_model(model: Path, codec: Codec, cat: Pixels) -> None:
    for source in (model, str(model)):
        copy = Codec.load(source)
        assert copy.compress(cat[:64, :64]) == codec.compress(cat[:64, :64])


def test_networks_are_ready_for_inference(loaded: LoadedModel) -> None:
    assert not any(module.training for module in loaded.networks.modules())
    assert not any(p.requires_grad for p in loaded.networks.parameters())
    assert {p.dtype for p in loaded.networks.parameters()} == {torch.float32}


def test_the_codebook_is_that_of_the_integers(loaded: LoadedModel) -> None:
    entries = loaded.normative.index_tables.entries
    assert torch.equal(loaded.networks.codebook.weight * ONE, entries.float())
    lengths = entries.double().norm(dim=1) / ONE
    assert torch.allclose(lengths, torch.ones_like(lengths), atol=1e-3)


def test_the_fingerprint_is_over_names_types_shapes_and_values(loaded: LoadedModel) -> None:
    """Section 7 of docs/format.md, on the file itself."""
    digest = hashlib.sha256()
    for name, tensor in sorted(load_file(TINY).items()):
        if name.startswith("normative."):
            array = tensor.numpy()
            line = f"{name[10:]} {array.dtype} {list(array.shape)}\n"
            digest.update(line.encode())
            digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
    assert loaded.normative.fingerprint() == digest.hexdigest() == loaded.card["fingerprint"]
    assert loaded.fingerprint == digest.digest()[:8]


def test_config_survives_json() -> None:
    config = ModelConfig(codes=64, channels=(8, 12, 16))
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    path = tmp_path / "absent.safetensors"
    for source in (path, str(path)):
        with pytest.raises(ModelError, match=r"no model '.*absent\.safetensors'"):
            load_model(source)


def test_an_unknown_name_lists_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cards, "list_models", lambda: ["large", "small"])
    with pytest.raises(ModelError, match=r"no model 'medium': .* one of these: large, small"):
        load_model("medium")


def test_a_file_that_is_no_weights_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(TINY.read_bytes())
    with pytest.raises(ModelError, match=r"no model .*model\.bin"):
        load_model(path)


def test_a_missing_card_is_named(model: Path) -> None:
    model.with_suffix(".json").unlink()
    with pytest.raises(ModelError, match="the card of the model cannot be read"):
        load_model(model)


def test_a_card_is_read_without_the_weights(model: Path) -> None:
    model.write_bytes(b"")
    assert (
        cards.card_text(model)
        == cards.card_text(str(model))
        == TINY.with_suffix(".json").read_text()
    )
    model.with_suffix(".json").write_bytes(b"\xff\xfe")
    with pytest.raises(ModelError, match="the card of the model cannot be read"):
        cards.card_text(model)
    model.with_suffix(".json").unlink()
    with pytest.raises(ModelError, match="the card of the model cannot be read"):
        cards.card_text(model)


@pytest.mark.parametrize("content", ["", "{", '{"sha256": ', "\x00\x01"])
def test_a_card_that_is_no_json_is_refused(model: Path, content: str) -> None:
    model.with_suffix(".json").write_text(content)
    with pytest.raises(ModelError, match=r"copy\.json: not the card of a model"):
        load_model(model)


@pytest.mark.parametrize("content", ["[]", "null", "3", '"card"', "{}"])
def test_a_card_of_another_kind_is_refused(model: Path, content: str) -> None:
    model.with_suffix(".json").write_text(content)
    with pytest.raises(ModelError, match=r"copy\.json: not the card of a model"):
        load_model(model)


@pytest.mark.parametrize("position", [0, 7, 100, 150_000, -1])
def test_damaged_weights_fail_the_checksum(model: Path, position: int) -> None:
    content = bytearray(model.read_bytes())
    content[position] ^= 4
    model.write_bytes(content)
    with pytest.raises(ModelError, match="checksum differs"):
        load_model(model)


def test_truncated_weights_fail_the_checksum(model: Path) -> None:
    model.write_bytes(model.read_bytes()[:-1])
    with pytest.raises(ModelError, match="checksum differs"):
        load_model(model)


def test_other_bytes_under_a_good_checksum_are_refused(model: Path) -> None:
    model.write_bytes(b"not safetensors at all")
    checksum = hashlib.sha256(model.read_bytes()).hexdigest()
    edit_card(model, lambda card: card.update(sha256=checksum))
    with pytest.raises(ModelError, match="not a model of this version"):
        load_model(model)


CARD_EDITS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "another checksum": (lambda c: c.update(sha256="0" * 64), "checksum differs"),
    "no checksum": (lambda c: c.pop("sha256"), "not the card of a model"),
    "another fingerprint": (lambda c: c.update(fingerprint="0" * 64), "fingerprint differs"),
    "no fingerprint": (lambda c: c.pop("fingerprint"), "not the card of a model"),
    "no config": (lambda c: c.pop("config"), "not a model of this version"),
    "config of another kind": (lambda c: c.update(config=7), "not a model of this version"),
    "another size": (
        lambda c: c["config"].update(hyper_channels=24),
        "not a model of this version",
    ),
    "an unknown size": (lambda c: c["config"].update(heads=8), "not a model of this version"),
    "a missing size": (lambda c: c["config"].pop("codes"), "not a model of this version"),
    "two channels": (lambda c: c["config"].update(channels=[8, 12]), "not a model of this version"),
    "words for numbers": (lambda c: c["config"].update(codes="64"), "not a model of this version"),
}


@pytest.mark.parametrize("name", CARD_EDITS)
def test_an_edited_card_is_refused(model: Path, name: str) -> None:
    change, match = CARD_EDITS[name]
    edit_card(model, change)
    with pytest.raises(ModelError, match=match):
        load_model(model)


def test_other_integers_fail_the_fingerprint(model: Path) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors["normative.index_tables.log_prior"][1, 5] -= 1

    rewrite(model, change)
    with pytest.raises(ModelError, match="fingerprint differs"):
        load_model(model)


def test_inexact_integers_are_refused(model: Path) -> None:
    rewrite(model, lambda tensors: tensors["normative.hyper.0.conv4.bias"].add_(2**52))
    with pytest.raises(ModelError, match=r"could exceed 2\^53"):
        load_model(model)


@pytest.mark.parametrize("name", ["normative.map_tables", "network.synthesis.to_rgb.weight"])
def test_a_missing_tensor_is_named(model: Path, name: str) -> None:
    rewrite(model, lambda tensors: tensors.pop(name))
    with pytest.raises(ModelError, match=name.split(".", 1)[1]):
        load_model(model)


def test_better_networks_for_the_same_integers_are_welcome(
    model: Path, codec: Codec, cat: Pixels
) -> None:
    """The fingerprint covers what decides bits, not the synthesis."""
    data = codec.compress(cat[:64, :64])
    rewrite(model, lambda tensors: tensors["network.synthesis.to_rgb.bias"].add_(0.5))
    other = np.asarray(Codec.load(model).decompress(data)).astype(int)
    assert (other - np.asarray(codec.decompress(data))).mean() > 20


def test_embedded_models_are_found_by_name_and_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: Codec, cat: Pixels
) -> None:
    """A package that holds the tiny model under two names."""
    (tmp_path / "weights").mkdir()
    for name in ("small", "another"):
        for suffix in (".safetensors", ".json"):
            shutil.copy(TINY.with_suffix(suffix), tmp_path / "weights" / f"{name}{suffix}")
    card = tmp_path / "weights" / "another.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"fingerprint": "ab" * 32}))
    monkeypatch.setattr(cards.resources, "files", lambda _: tmp_path)

    assert cards.list_models() == ["another", "small"]
    assert cards.model_path("small") == tmp_path / "weights" / "small.safetensors"
    assert cards.model_for(codec.model.fingerprint) == "small"
    assert cards.model_for(bytes.fromhex("ab" * 8)) == "another"
    with pytest.raises(UnknownFingerprintError, match="00" * 8):
        cards.model_for(bytes(8))
    assert Codec.load("small").compress(cat[:32, :32]) == codec.compress(cat[:32, :32])
