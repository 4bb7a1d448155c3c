"""One real run of the benchmark with the tiny model, and its parts on figures made up."""

import csv
import os
import re
import subprocess
import sys
from argparse import Namespace
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hvqcodec
from benchmarks import rd
from benchmarks.codecs import PILLOW, UnreachableError, hvq, pillow
from benchmarks.photos import read_photo
from benchmarks.points import Point, Row, measure, write_csv
from benchmarks.rate_checks import Deviation, print_deviations, print_ladder, steps
from hvqcodec import Codec
from hvqcodec.choices import Effort
from hvqcodec.errors import MissingError
from hvqcodec.metrics import Metrics
from tests.helpers import TESTS, TINY, Pixels, psnr


@pytest.fixture
def folder(tmp_path: Path, astronaut: Pixels, rocket: Pixels) -> Path:
    """Of two photos that are just large enough for MS-SSIM."""
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(astronaut[:192, 150:342]).save(folder / "a.png")
    Image.fromarray(rocket[:176, -192:]).save(folder / "b.png")
    return folder


def run(*arguments: object) -> str:
    source = str(Path(hvqcodec.__file__).parents[1])
    result = subprocess.run(
        [sys.executable, "-W", "error", "-m", "benchmarks.rd", *map(str, arguments)],
        cwd=TESTS.parent,
        env=os.environ | {"PYTHONPATH": source, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_gives_table_files_and_checks(folder: Path, tmp_path: Path) -> None:
    points, rows, picture = (tmp_path / name for name in ("points.csv", "rows.csv", "plot.png"))
    plotted = ("--plot", picture) if find_spec("matplotlib") else ()
    out = run(
        *(folder, "--model", TINY, "--codecs", "hvq,jpeg,webp", "--rates", "0.01,0.0665,0.068,6"),
        *("--csv", points, "--rows", rows, "--threads", 1, *plotted),
    )

    settings = [("hvq", r) for r in (0.0665, 0.068, 6)]
    settings += [(name, q) for name in ("jpeg", "webp") for q in PILLOW[name][1]]
    shown = re.findall(r"^(hvq|jpeg|webp) +([\d.]+) +([\d.]+) +([\d.]+) ", out, re.MULTILINE)
    assert [(name, float(setting)) for name, setting, _, _ in shown] == settings

    kept, photos = read_csv(points), read_csv(rows)
    assert [(p["codec"], float(p["setting"])) for p in kept] == settings
    for number, point in enumerate(kept):
        one, other = photos[2 * number : 2 * number + 2]
        assert (Path(one["photo"]), Path(other["photo"])) == (folder / "a.png", folder / "b.png")
        assert float(one["bpp"]) == pytest.approx(8 * int(one["bytes"]) / (192 * 192))
        for key in ("bpp", "psnr", "ms_ssim"):
            mean = (float(one[key]) + float(other[key])) / 2
            assert float(point[key]) == pytest.approx(mean)
        assert float(shown[number][2]) == pytest.approx(float(point["bpp"]), abs=1e-4)

    assert re.search(r"^hvq +0\.01  left out: a\.png: the smallest file", out, re.MULTILINE)
    assert re.search(r"^BD-rate of hvq +PSNR +MS-SSIM", out, re.MULTILINE)
    assert re.search(r"^  against webp +[-\d]", out, re.MULTILINE)
    assert "  of 4 that can have their rate all are within 1% or 16 bytes" in out
    for photo in photos[4:6]:
        name, most = Path(photo["photo"]).name, float(photo["bpp"])
        assert f"  {name} cannot use 6 bpp: {most:.4f} is its most\n" in out
    spent, static = (
        sum(float(photo[key]) for photo in photos[:6] for key in keys)
        for keys in (("index_bits", "z_bits"), ("static_bits",))
    )
    assert f"\n pooled {1 - spent / static:7.1%}\n" in out
    assert "From each rate to the next, 4 steps" in out
    if plotted:
        with Image.open(picture) as image:
            assert image.format == "PNG"
            assert np.asarray(image.convert("L")).std() > 10

    again = run(folder, "--codecs", "webp", "--beside", points, "--threads", 1)
    assert re.findall(r"^  against (\w+)", again, re.MULTILINE) == ["hvq", "jpeg"]
    shown = re.findall(r"^(hvq|jpeg|webp) ", again, re.MULTILINE)
    assert shown == ["webp"] * len(PILLOW["webp"][1])
    saved = re.search(r"^  against jpeg +-([\d.]+)%", again, re.MULTILINE)
    assert saved
    assert 10 < float(saved[1]) < 60


@pytest.mark.parametrize(("name", "effort"), [("hvq-fast", "fast"), ("hvq-max", "max")])
def test_codecs_with_another_effort(folder: Path, name: str, effort: Effort) -> None:
    options = Namespace(codecs=[name], model=str(TINY), rates=[0.08], threads=1)
    (contender,) = rd.find_contenders(options)
    photo = Image.fromarray(read_photo(sorted(folder.iterdir())[0]))
    assert contender.name == name
    data = contender.encode(photo, 0.08)
    assert data == Codec.load(TINY).compress(photo, bpp=0.08, effort=effort)


def test_bd_rates_name_the_rates_that_are_compared(capsys: pytest.CaptureFixture[str]) -> None:
    def points(codec: str, scale: float, ms_ssim: float, *settings: int) -> list[Point]:
        figures = ({"bpp": scale * n, "psnr": 20.0 + n, "ms_ssim": ms_ssim} for n in settings)
        return [Point(codec, n, f) for n, f in zip(settings, figures, strict=True)]

    rd.print_bd_rates(
        points("hvq", 0.1, 0.9, 1, 2, 3) + points("jpeg", 0.2, 0.8, 2, 3, 4), ["hvq", "jpeg"]
    )
    out = capsys.readouterr().out
    assert re.search(r"^  against jpeg +-(49|50)\.\d% +-$", out, re.MULTILINE)
    assert "\n  PSNR: hvq at 0.200 to 0.300, jpeg at 0.400 to 0.600 bpp\n" in out
    assert "\n  none for jpeg, MS-SSIM: " in out


def test_what_was_not_measured_of_a_codec_stays_out(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    figures = [{"bpp": n / 10, "psnr": 20.0 + n} for n in (1, 2, 3)]
    points = [Point("hvq", n, m | {"effnet": 4.0 - n}) for n, m in enumerate(figures)]
    points += [Point("jpeg", n, m) for n, m in enumerate(figures)]
    rd.print_bd_rates(points, ["hvq", "jpeg"])
    out = capsys.readouterr().out
    assert re.search(r"^  against jpeg +-?0\.0% +-$", out, re.MULTILINE)
    assert "\n  none for jpeg, EffNet: " in out
    rd.plot.draw(tmp_path / "curves.svg", points)
    assert (tmp_path / "curves.svg").stat().st_size > 5000


@pytest.mark.parametrize("name", PILLOW)
def test_quality_and_bytes_of_a_codec_rise_along_its_settings(name: str, coffee: Pixels) -> None:
    photo = coffee[100:260, 200:360]
    try:
        contender = pillow(name, threads=1)
    except MissingError as error:
        pytest.skip(str(error))
    image = Image.fromarray(photo)
    files = [contender.encode(image, setting) for setting in contender.settings]
    decoded = [np.asarray(contender.decode(data).convert("RGB")) for data in files]
    values = [psnr(photo, pixels) for pixels in decoded]
    assert values == sorted(values)
    assert [len(data) for data in files] == sorted(len(data) for data in files)
    assert files[0] != files[-1]


def test_a_codec_without_its_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    with pytest.raises(MissingError, match="hvqcodec\\[bench\\]"):
        pillow("jxl")
    monkeypatch.delitem(Image.SAVE, "WEBP")
    with pytest.raises(MissingError, match="built without"):
        pillow("webp")


def test_a_photo_that_stops_a_point_is_named(folder: Path) -> None:
    with pytest.raises(UnreachableError, match=r"^b\.png: the smallest file"):
        measure(hvq(str(TINY), [0.001]), 0.001, [folder / "b.png"], Metrics())


def row(photo: str, size: int, pixels: int = 80_000, **figures: float) -> Row:
    return Row(Path(photo), pixels, size, figures)


@pytest.mark.parametrize(
    ("pixels", "size", "excess", "is_within"),
    [
        (800_000, 10_100, 100, True),
        (800_000, 10_101, 101, False),
        (800_000, 9_899, -101, False),
        (80_000, 984, -16, True),
        (80_000, 1_017, 17, False),
        (80_004, 1_000, 0, True),
    ],
)
def test_a_rate_is_met_within_1_percent_or_16_bytes(
    pixels: int, size: int, excess: int, is_within: bool
) -> None:
    deviation = Deviation(row("a.png", size, pixels), 0.1)
    assert (deviation.excess, deviation.is_within) == (excess, is_within)
    assert deviation.share == pytest.approx(excess / (pixels / 80), abs=1e-4)


def test_deviations_name_the_worst_the_missed_and_the_impossible(
    capsys: pytest.CaptureFixture[str],
) -> None:
    largest = {Path("a.png"): 1_500, Path("b.png"): 9_000}
    points = [
        Point("hvq", 0.1, {}, [row("a.png", 1_009), row("b.png", 1_000)]),
        Point("hvq", 0.2, {}, [row("a.png", 1_500), row("b.png", 1_900)]),
    ]
    print_deviations(points, largest.__getitem__)
    assert capsys.readouterr().out.splitlines() == [
        "",
        "Rates asked for, 4 files",
        "  of 3 that can have their rate 1 are not within 1% or 16 bytes, whichever is larger",
        "  furthest off in percent: -5.00%, -100 bytes, b.png at 0.2",
        "  furthest off in bytes: -5.00%, -100 bytes, b.png at 0.2",
        "  missed: -5.00%, -100 bytes, b.png at 0.2",
        "  a.png cannot use 0.2 bpp: 0.1500 is its most",
    ]


def ladder(*lpips: Sequence[float]) -> list[Point]:
    """Points at 0.3, 0.2 and 0.1 bpp of two photos; PSNR of b falls from 0.2 to 0.3."""
    values = zip((0.3, 0.2, 0.1), ((26, 27.96), (25, 28), (24, 27)), lpips, strict=True)
    return [
        Point(
            "hvq",
            rate,
            {},
            [
                row("a.png", 1, psnr=psnr[0], lpips=lpips[0]),
                row("b.png", 1, psnr=psnr[1], lpips=lpips[1]),
            ],
        )
        for rate, psnr, lpips in values
    ]


def test_the_ladder_names_the_worst_steps(capsys: pytest.CaptureFixture[str]) -> None:
    print_ladder(ladder((0.1, 0.1), (0.2, 0.2), (0.19, 0.3)))
    assert capsys.readouterr().out.splitlines() == [
        "",
        "From each rate to the next, 4 steps of single photos",
        "  PSNR falls by at most 0.040 dB: b.png, 0.2 to 0.3; goal 0.050 dB, met",
        "  LPIPS rises by at most 5.26%: a.png, 0.1 to 0.2; goal 1.00%, missed",
    ]


def test_the_ladder_of_photos_that_only_improve(capsys: pytest.CaptureFixture[str]) -> None:
    print_ladder(ladder((0.1, 0.1), (0.2, 0.2), (0.3, 0.3))[1:])
    assert capsys.readouterr().out.splitlines()[2:] == [
        "  PSNR falls nowhere",
        "  LPIPS rises nowhere",
    ]


def test_one_rate_is_no_ladder(capsys: pytest.CaptureFixture[str]) -> None:
    print_ladder([Point("hvq", 0.1, {}, [row("a.png", 1, psnr=20.0)])])
    assert list(steps([])) == []
    assert capsys.readouterr().out == ""


def test_records_with_other_columns_share_a_table(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", [{"codec": "hvq", "z": 1}, {"codec": "jpeg", "dlp": 2.5}])
    assert read_csv(tmp_path / "a.csv") == [
        {"codec": "hvq", "z": "1", "dlp": ""},
        {"codec": "jpeg", "z": "", "dlp": "2.5"},
    ]


def parsed(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> object:
    monkeypatch.setattr(sys, "argv", ["rd", *map(str, arguments)])
    return rd.arguments()


def test_the_ladder_has_ten_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = parsed(monkeypatch, "photos", "--ladder").rates
    assert (len(rates), rates[0], rates[-1]) == (10, 0.06, 0.3)
    assert list(rates) == sorted(rates)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--plot", "plot.bmp"), "writes .png or .svg"),
        (("--csv", "nowhere/points.csv"), "no folder nowhere"),
        (("--codecs", "hvq,gif"), "unknown codec gif"),
        (("--beside", "nowhere.csv"), "No such file"),
        (("--beside", __file__), "no points in"),
        (("--ladder", "--rates", "0.1"), "not allowed with"),
    ],
)
def test_wrong_calls_end_before_any_work(
    arguments: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="2"):
        parsed(monkeypatch, "photos", *arguments)
    assert message in capsys.readouterr().err


def test_a_plot_without_matplotlib_ends_before_any_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SystemExit, match="2"):
        parsed(monkeypatch, "photos", "--plot", "plot.svg")
    assert "hvqcodec[bench]" in capsys.readouterr().err
