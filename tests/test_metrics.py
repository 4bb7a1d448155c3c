import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.interpolate import PchipInterpolator
from skimage import data
from skimage.metrics import peak_signal_noise_ratio

from benchmarks.bd_rate import bd_rate, compared_rates, pchip
from hvqcodec.arrays import Pixels
from hvqcodec.metrics import Metrics, to_tensor
from hvqcodec.metrics.ssimulacra import WINDOW, Ssimulacra2

SHARED = Path(__file__).parents[2] / "shared"

RATES = [0.06, 0.1, 0.17, 0.3]
PSNR = [24.1, 26.2, 27.9, 30.4]
LPIPS = [0.41, 0.30, 0.21, 0.12]


def jpeg(pixels: Pixels, quality: int, subsampling: str = "4:2:0") -> Pixels:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=subsampling)
    return np.asarray(Image.open(file))


def posterised(pixels: Pixels) -> Pixels:
    """Damage that is the same on every machine, whatever its libjpeg."""
    return pixels // 32 * 32 + 16


def test_psnr_equals_that_of_scikit_image() -> None:
    photo, damaged = data.astronaut(), jpeg(data.astronaut(), 20)
    expected = peak_signal_noise_ratio(photo, damaged)
    assert Metrics()(photo, damaged)["psnr"] == pytest.approx(expected, abs=1e-4)


def test_identical_photos() -> None:
    measured = Metrics()(data.astronaut(), data.astronaut())
    assert measured["ms_ssim"] == pytest.approx(1)
    assert measured["psnr"] == float("inf")


