"""What `hvq compare` writes; tests/test_browser.py looks at it as people do."""

import io
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from hvqcodec import Codec, HvqWarning, RateError
from hvqcodec.entropy.budget import index_bits_by_cell
from hvqcodec.models.cards import DEFAULT, list_models
from hvqcodec.report import Comparison, compare, to_html
from hvqcodec.report.chart import line_chart, ticks
from hvqcodec.report.overlays import LEVEL_COLOURS, bits_overlay, granularity_overlay
from hvqcodec.report.page import fill
from hvqcodec.report.rivals import best_within, encoder
from tests.helpers import CONTEXT, TINY, Pixels, symbols_of
from tests.test_cli import MODEL, call, said

pytestmark = pytest.mark.skipif(DEFAULT not in list_models(), reason="no model is embedded")

RATES = (0.15, 0.25)


@pytest.fixture(scope="module")
def comparison(shipped: Codec, astronaut: Pixels) -> Comparison:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "ssimulacra2.ssimulacra2", None)
        return compare(astronaut[:192, 100:340], RATES, shipped, name="a <b> & </script>")


def test_all_codecs_take_the_bytes_of_hvq(comparison: Comparison) -> None:
    for at_rate in comparison.rates:
        assert [c.codec for c in at_rate.coded] == ["hvq", "JPEG", "WebP", "AVIF"]
        ours, *others = at_rate.coded
        assert abs(ours.bpp - at_rate.rate) < 0.01 * at_rate.rate + 16 * 8 / (192 * 240)
        for other in others:
            smallest = encoder(other.codec, Image.fromarray(comparison.original))(0)
            assert len(other.data) <= len(ours.data) or other.data == smallest
            assert len(other.data) > 0.7 * len(ours.data)
            decoded = np.asarray(Image.open(io.BytesIO(other.data)).convert("RGB"))
            np.testing.assert_array_equal(decoded, other.pixels)


def test_the_parts_add_up_to_the_file(comparison: Comparison, shipped: Codec) -> None:
    for at_rate in comparison.rates:
        data = at_rate.coded[0].data
        assert sum(at_rate.budget.values()) == pytest.approx(len(data))
        # Beside what is left to whole words of the range coder.
        index_bytes = shipped.inspect(data)["index_bits"] / 8
        assert index_bytes - 1 < at_rate.budget["indices"] < index_bytes + 12
        assert min(bytes_ for part, bytes_ in at_rate.budget.items() if part != "residual") > 0


@pytest.mark.parametrize("model", [TINY, CONTEXT])
def test_bits_of_cells_add_up_to_the_budget(model: Path, cat: Pixels) -> None:
    codec = Codec.load(model)
    data = codec.compress(cat, ratios=(0.3, 0.3, 0.4))
    levels, bits = codec.maps(data)
    assert levels.shape == bits.shape == (38, 58)
    assert bits.sum() == pytest.approx(codec.inspect(data)["index_bits"])
    assert set(np.unique(levels)) == {0, 1, 2}
    coarse = bits.reshape(19, 2, 29, 2).transpose(0, 2, 1, 3)[levels[::2, ::2] == 0]
    assert (coarse == coarse[:, :1, :1]).all()  # a coarse code is shared by its four cells
    symbols = symbols_of(codec.model, data)
    assert (index_bits_by_cell(codec.model.normative, symbols) == bits).all()


def test_smallest_file_where_none_fits(astronaut: Pixels) -> None:
    image = Image.fromarray(astronaut)
    encode = encoder("JPEG", image)
    assert best_within("JPEG", image, 10) == encode(0)
    assert best_within("JPEG", image, 10**9) == encode(100)
    middle = best_within("JPEG", image, 20_000)
    assert len(middle) <= 20_000
    assert any(encode(q) == middle and len(encode(q + 1)) > 20_000 for q in range(101))


def test_formats_that_pillow_lacks_are_left_out(
    monkeypatch: pytest.MonkeyPatch, codec: Codec, cat: Pixels
) -> None:
    monkeypatch.setattr(features, "check", lambda name: name != "avif")
    monkeypatch.setitem(sys.modules, "ssimulacra2.ssimulacra2", None)
    found = compare(cat[:64, :64], [0.9], codec)
    assert [coded.codec for coded in found.rates[0].coded] == ["hvq", "JPEG", "WebP"]
    assert "AVIF" not in to_html(found).split("<main>")[1].split("<script")[0]


def test_formats_that_cannot_hold_the_size_are_left_out(
    monkeypatch: pytest.MonkeyPatch, codec: Codec, cat: Pixels
) -> None:
    monkeypatch.setitem(sys.modules, "ssimulacra2.ssimulacra2", None)
    wide = np.ascontiguousarray(np.tile(cat[:16, :256], (1, 65, 1)))
    found = compare(wide, [0.5], codec)
    assert [coded.codec for coded in found.rates[0].coded] == ["hvq", "JPEG", "AVIF"]
    assert "WebP is left out: it holds sides of 16383 pixels at most" in found.left_out


