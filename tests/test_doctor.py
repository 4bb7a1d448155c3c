import json
import re
from pathlib import Path

import pytest
import torch

from hvqcodec import Codec, doctor, probe
from hvqcodec.doctor import examine, sample_picture
from hvqcodec.models import cards
from hvqcodec.models.cards import DEFAULT, list_models
from tests.helpers import TINY, threads
from tests.test_cli import call, said

SHIPPED = pytest.mark.skipif(DEFAULT not in list_models(), reason="no model is embedded")


@SHIPPED
def test_a_sound_installation_is_well(tmp_path: Path) -> None:
    lines = said(call(tmp_path, "doctor")).splitlines()
    facts = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in lines if line[:2] != "ok")
    assert facts["packages"].startswith(f"torch {torch.__version__}, numpy ")
    assert facts["fingerprint"] == json.loads(cards.card_text(DEFAULT))["fingerprint"][:16]
    assert [line.split(":")[0].split("  ")[-1].strip() for line in lines if line[:2] == "ok"] == [
        "encode and decode",
        "decode a file of another machine",
    ]


@SHIPPED
def test_json(tmp_path: Path) -> None:
    report = json.loads(said(call(tmp_path, "doctor", "--json")))
    assert report["well"] is True
    assert [check["passed"] for check in report["checks"]] == [True, True]


@SHIPPED
def test_the_sample_is_of_the_model() -> None:
    path = cards.model_path(DEFAULT).with_suffix(".hvq")
    info = probe(path)
    assert (info.model, info.height, info.width) == (DEFAULT, *sample_picture().shape[:2])


def test_a_model_that_decodes_badly_is_found_out() -> None:
    """The tiny model has not learned to."""
    with threads(1):
        report = examine(str(TINY), threads=1)
    assert not report.well
    assert [(c.name, c.passed) for c in report.checks] == [("encode and decode", False)]


def test_what_torch_cannot_do_on_a_device_is_a_failed_check(
    codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise NotImplementedError("no convolution here")

    monkeypatch.setattr(codec.model.networks.analysis, "forward", refuse)
    check = doctor.round_trip(codec)
    assert (check.passed, check.detail) == (False, "no convolution here")


def test_a_missing_model(tmp_path: Path) -> None:
    result = call(tmp_path, "doctor", "--model", "none.safetensors")
    assert (result.returncode, result.stderr) == (1, b"")
    assert "FAILED         load the model: no model 'none.safetensors'" in result.stdout.decode()


@SHIPPED
def test_tables_that_differ_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this machine rounded otherwise."""
    load = doctor.Codec.load

    def other(*args: object, **kwargs: object) -> object:
        codec = load(*args, **kwargs)  # type: ignore[arg-type]
        codec.model.normative.index_tables.entries.add_(7)
        return codec

    monkeypatch.setattr(doctor.Codec, "load", other)
    report = examine()
    assert [check.passed for check in report.checks] == [True, False]
    assert "damaged" in report.checks[1].detail