def test_ms_ssim_falls_with_jpeg_quality() -> None:
    photo = data.coffee()
    values = [Metrics()(photo, jpeg(photo, quality))["ms_ssim"] for quality in (90, 50, 20, 5)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 0.98
    assert values[-1] < 0.9


@pytest.mark.parametrize(
    ("height", "width", "expected"), [(512, 512, 0.9532889), (401, 333, 0.9520325)]
)
def test_ms_ssim_equals_that_of_pytorch_msssim(height: int, width: int, expected: float) -> None:
    """Values of pytorch-msssim 1.0.0 in float64; the odd sides exercise its padding."""
    photo = data.astronaut()[:height, :width]
    assert Metrics()(photo, posterised(photo))["ms_ssim"] == pytest.approx(expected, abs=1e-5)


def test_ms_ssim_refuses_small_photos() -> None:
    photo = data.astronaut()[:160, :300]
    with pytest.raises(ValueError, match="at least 161 pixels, not 160"):
        Metrics()(photo, photo)


def test_lpips_equals_that_of_its_package() -> None:
    """The reference value is of a crop taken before JPEG."""
    kodak = SHARED / "data" / "kodak" / "01.png"
    if not (SHARED / "perceptual").is_dir() or not kodak.exists():
        pytest.skip("the networks or Kodak are not at hand")
    with Image.open(kodak) as image:
        photo = np.asarray(image.convert("RGB"))[:256, :384]
    measured = Metrics(SHARED / "perceptual")(photo, jpeg(photo, 10))
    assert measured["lpips"] == pytest.approx(0.23708, abs=1e-5)
    assert measured["dlp"] > 0


def ssimulacra2(reference: Pixels, decoded: Pixels) -> float:
    pytest.importorskip("ssimulacra2")
    return Ssimulacra2()(to_tensor(reference), to_tensor(decoded)).item()


def test_ssimulacra2_of_identical_photos() -> None:
    assert ssimulacra2(data.cat(), data.cat()) == 100


def test_ssimulacra2_falls_with_jpeg_quality() -> None:
    """About where the reference says: 10, 30, 50 and 70 for 14, 20, 35 and 70."""
    photo = data.coffee()
    values = [ssimulacra2(photo, jpeg(photo, quality)) for quality in (70, 35, 20, 14, 5)]
    assert values == sorted(values, reverse=True)
    assert np.abs(np.array(values[:4]) - (70, 50, 30, 10)).max() < 10
    assert values[-1] < 0
    assert 80 < ssimulacra2(photo, jpeg(photo, 90, "4:4:4")) < 92


@pytest.mark.parametrize(
    ("height", "width", "expected"), [(512, 512, 9.135999), (401, 333, 24.350706)]
)
def test_ssimulacra2_with_the_recursion_of_libjxl(height: int, width: int, expected: float) -> None:
    """Values with libjxl's recursive Gaussian, run on rows and columns as it stands there;
    blurred as in the package they are lower by points."""
    photo = data.astronaut()[:height, :width]
    assert ssimulacra2(photo, posterised(photo)) == pytest.approx(expected, abs=1e-4)


def test_window_of_ssimulacra2_is_a_gaussian_of_sigma_1_5() -> None:
    offset = np.arange(len(WINDOW)) - len(WINDOW) // 2
    moments = [np.sum(WINDOW * offset**power) for power in range(4)]
    np.testing.assert_allclose(moments, [1, 0, 1.5**2, 0], atol=1e-12)


def test_metrics_without_their_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("ssimulacra2.ssimulacra2", "lpips"):
        monkeypatch.setitem(sys.modules, module, None)
    metrics = Metrics()
    lines = metrics.add_optional()
    assert [line.split(" is left out: ")[0] for line in lines] == ["SSIMULACRA2", "LPIPS", "DLP"]
    assert "hvqcodec[metrics]" in lines[0]
    assert "the package lpips " in lines[1]
    assert set(metrics.distances) == {"psnr", "ms_ssim"}


def test_optional_metrics_stand_beside_the_plain_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ssimulacra2")
    monkeypatch.setitem(sys.modules, "lpips", None)
    metrics = Metrics()
    metrics.add_optional()
    photo = data.cat()
    assert set(metrics(photo, posterised(photo))) == {"psnr", "ms_ssim", "ssimulacra2"}


def test_without_networks_only_the_plain_metrics() -> None:
    photo = data.astronaut()
    assert set(Metrics(None)(photo, posterised(photo))) == {"psnr", "ms_ssim"}


@pytest.mark.parametrize(("quality", "lower_is_better"), [(PSNR, False), (LPIPS, True)])
def test_bd_rate_of_scaled_rates(quality: list[float], lower_is_better: bool) -> None:
    for scale, expected in ((1.0, 0.0), (0.8, -20.0), (1.5, 50.0)):
        scaled = [scale * rate for rate in RATES]
        measured = bd_rate(RATES, quality, scaled, quality, lower_is_better)
        assert measured == pytest.approx(expected, abs=1e-6)


def test_bd_rate_takes_points_in_any_order_and_repeated() -> None:
    rates, quality = [*RATES[::-1], RATES[1]], [*PSNR[::-1], PSNR[1]]
    assert bd_rate(RATES, PSNR, rates, quality) == pytest.approx(0)


def test_bd_rate_counts_only_the_overlap() -> None:
    rates, quality = [0.05, 0.1, 0.2, 0.4], [24.0, 27.0, 30.0, 33.0]
    fewer = [0.8 * rate for rate in rates]
    assert bd_rate(rates[:3], quality[:3], fewer[1:], quality[1:]) == pytest.approx(-20)


def test_the_rates_that_bd_rate_compares() -> None:
    rates, quality = [0.05, 0.1, 0.2, 0.4], [24.0, 27.0, 30.0, 33.0]
    spans = compared_rates(rates[:3], quality[:3], [2 * r for r in rates[1:]], quality[1:])
    np.testing.assert_allclose(spans, ((0.1, 0.2), (0.2, 0.4)))
    worse = [-q for q in quality]
    spans = compared_rates(rates, worse, rates[1:], worse[1:], lower_is_better=True)
    np.testing.assert_allclose(spans, ((0.1, 0.4), (0.1, 0.4)))


def test_bd_rate_refuses_curves_that_do_not_overlap() -> None:
    with pytest.raises(ValueError, match="no span of quality"):
        bd_rate(RATES, PSNR, RATES, [q + 10 for q in PSNR])


def test_bd_rate_refuses_quality_that_falls_with_rate() -> None:
    with pytest.raises(ValueError, match="does not rise"):
        bd_rate(RATES, PSNR, RATES, [24.1, 27.9, 26.2, 30.4])
    with pytest.raises(ValueError, match="does not rise"):
        bd_rate(RATES, LPIPS, RATES, LPIPS)


def test_pchip_equals_that_of_scipy() -> None:
    x = np.array([24.1, 24.3, 27.9, 30.4, 34.0])
    y = np.log([0.06, 0.1, 0.11, 0.3, 0.31])
    at = np.linspace(x[0], x[-1], 101)
    np.testing.assert_allclose(pchip(x, y, at), PchipInterpolator(x, y)(at), rtol=0, atol=1e-12)