def test_overlays(cat: Pixels, codec: Codec) -> None:
    levels, bits = codec.maps(codec.compress(cat, ratios=(0.2, 0.3, 0.5)))
    picture = np.asarray(granularity_overlay(levels, 451, 300))
    assert picture.shape == (300, 451, 3)
    for level, colour in LEVEL_COLOURS.items():
        row, column = np.argwhere(levels[:37, :56] == level)[0]
        assert tuple(picture[8 * row + 5, 8 * column + 5]) == colour
    assert bits_overlay(bits, 451, 300).size == (451, 300)


@pytest.fixture(scope="module")
def page(comparison: Comparison) -> str:
    return to_html(comparison)


class TestPage:
    def test_asks_nobody_for_anything(self, page: str) -> None:
        without_data = re.sub(r"data:image/[\w;,+/=]+", "", page)
        assert len(without_data) < len(page) / 4
        outside = re.findall(r"https?:|[\"'(]//\w|\b(?:href|action)=|url\(|@import", without_data)
        assert outside == []
        assert "default-src 'none'" in page

    def test_names_are_text(self, page: str) -> None:
        assert "<h1>a &lt;b&gt; &amp; &lt;/script&gt;</h1>" in page
        assert page.count("</script>") == 2

    def test_holds_the_very_files(self, page: str, comparison: Comparison) -> None:
        text = re.search(r'<script type="application/json" id="data">(.*?)</script>', page)
        assert text
        data = json.loads(text[1])
        for at_rate, told in zip(comparison.rates, data["rates"], strict=True):
            assert list(told["sources"]) == [coded.codec for coded in at_rate.coded]
            assert all(s.startswith("data:image/") for s in told["sources"].values())

    def test_figures_are_in_its_tables(self, page: str, comparison: Comparison) -> None:
        for at_rate in comparison.rates:
            for coded in at_rate.coded:
                assert f"<td>{len(coded.data)}" in page
                assert f">{coded.figures['psnr']:.1f}</td>" in page
        assert "SSIMULACRA2 is left out" in page


def test_fill_replaces_in_the_template_alone() -> None:
    assert fill("<{{a}}|{{b}}>", a="{{b}}", b="x") == "<{{b}}|x>"


def test_ticks_are_round() -> None:
    assert ticks(0.091, 0.302) == [0.1, 0.2, 0.3]
    assert ticks(-63, 63) == [-50, 0, 50]
    assert ticks(21.1, 31.5) == [25, 30]


def test_charts_with_one_point_and_with_equal_values() -> None:
    for curves in ({"hvq": [(0.1, 30.0)]}, {"hvq": [(0.1, 0.0), (0.2, 0.0)]}):
        assert line_chart("PSNR", "bpp", curves).count("<circle") == len(curves["hvq"])


def test_command(tmp_path: Path, cat: Pixels) -> None:
    Image.fromarray(cat[:64, :96]).save(tmp_path / "cat.png")
    assert said(call(tmp_path, "compare", "cat.png", "--rates", "0.9", *MODEL)) == "cat.html\n"
    assert "cat.png" in (tmp_path / "cat.html").read_text()
    result = call(tmp_path, "compare", "cat.png", "--rates", "0.9", *MODEL)
    assert (result.returncode, result.stdout) == (1, b"")
    assert b"exists" in result.stderr
    for rates, status in (("a", 2), ("", 2), ("0.0001", 2)):
        arguments = ("compare", "cat.png", "--rates", rates, "-o", "other.html", *MODEL)
        result = call(tmp_path, *arguments)
        assert (result.returncode, result.stdout) == (status, b"")
        assert result.stderr.count(b"\n") == 1
    assert not (tmp_path / "other.html").exists()
    content, files = (tmp_path / "cat.png").read_bytes(), set(tmp_path.iterdir())
    result = call(tmp_path, "compare", "-", "--rates", "0.9", *MODEL, stdin=content)
    assert (result.returncode, result.stderr) == (0, b"-\n")
    assert b"standard input" in result.stdout
    assert result.stdout.rstrip().endswith(b"</html>")
    assert set(tmp_path.iterdir()) == files


def test_a_rate_below_the_least(codec: Codec, cat: Pixels) -> None:
    with pytest.raises(RateError, match="the smallest file"):
        compare(cat, [0.001, 0.0001], codec)
    with pytest.raises(RateError, match="at least one rate"):
        compare(cat, [], codec)
    with pytest.raises(RateError, match="positive"):
        compare(cat, [0.9, -1], codec)


def test_rates_below_the_least_are_left_out(
    monkeypatch: pytest.MonkeyPatch, codec: Codec, cat: Pixels
) -> None:
    monkeypatch.setitem(sys.modules, "ssimulacra2.ssimulacra2", None)
    with pytest.warns(HvqWarning, match="0.001 bpp is left out: the smallest file"):
        found = compare(cat[:64, :96], [0.001, 0.9], codec)
    assert [at_rate.rate for at_rate in found.rates] == [0.9]
    assert "0.001 bpp is left out" in to_html(found)


def test_webp_is_given_its_bytes(astronaut: Pixels) -> None:
    """From quality 0 to 1 its files grow by a third and more."""
    image = Image.fromarray(astronaut)
    encode = encoder("WebP", image)
    assert len(encode(1)) > 1.3 * len(encode(0))
    limit = (len(encode(0)) + len(encode(1))) // 2
    assert len(encode(0)) < len(best_within("WebP", image, limit)) <= limit
