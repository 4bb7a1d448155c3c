"""How networks get to see pairs of pictures."""

import pytest
import torch
from torch import Tensor

from hvqcodec.views import CONTRAST, GRAIN, SCALES, View, random_view
from tests.helpers import Pixels


@pytest.fixture
def views() -> list[View]:
    torch.manual_seed(0)
    return [random_view(2) for _ in range(300)]


def test_pictures_come_to_every_place_of_a_fine_code(views: list[View]) -> None:
    image = torch.arange(64.0).view(1, 1, 8, 8)
    moved = [View(view.shift).place(image) for view in views]
    assert all(torch.equal(a.flatten().sort()[0], image.flatten()) for a in moved)
    places = {int(a[0, 0, 0, 0]) for a in moved}
    rows, columns = ({place // 8 % 4 for place in places}, {place % 8 % 4 for place in places})
    assert rows == columns == {0, 1, 2, 3}
    assert len(places) == 16


def test_all_views_are_had(views: list[View]) -> None:
    assert {(view.transposed, view.mirrored, view.scale) for view in views} == {
        (transposed, mirrored, scale)
        for transposed in (False, True)
        for mirrored in (False, True)
        for scale in SCALES
    }
    assert 1 - CONTRAST <= min(view.contrast for view in views) < 1 - 0.9 * CONTRAST
    assert 1 + 0.9 * CONTRAST < max(view.contrast for view in views) <= 1 + CONTRAST
    assert 0 <= min(view.grain for view in views) < max(view.grain for view in views) <= GRAIN


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("mirrored", [False, True])
def test_cells_come_back(transposed: bool, mirrored: bool) -> None:
    view, cells = View((1, -1), transposed, mirrored), torch.arange(12.0).view(1, 3, 4)
    image = cells[:, None].repeat_interleave(8, 2).repeat_interleave(8, 3)
    seen = view.place(image)[:, 0]
    found = view.back(seen.unflatten(2, (-1, 8)).unflatten(1, (-1, 8)).median(4)[0].median(2)[0])
    assert torch.equal(found, cells)


def test_both_are_seen_alike(astronaut_pair: tuple[Tensor, Tensor]) -> None:
    image, target = astronaut_pair
    view = View(scale=5 / 6, contrast=1.2, grain=0.02)
    a, b = view.look(image, target)
    assert a.shape == b.shape == (1, 3, 80, 80)
    apart = View(scale=5 / 6).look(image, target)
    assert torch.allclose(a - b, 1.2 * (apart[0] - apart[1]), atol=1e-6)
    assert not torch.allclose(a, 0.5 + 1.2 * (apart[0] - 0.5), atol=1e-3)
    assert torch.allclose(View().look(image, target)[0], image)


@pytest.fixture
def astronaut_pair(astronaut: Pixels) -> tuple[Tensor, Tensor]:
    photo = torch.from_numpy(astronaut.copy()).permute(2, 0, 1)[None].float() / 255
    return photo[..., :96, 180:276], photo[..., 1:97, 180:276]
