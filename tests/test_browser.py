"""The page of `hvq compare` and that of `hvq demo`, in a real browser."""

import io
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from hvqcodec import Codec, MissingError, decompress, probe
from hvqcodec.demo import build, code
from hvqcodec.models.cards import DEFAULT, list_models
from hvqcodec.optional import require
from hvqcodec.report import compare, to_html
from tests.helpers import Pixels
from tests.test_cli import COMMAND, MODEL, call, environment

pytest.importorskip("playwright")
from playwright.sync_api import Browser, Page

from tests.browser import chromium, page_of


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, shipped: Codec, astronaut: Pixels) -> Path:
    """Of a photo of 240 x 180."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(to_html(compare(astronaut[:180, 100:340], [0.15, 0.25], shipped)), "utf-8")
    return path


@pytest.fixture
def page(browser: Browser, report: Path) -> Iterator[Page]:
    with page_of(browser) as page:
        page.goto(report.as_uri())
        page.wait_for_function("document.querySelector('#layer-left img').naturalWidth > 0")
        yield page


def seen(page: Page) -> Pixels:
    """The pixels of the stage, (H, W, 3)."""
    page.wait_for_timeout(100)
    shot = page.locator("#stage").screenshot()
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"))


def column(page: Page) -> float:
    """Where the divider is, as a share of the stage."""
    stage, divider = (page.locator(x).bounding_box() for x in ("#stage", "#divider"))
    assert stage
    assert divider
    return (divider["x"] + divider["width"] / 2 - stage["x"]) / stage["width"]


class TestReport:
    def test_wiping_by_pointer_uncovers_the_other_picture(self, page: Page) -> None:
        before = seen(page)
        box = page.locator("#divider").bounding_box()
        stage = page.locator("#stage").bounding_box()
        assert box
        assert stage
        y = box["y"] + box["height"] / 3
        page.mouse.move(box["x"] + box["width"] / 2, y)
        page.mouse.down()
        page.mouse.move(stage["x"] + 0.8 * stage["width"], y, steps=4)
        page.mouse.up()
        assert column(page) == pytest.approx(0.8, abs=0.01)
        after, width = seen(page), before.shape[1]
        changed = (before != after).any(2).mean(0)
        middle = changed[int(0.53 * width) : int(0.77 * width)]
        assert middle.mean() > 0.3  # the original now, hvq before
        # What the divider and the tags do not touch stays.
        outside = (before != after)[60:, : int(0.45 * width)]
        assert outside.mean() < 0.001

    def test_wiping_by_keyboard(self, page: Page) -> None:
        page.locator("#wipe").focus()
        before = column(page)
        for _ in range(10):
            page.keyboard.press("ArrowLeft")
        assert column(page) == pytest.approx(before - 0.05, abs=0.01)
        page.keyboard.press("End")
        assert column(page) == pytest.approx(1, abs=0.01)

    def test_both_pictures_zoom_in_lock_step(self, page: Page) -> None:
        def transforms() -> list[str]:
            styles = "[...document.querySelectorAll('.layer img')].map(i => i.style.transform)"
            found: list[str] = page.evaluate(styles)
            return found

        first = transforms()
        page.locator("#in").click()
        page.locator("#stage").focus()
        page.keyboard.press("+")
        page.keyboard.press("ArrowRight")
        assert len(set(transforms())) == 1
        assert transforms() != first
        page.mouse.move(400, 500)
        page.mouse.wheel(0, -300)
        assert len(set(transforms())) == 1
        page.locator("#fit").click()
        assert transforms() == first

    def test_other_codecs_and_rates(self, page: Page) -> None:
        pictures = []
        for rate in (0, 1):
            page.locator(f"input[name=rate][value='{rate}']").check()
            for name in ("hvq", "JPEG", "WebP", "AVIF"):
                page.locator("#right").select_option(name)
                assert page.locator("#tag-right").inner_text().startswith(f"{name}, ")
                pictures.append(seen(page))
            assert page.locator(".figures:visible").count() == 1
            assert ("0.15", "0.25")[rate] in page.locator(".figures:visible caption").inner_text()
        for one, other in combinations(pictures, 2):
            assert (one != other).any()

    def test_overlays(self, page: Page) -> None:
        plain = seen(page)
        shown = []
        for name in ("granularity", "bits"):
            page.locator("#overlay").select_option(name)
            shown.append(seen(page))
            assert (shown[-1] != plain).any(2).mean() > 0.8
            assert page.locator("#legend").is_visible()
        assert (shown[0] != shown[1]).any(2).mean() > 0.5

    def test_everything_is_reached_by_tab(self, page: Page) -> None:
        reached = []
        for _ in range(12):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.id || 'rate'"))
        wanted = ["rate", "left", "right", "overlay", "out", "in", "fit", "stage", "wipe"]
        assert [name for name in reached if name in wanted][: len(wanted)] == wanted

    def test_fits_a_phone(self, browser: Browser, report: Path) -> None:
        with page_of(browser, width=360, height=740) as phone:
            phone.goto(report.as_uri())
            assert phone.evaluate("document.documentElement.scrollWidth") <= 360
            for control in ("#left", "#right", "#overlay", "#in", "#wipe"):
                box = phone.locator(control).bounding_box()
                assert box
                assert box["x"] >= 0
                assert box["x"] + box["width"] <= 360
                assert box["height"] >= 30


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The address of a running `hvq demo`."""
    pytest.importorskip("gradio")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [*COMMAND, "demo", "--port", str(port), "--no-browser"]
    log = (tmp_path / "log.txt").open("wb")
    process = subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(address, timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, (tmp_path / "log.txt").read_text()
                time.sleep(0.3)
        yield address
    finally:
        process.terminate()
        process.wait(30)
        log.close()


@pytest.mark.skipif(DEFAULT not in list_models(), reason="no model is embedded")
def test_demo(browser: Browser, served: str, tmp_path: Path, astronaut: Pixels) -> None:
    Image.fromarray(astronaut[:256, 100:356]).save(tmp_path / "photo.png")

    def told(page: Page, bpp: float) -> str:
        """The line about both files, once hvq has that rate."""
        line = page.get_by_text(re.compile(r"^Left: hvq, \d+ bytes"))
        for _ in range(600):
            rate = re.search(
                r"hvq, \d+ bytes, ([\d.]+) bpp", line.inner_text() if line.count() else ""
            )
            if rate and abs(float(rate[1]) - bpp) < 0.01:
                return line.inner_text()
            page.wait_for_timeout(100)
        pytest.fail(f"nothing is told of {bpp} bpp")

    def downloaded(page: Page, name: str) -> bytes:
        with page.expect_download() as download:
            page.get_by_text("Download the .hvq file").click()
        assert download.value.suggested_filename == "photo.hvq"
        download.value.save_as(tmp_path / name)
        return (tmp_path / name).read_bytes()

    with page_of(browser, width=360) as page:  # a phone's
        page.goto(served)
        page.locator("input[type=file]").first.set_input_files(tmp_path / "photo.png")
        first = told(page, 0.15)
        small = downloaded(page, "small.hvq")
        assert f"hvq, {len(small)} bytes" in first
        assert decompress(small).size == (256, 256)
        assert probe(small).bpp == pytest.approx(0.15, abs=0.02)
        sources = "[...document.querySelectorAll('img')].map(i => i.src).join()"
        before = page.evaluate(sources)
        slider = page.locator("input[type=range]").first
        slider.focus()
        for _ in range(5):
            page.keyboard.press("ArrowRight")
        second = told(page, 0.2)
        large = downloaded(page, "large.hvq")
        assert f"hvq, {len(large)} bytes" in second
        assert len(large) > len(small)
        assert page.evaluate(sources) != before
        assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_the_rival_of_the_demo_has_the_bytes_of_the_picture(
    codec: Codec, tmp_path: Path, astronaut: Pixels
) -> None:
    """Those of the metadata are no pixels."""
    photo, bare = tmp_path / "photo.png", tmp_path / "bare.png"
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", "".join(map(str, range(3000))))
    Image.fromarray(astronaut[:128, 100:228]).save(photo, pnginfo=text)
    Image.fromarray(astronaut[:128, 100:228]).save(bare)
    data, _, told = code(codec, photo, 0.08)
    assert len(data) > 3000
    assert told == code(codec, bare, 0.08)[2]


def test_the_demo_lays_both_pictures_over_white(
    codec: Codec, tmp_path: Path, astronaut: Pixels
) -> None:
    clear = np.dstack([astronaut[:64, :64], np.zeros((64, 64), np.uint8)])
    Image.fromarray(clear).save(tmp_path / "clear.png")
    _, pictures, _ = code(codec, tmp_path / "clear.png", 0.15)
    for picture in pictures:
        assert np.asarray(picture).min() > 250


def test_demo_names_its_extra(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(MissingError, match=r"hvqcodec\[demo\]"):
        build(codec)


def test_what_does_not_load_is_not_said_to_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_package.py").write_text("raise ImportError('another numpy is needed')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingError, match=r"^broken_package does not load \(another numpy"):
        require("broken_package", "demo")


def test_view(
    tmp_path: Path,
    codec: Codec,
    cat: Pixels,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """With a viewer that writes down what it is shown."""
    (tmp_path / "photo.hvq").write_bytes(codec.compress(cat[:32, :48]))
    viewer = tmp_path / "xdg-open"
    viewer.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/shown\n')
    viewer.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    if sys.platform != "linux":
        pytest.skip("other systems have other viewers")
    result = call(tmp_path, "view", "photo.hvq", *MODEL)
    assert (result.returncode, result.stderr) == (0, b"")
    copy = Path(result.stdout.decode().strip())
    for _ in range(500):
        if (tmp_path / "shown").exists() and (tmp_path / "shown").read_text():
            break
        time.sleep(0.02)
    assert (tmp_path / "shown").read_text() == result.stdout.decode()
    assert copy.name == "photo.png"
    expected = codec.decompress((tmp_path / "photo.hvq").read_bytes(), "numpy")
    np.testing.assert_array_equal(np.asarray(Image.open(copy)), expected)
    viewer.unlink()
    result = call(tmp_path, "view", "photo.hvq", *MODEL)
    assert (result.returncode, result.stdout) == (1, b"")
    assert b"no viewer could be started; the picture is" in result.stderr
    viewer.write_text("#!/bin/sh\necho tried many >&2\nexit 3\n")
    viewer.chmod(0o755)
    result = call(tmp_path, "view", "photo.hvq", *MODEL)
    assert result.returncode == 1
    assert result.stderr.startswith(b"Error: no viewer could be started; the picture is")
    assert "tried many" not in capfd.readouterr().err
