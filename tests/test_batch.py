"""`hvq batch` and what is behind it, with the tiny model and real processes."""

import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import fsspec
import numpy as np
import pytest
from PIL import Image

from hvqcodec import Codec, FileError, HvqWarning, MissingError, ModelError
from hvqcodec.batch import Record, Settings, Summary, run
from hvqcodec.batch.inputs import find_jobs
from hvqcodec.batch.work import Job, Outcome, Worker
from tests.helpers import TINY, Pixels
from tests.test_cli import COMMAND, MODEL, call, environment

SETTINGS = Settings(str(TINY), "cpu", 1, {"quality": 50.0})
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes as Linux does")


NAMES = ("a.png", "b.jpg", "c.webp", "d.tif", "inside/a.png", "inside/e.bmp")
OUTPUTS = {"a.hvq", "b.hvq", "c.hvq", "d.hvq", "inside/a.hvq", "inside/e.hvq"}


@pytest.fixture
def photos(tmp_path: Path, astronaut: Pixels) -> Path:
    """A folder of six small photos, two of them in a folder inside."""
    folder = tmp_path / "photos"
    (folder / "inside").mkdir(parents=True)
    for number, name in enumerate(NAMES):
        top = 40 * number
        Image.fromarray(astronaut[top : top + 48, 180:260]).save(folder / name)
    return folder


def records(folder: Path) -> list[Record]:
    lines = (folder / "manifest.jsonl").read_text().splitlines()
    return [Record(**json.loads(line)) for line in lines]


def outputs(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.hvq")}


class TestJobs:
    def test_of_a_folder(self, photos: Path) -> None:
        for name in ("notes.txt", "inside/b.HEIC", "inside/c.heic", "licence", ".x", "d.hvq"):
            (photos / name).write_text("no image")
        with pytest.warns(
            HvqWarning, match=r"no images: \.heic \(2\), \.txt \(1\), no suffix \(1\);"
        ):
            assert {job.output for job in find_jobs([str(photos)])} == OUTPUTS

    def test_of_globs(self, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(photos.parent)
        assert [job.output for job in find_jobs(["photos/*.png"])] == ["a.hvq"]
        found = find_jobs(["photos/**/*.png", "*/inside/*"])
        assert [(job.input, job.output) for job in found] == [
            ("photos/a.png", "a.hvq"),
            ("photos/inside/a.png", "inside/a.hvq"),
            ("photos/inside/e.bmp", "photos/inside/e.hvq"),
        ]
        # None leads out of the folder of the outputs.
        up = find_jobs(["photos/*/../a.*"])
        assert [(job.input, job.output) for job in up] == [("photos/inside/../a.png", "a.hvq")]

    def test_none_twice(self, photos: Path) -> None:
        names = [str(photos), str(photos / "a.png"), f"{photos}/inside/../*.png"]
        assert len(find_jobs(names)) == len(OUTPUTS)

    def test_images_of_one_name_keep_their_suffix(self, photos: Path) -> None:
        shutil.copy(photos / "b.jpg", photos / "a.jpg")
        names = {job.output for job in find_jobs([str(photos)])}
        assert names == OUTPUTS - {"a.hvq"} | {"a.png.hvq", "a.jpg.hvq"}

    def test_images_of_names_that_hold_another(self, photos: Path) -> None:
        names = ("a.jpg", "a.png.jpg", "a.png.jpg.webp", "b.webp.png")
        for name in names:
            shutil.copy(photos / "b.jpg", photos / name)
        found = {job.output for job in find_jobs([str(photos)])}
        expected = {"a.png.hvq", "a.jpg.hvq", "a.png.jpg.hvq", "a.png.jpg.webp.hvq", "b.webp.hvq"}
        assert found == OUTPUTS - {"a.hvq"} | expected

    def test_two_of_one_place_are_refused(self, photos: Path) -> None:
        names = [str(photos / "a.png"), str(photos / "inside" / "a.png")]
        with pytest.raises(FileError, match=r"would both become a\.png\.hvq"):
            find_jobs(names)

    def test_nothing_found(self, tmp_path: Path) -> None:
        for name in (str(tmp_path), f"{tmp_path}/*.png", "memory://nowhere/*.png"):
            with pytest.raises(FileError, match="no image is found there"):
                find_jobs([name])
        for name in ("", "a\0.png"):
            with pytest.raises(FileError, match="is the name of no file"):
                find_jobs([name])

    def test_of_urls(self, photos: Path) -> None:
        memory = fsspec.filesystem("memory")
        for path in ("a.png", "b.jpg", "inside/e.bmp"):
            memory.pipe(f"/shelf/{path}", (photos / path).read_bytes())
        places = {
            "memory://shelf": {"a.hvq", "b.hvq", "inside/e.hvq"},
            "memory://shelf/*.png": {"a.hvq"},
            "memory://shelf/inside/e.bmp": {"e.hvq"},
            f"file://{photos}/inside": {"a.hvq", "e.hvq"},
        }
        for name, expected in places.items():
            jobs = find_jobs([name])
            assert {job.output for job in jobs} == expected
            assert {job.input.split("://")[0] for job in jobs} == {name.split("://")[0]}

    def test_of_a_url_whose_path_is_all_of_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As those of HTTP are."""
        system = Mock(spec=["isdir", "unstrip_protocol"])
        system.isdir.return_value = False
        system.unstrip_protocol.side_effect = str
        monkeypatch.setattr(fsspec.core, "url_to_fs", lambda name: (system, name))
        url = "https://host/shelf/a.jpg"
        assert find_jobs([url]) == [Job(url, "a.hvq")]

    def test_names_that_differ_in_capitals_alone(self, photos: Path) -> None:
        """Some file systems hold them for one."""
        shutil.copy(photos / "b.jpg", photos / "A.jpg")
        names = {job.output for job in find_jobs([str(photos)])}
        assert names == OUTPUTS - {"a.hvq"} | {"a.png.hvq", "A.jpg.hvq"}

    def test_names_that_differ_in_capitals_in_two_folders(self, photos: Path) -> None:
        (photos / "other").mkdir()
        shutil.copy(photos / "a.png", photos / "other" / "A.PNG")
        with pytest.raises(FileError, match=r"would both become A\.PNG\.hvq"):
            find_jobs([str(photos / "a.png"), str(photos / "other" / "A.PNG")])

    def test_hidden_folders_are_left_out(self, photos: Path) -> None:
        (photos / ".thumbnails").mkdir()
        shutil.copy(photos / "a.png", photos / ".thumbnails" / "t.png")
        for name in (str(photos), f"file://{photos}"):
            assert {job.output for job in find_jobs([name])} == OUTPUTS

    def test_of_links(self, photos: Path) -> None:
        """One to a photo has an output of its own, one to nothing fails in its turn."""
        (photos / "0.png").symlink_to("a.png")
        (photos / "1.png").symlink_to("nowhere.png")
        (photos / "album").symlink_to("inside")
        with pytest.warns(HvqWarning, match=r"album is a link to a folder, which is not followed"):
            names = [job.output for job in find_jobs([str(photos)])]
        assert set(names) == OUTPUTS | {"0.hvq", "1.hvq"}
        assert len(find_jobs([str(photos / "0.png"), str(photos / "a.png")])) == 2

    def test_what_a_server_lists_elsewhere_is_left_out(self) -> None:
        memory = fsspec.filesystem("memory")
        for path in ("/bucket/../../evil/x.png", "/bucket/a.png"):
            memory.store[path] = memory.open("/any", "wb")
        with pytest.warns(HvqWarning, match="its output would lie elsewhere"):
            assert [job.output for job in find_jobs(["memory://bucket"])] == ["a.hvq"]

    def test_of_chained_urls(self, photos: Path, worker: Worker) -> None:
        with zipfile.ZipFile(photos.parent / "photos.zip", "w") as archive:
            for name in NAMES:
                archive.write(photos / name, name)
        packed = f"::{photos.parent}/photos.zip"
        cached = f"simplecache::file://{photos}"
        places = {
            f"zip://*.png{packed}": {"a.hvq"},
            f"zip://inside/e.bmp{packed}": {"e.hvq"},
            f"zip://inside{packed}": {"a.hvq", "e.hvq"},
            f"{cached}/b.jpg": {"b.hvq"},
            f"{cached}/inside": {"a.hvq", "e.hvq"},
        }
        for name, expected in places.items():
            jobs = find_jobs([name])
            assert {job.output for job in jobs} == expected
            assert [worker.convert(job.input).error for job in jobs] == [None] * len(jobs)

    def test_urls_need_an_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "fsspec", None)
        with pytest.raises(MissingError, match=r"hvqcodec\[remote\]"):
            find_jobs(["s3://bucket/photo.png"])


@pytest.fixture(scope="module")
def worker() -> Worker:
    return Worker(SETTINGS)


class TestWorker:
    def test_encodes_as_compress_does(self, worker: Worker, codec: Codec, photos: Path) -> None:
        outcome = worker.convert(str(photos / "a.png"))
        assert outcome.data == codec.compress(photos / "a.png", quality=50)
        assert (outcome.error, outcome.notices) == (None, [])

    def test_reads_urls(self, worker: Worker, photos: Path) -> None:
        content = (photos / "a.png").read_bytes()
        fsspec.filesystem("memory").pipe("/one/a.png", content)
        expected = worker.convert(str(photos / "a.png")).data
        assert worker.convert("memory://one/a.png").data == expected
        fault = worker.convert("memory://one/b.png").error
        assert fault
        assert fault.startswith("memory://one/b.png: cannot be read")

    def test_reads_urls_of_the_web(self, worker: Worker, photos: Path) -> None:
        def handler(*arguments: Any) -> SimpleHTTPRequestHandler:
            return SimpleHTTPRequestHandler(*arguments, directory=str(photos))

        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever).start()
            try:
                (job,) = find_jobs([f"http://127.0.0.1:{server.server_port}/b.jpg"])
                outcome = worker.convert(job.input)
            finally:
                server.shutdown()
        assert job.output == "b.hvq"
        assert outcome.data == worker.convert(str(photos / "b.jpg")).data

    def test_faults_name_the_photo(self, worker: Worker, photos: Path) -> None:
        (photos / "f.png").write_bytes(b"no image")
        outcome = worker.convert(str(photos / "f.png"))
        assert outcome.data is None
        assert outcome.error == f"{photos / 'f.png'}: cannot be read as an image (its format " \
            "is unknown)"  # fmt: skip
        tight = Worker(Settings(str(TINY), "cpu", 1, {"max_bytes": 3}))
        fault = tight.convert(str(photos / "a.png")).error
        assert fault
        assert fault.startswith(f"{photos / 'a.png'}: the smallest file")

    @pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory")])
    def test_too_little_memory_for_one_photo(
        self, worker: Worker, photos: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        def exhaust(*_: object, **__: object) -> bytes:
            raise error

        monkeypatch.setattr(Codec, "compress", exhaust)
        photo = str(photos / "a.png")
        assert worker.convert(photo).error == f"{photo}: not enough memory"
        monkeypatch.undo()
        assert worker.convert(photo).data

    def test_notices_come_back(self, worker: Worker, photos: Path) -> None:
        Image.open(photos / "a.png").convert("1").save(photos / "g.png")
        assert ["1 bit" in notice for notice in worker.convert(str(photos / "g.png")).notices] == [
            True
        ]


def test_a_batch(tmp_path: Path, photos: Path, codec: Codec) -> None:
    (photos / "bad.png").write_bytes((photos / "a.png").read_bytes()[:300])
    seen: list[Record | None] = []
    jobs = find_jobs([str(photos)])
    summary = run(
        jobs, tmp_path / "out", SETTINGS, workers=2, report=lambda s, record: seen.append(record)
    )
    assert summary == Summary(total=7, written=6, skipped=0, failed=1)
    made = outputs(tmp_path / "out")
    assert set(made) == OUTPUTS
    written = {record.output: record for record in records(tmp_path / "out")}
    assert [record for record in seen if record] == list(records(tmp_path / "out"))
    for job in jobs:
        record = written[job.output]
        if job.output == "bad.hvq":
            assert record.error
            assert "bad.png" in record.error
            assert (record.bytes, record.bpp) == (None, None)
            continue
        assert made[job.output] == codec.compress(job.input, quality=50)
        assert record.bytes == len(made[job.output])
        with Image.open(job.input) as image:
            bpp = 8 * record.bytes / (image.width * image.height)
        assert record.bpp == pytest.approx(bpp, rel=0.2)  # metadata is not counted
        assert (record.input, record.error) == (job.input, None)
        assert record.seconds > 0


class TestAgain:
    """Runs after a first one."""

    @pytest.fixture
    def first(self, tmp_path: Path, photos: Path) -> Path:
        """The folder of its outputs."""
        assert run(find_jobs([str(photos)]), tmp_path / "out", SETTINGS, workers=2).failed == 0
        return tmp_path / "out"

    def test_what_is_done_is_skipped(self, first: Path, photos: Path) -> None:
        before = {path: path.stat().st_mtime_ns for path in first.rglob("*.hvq")}
        (first / "b.hvq").unlink()
        (first / "c.hvq").write_bytes(b"damaged")
        lines = (first / "manifest.jsonl").read_text()
        summary = run(find_jobs([str(photos)]), first, SETTINGS)
        assert summary == Summary(total=6, written=1, skipped=4, failed=1)  # c is not replaced
        same = {p for p, time in before.items() if p.exists() and p.stat().st_mtime_ns == time}
        assert same == set(before) - {first / "b.hvq", first / "c.hvq"}
        assert (first / "c.hvq").read_bytes() == b"damaged"
        assert (first / "manifest.jsonl").read_text().startswith(lines)

    def test_other_settings(self, first: Path, photos: Path, codec: Codec) -> None:
        other = Settings(str(TINY), "cpu", 1, {"quality": 80.0})
        before = outputs(first)
        jobs = find_jobs([str(photos)])
        assert run(jobs, first, other).failed == 6
        assert outputs(first) == before
        assert run(jobs, first, SETTINGS).skipped == 6  # failures do not hide what was done
        assert run(jobs, first, other, overwrite=True).written == 6
        made = outputs(first)
        assert made.keys() == before.keys()
        for job in jobs:
            assert made[job.output] == codec.compress(job.input, quality=80)
        assert run(jobs, first, other, overwrite=True).skipped == 6

    def test_a_photo_that_changed_behind_a_url(
        self, first: Path, photos: Path, worker: Worker
    ) -> None:
        """Of this machine it is seen, of others only if one asks for it."""

        def engine(_: Settings, jobs: Sequence[Job], __: int) -> Iterator[tuple[Job, Outcome]]:
            return ((job, worker.convert(job.input)) for job in jobs)

        def again(url: str, overwrite: bool = False) -> tuple[int, int, int]:
            summary = run(
                find_jobs([url]), first / url[:4], SETTINGS, engine=engine, overwrite=overwrite
            )
            return summary.written, summary.skipped, summary.failed

        there, here = fsspec.filesystem("memory"), photos / "a.png"
        there.pipe("/changing/a.png", here.read_bytes())
        assert again("memory://changing") == (1, 0, 0)
        assert again(f"file://{here}") == (1, 0, 0)
        shutil.copy(photos / "b.jpg", here)
        there.pipe("/changing/a.png", here.read_bytes())
        assert again("memory://changing") == (0, 1, 0)
        assert again("memory://changing", overwrite=True) == (1, 0, 0)
        assert again("memory://changing", overwrite=True) == (0, 1, 0)
        assert again(f"file://{here}") == (0, 0, 1)
        there.pipe("/other/a.png", here.read_bytes())
        summary = run(find_jobs(["memory://other"]), first / "memo", SETTINGS, engine=engine)
        assert summary == Summary(total=1, failed=1)  # another photo, whose output stays

    def test_a_photo_that_changed(self, first: Path, photos: Path) -> None:
        """However old it says it is."""
        now = time.time()
        os.utime(photos / "a.png", (now + 10, now + 10))
        Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(photos / "b.jpg")
        os.utime(photos / "b.jpg", (now - 1000, now - 1000))
        jobs = find_jobs([str(photos)])
        assert run(jobs, first, SETTINGS) == Summary(total=6, written=0, skipped=5, failed=1)
        assert run(jobs, first, SETTINGS, overwrite=True).written == 1
        assert run(jobs, first, SETTINGS).skipped == 6

    def test_a_photo_that_changed_since_a_release_that_noted_only_when(
        self, first: Path, photos: Path
    ) -> None:
        book = first / "manifest.jsonl"
        lines = [json.loads(line) for line in book.read_text().splitlines()]
        for line in lines:
            del line["photo"]
        book.write_text("".join(json.dumps(line) + "\n" for line in lines))
        jobs = find_jobs([str(photos)])
        assert run(jobs, first, SETTINGS).skipped == 6
        now = time.time()
        os.utime(photos / "a.png", (now + 10, now + 10))
        assert run(jobs, first, SETTINGS).failed == 1

    def test_another_photo_of_the_same_name(
        self, first: Path, photos: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "others").mkdir()
        Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / "others" / "a.png")
        jobs = find_jobs([str(tmp_path / "others")])
        before = outputs(first)
        assert run(jobs, first, SETTINGS) == Summary(total=1, written=0, skipped=0, failed=1)
        assert outputs(first) == before
        gone = [Job(str(tmp_path / "nowhere" / "a.png"), "a.hvq")]
        assert run(gone, first, SETTINGS) == Summary(total=1, failed=1)
        # What was deleted after it was coded is done.
        (photos / "a.png").unlink()
        assert run([Job(str(photos / "a.png"), "a.hvq")], first, SETTINGS).skipped == 1
        assert outputs(first) == before

    def test_a_file_that_was_written_but_not_recorded(self, first: Path, photos: Path) -> None:
        """As a run leaves it that is killed between the two; half a line as well."""
        lines = (first / "manifest.jsonl").read_text().splitlines(keepends=True)
        (first / "manifest.jsonl").write_text("".join(lines[:-1]) + lines[-1][:30])
        times = {path: path.stat().st_mtime_ns for path in first.rglob("*.hvq")}
        assert run(find_jobs([str(photos)]), first, SETTINGS).written == 1
        assert times == {path: path.stat().st_mtime_ns for path in first.rglob("*.hvq")}
        again = (first / "manifest.jsonl").read_text().splitlines()
        assert again[-2] == lines[-1][:30]
        assert json.loads(again[-1])["output"] == json.loads(lines[-1])["output"]

    def test_lines_that_are_no_records(self, first: Path, photos: Path) -> None:
        line = json.loads((first / "manifest.jsonl").read_text().splitlines()[0])
        with (first / "manifest.jsonl").open("a") as file:
            file.write(json.dumps(line | {"output": ["a"]}) + "\n[1]\n{}\n")
        assert run(find_jobs([str(photos)]), first, SETTINGS).skipped == 6

    def test_a_file_of_somebody_else_stays(self, first: Path, photos: Path) -> None:
        (first / "manifest.jsonl").unlink()
        (first / "a.hvq").write_bytes(b"precious")
        summary = run(find_jobs([str(photos)]), first, SETTINGS)
        assert (summary.written, summary.failed) == (5, 1)
        assert (first / "a.hvq").read_bytes() == b"precious"


def test_names_are_a_list_of_names(photos: Path) -> None:
    with pytest.raises(TypeError, match="a list"):
        find_jobs(str(photos))
    assert find_jobs([photos]) == find_jobs([str(photos)])
    with pytest.raises(FileError, match="the name of no file"):
        find_jobs([""])


def test_folders_that_are_not_to_be_looked_into(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link into one fails in its turn."""
    (photos / "link.png").symlink_to("/secret/photo.png")
    stat = os.stat

    def refuse(path: str, *args: object, **given: object) -> os.stat_result:
        if str(path).endswith("link.png") and given.get("follow_symlinks", True):
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, *args, **given)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "stat", refuse)
    assert "link.hvq" in {job.output for job in find_jobs([str(photos)])}


def test_a_folder_may_be_named_by_a_string(tmp_path: Path, photos: Path) -> None:
    jobs = find_jobs([photos / "a.png"])
    run(jobs, str(tmp_path / "out"), SETTINGS, manifest=str(tmp_path / "m.jsonl"))
    assert set(outputs(tmp_path / "out")) == {"a.hvq"}
    assert (tmp_path / "m.jsonl").exists()
    with pytest.raises(ValueError, match=r"settings\.threads must be at least 1"):
        run(jobs, tmp_path, replace(SETTINGS, threads=0))


def test_names_that_are_too_long(photos: Path) -> None:
    """Fail in their turn, like what is not there."""
    long = "x" * 300 + ".png"
    assert [job.output for job in find_jobs([long, str(photos / "a.png")])] == [
        "x" * 300 + ".hvq",
        "a.hvq",
    ]
    with pytest.raises(ModelError, match="no model"):
        Codec.load("x" * 300 + ".safetensors")


def test_an_output_that_cannot_be_read_stops_no_other(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs, folder = find_jobs([str(photos / "a.png"), str(photos / "b.jpg")]), tmp_path / "out"
    run(jobs[:1], folder, SETTINGS)
    read = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.parent == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    summary = run(jobs, folder, SETTINGS)
    monkeypatch.undo()
    assert (summary.written, summary.failed) == (1, 1)
    assert set(outputs(folder)) == {"a.hvq", "b.hvq"}


def test_a_missing_model(tmp_path: Path, photos: Path) -> None:
    settings = Settings(str(tmp_path / "none.safetensors"), "cpu", 1, {})
    with pytest.raises(ModelError, match="no model"):
        run(find_jobs([str(photos)]), tmp_path / "out", settings)


def test_a_device_that_is_not_there(tmp_path: Path, photos: Path) -> None:
    settings = Settings(str(TINY), "cuda:99", 1, {})
    with pytest.raises(ModelError, match="cuda:99"):
        run(find_jobs([str(photos)]), tmp_path / "out", settings)


def test_a_folder_that_cannot_be_made(tmp_path: Path, photos: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(FileError, match="out"):
        run(find_jobs([str(photos)]), tmp_path / "out", SETTINGS)


def test_a_worker_that_is_killed_loses_nothing(tmp_path: Path, photos: Path) -> None:
    killed: list[int | None] = []

    def kill(summary: Summary, record: Record | None) -> None:
        if summary.done == 1:
            for process in multiprocessing.active_children():
                process.kill()
                killed.append(process.pid)

    summary = run(find_jobs([str(photos)]), tmp_path / "out", SETTINGS, workers=2, report=kill)
    assert killed
    assert summary == Summary(total=6, written=6, skipped=0, failed=0)
    assert set(outputs(tmp_path / "out")) == OUTPUTS


def test_workers_that_never_live_do_not_stop_the_run(tmp_path: Path, photos: Path) -> None:
    ended = threading.Event()

    def kill() -> None:
        while not ended.wait(0.01):
            for process in multiprocessing.active_children():
                process.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        jobs = [Job(str(photos / "a.png"), "a.hvq"), Job(str(photos / "b.jpg"), "b.hvq")]
        summary = run(jobs, tmp_path / "out", SETTINGS)
    finally:
        ended.set()
        killer.join()
    assert summary == Summary(total=2, written=0, skipped=0, failed=2)
    faults = [record.error or "" for record in records(tmp_path / "out")]
    assert ["its process ended" in fault for fault in faults] == [True, True]


class TestCommand:
    def test_all_is_well(self, tmp_path: Path, photos: Path) -> None:
        result = call(tmp_path, "batch", str(photos), "-o", "out", "--workers", "2", *MODEL)
        assert (result.returncode, result.stderr) == (0, b"")
        pattern = r"6 encoded, 0 skipped, 0 failed in [\d.]+ s \([\d.]+ photos/s\)\n"
        assert re.fullmatch(pattern, result.stdout.decode())
        assert set(outputs(tmp_path / "out")) == OUTPUTS

    def test_faults_are_told_and_counted(self, tmp_path: Path, photos: Path) -> None:
        (photos / "a.png").write_bytes(b"no image")
        arguments = ("photos/*.png", "photos/none.png", "photos/b.jpg", "-o", "out", *MODEL)
        result = call(tmp_path, "batch", *arguments, "--rate", "0.9")
        assert result.returncode == 1
        assert result.stdout.decode().startswith("1 encoded, 0 skipped, 2 failed in ")
        lines = [line.split(": ")[:2] for line in result.stderr.decode().splitlines()]
        assert sorted(lines) == [
            ["Error", "photos/a.png"],
            ["Error", "photos/none.png"],
            ["Notice", "photos/b.jpg"],  # which cannot use that rate
        ]

    def test_calls_that_cannot_be(self, tmp_path: Path, photos: Path) -> None:
        for arguments in (
            ("batch", str(photos)),
            ("batch", str(photos), "-o", "out", "--ratios", "1,0,0"),
            ("batch", str(photos), "-o", "out", "--workers", "0"),
        ):
            result = call(tmp_path, *arguments)
            assert (result.returncode, result.stdout) == (2, b"")
            assert result.stderr.decode().count("\n") == 1
        assert not (tmp_path / "out").exists()

    def test_manifest_elsewhere(self, tmp_path: Path, photos: Path) -> None:
        arguments = (str(photos / "a.png"), "-o", "out", "--manifest", "m.jsonl", *MODEL)
        assert call(tmp_path, "batch", *arguments).returncode == 0
        assert json.loads((tmp_path / "m.jsonl").read_text())["output"] == "a.hvq"
        assert not (tmp_path / "out" / "manifest.jsonl").exists()

    @LINUX
    @pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT])
    def test_stopped_and_started_again(
        self, tmp_path: Path, photos: Path, astronaut: Pixels, sign: signal.Signals
    ) -> None:
        for number in range(20):
            Image.fromarray(astronaut).save(photos / f"large{number}.jpg")
        command = [*COMMAND, "batch", "photos", "-o", "out", "--workers", "2", *MODEL]
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, start_new_session=True,
            # Background jobs of a shell ignore the signal, and so would their children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        )  # fmt: skip
        while not (tmp_path / "out" / "b.hvq").exists() and process.poll() is None:
            time.sleep(0.01)
        workers = children(process.pid)
        process.send_signal(sign)
        out, err = process.communicate(timeout=60)
        if sign == signal.SIGINT:
            assert (process.returncode, out, err) == (130, b"", b"Error: interrupted\n")
        for _ in range(1000):  # nobody is left behind
            if not any(Path(f"/proc/{pid}").exists() for pid in workers):
                break
            time.sleep(0.02)
        else:
            pytest.fail("workers outlive the run")
        some = outputs(tmp_path / "out")
        assert 0 < len(some) < 26
        result = call(tmp_path, "batch", "photos", "-o", "out", "--workers", "1", *MODEL)
        assert result.returncode == 0
        counts = [int(n) for n in re.findall(rb"(\d+) (?:encoded|skipped)", result.stdout)]
        assert sum(counts) == 26
        assert counts[1] >= len(some) - 1  # one may have been written and not recorded
        made = outputs(tmp_path / "out")
        assert len(made) == 26
        assert some.items() <= made.items()


def children(pid: int) -> list[int]:
    """Those of a process that Python's multiprocessing has begun."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(p) for p in found]


@pytest.mark.skipif(sys.platform != "linux", reason="needs names that are no Unicode")
def test_names_that_are_no_unicode_or_end_a_line(tmp_path: Path, photos: Path) -> None:
    (photos / "a.png").rename(photos / os.fsdecode(b"bad\xff.png"))
    (photos / "b.jpg").rename(photos / "two\u2028lines.jpg")
    folder = tmp_path / "out"
    first, second = (run(find_jobs([str(photos)]), folder, SETTINGS) for _ in range(2))
    assert (first.written, first.failed) == (len(NAMES), 0)
    assert (second.written, second.skipped) == (0, len(NAMES))


def test_settings_may_hold_numbers_of_numpy() -> None:
    one, other = (replace(SETTINGS, choices={"max_bytes": n}) for n in (900, np.int64(900)))
    assert one.digest() == other.digest()


def test_settings_that_come_to_the_same() -> None:
    def digest(**choices: object) -> str:
        return Settings(str(TINY), "cpu", 1, choices).digest()

    unsaid = {"bpp": None, "strip": False, "effort": "auto", "ratios": None, "tile": 512}
    assert digest(quality=50.0) == digest(quality=50.0, **unsaid) == digest(quality=50) == digest()
    assert digest(bpp=1) == digest(bpp=1.0)
    assert digest(quality=0) not in (digest(), digest(quality=False))
    assert digest() != digest(effort="fast")


def test_a_card_that_is_none(tmp_path: Path, photos: Path) -> None:
    model = tmp_path / "model.safetensors"
    shutil.copy(TINY, model)
    for card in ("no JSON", "{}", "[]", '{"fingerprint": 3}'):
        model.with_suffix(".json").write_text(card)
        with pytest.raises(ModelError, match="not the card of a model"):
            Settings(str(model), "cpu", 1, {}).digest()


def test_a_photo_that_changes_while_it_is_coded_is_coded_again(
    photos: Path, tmp_path: Path, astronaut: Pixels
) -> None:
    photo, worker = photos / "a.png", Worker(SETTINGS)

    def engine(*_: object) -> Iterator[tuple[Job, Outcome]]:
        outcome = worker.convert(str(photo))
        Image.fromarray(astronaut[100:148, 180:260]).save(photo)
        yield Job(str(photo), "a.hvq"), outcome

    jobs = find_jobs([str(photo)])
    assert run(jobs, tmp_path / "out", SETTINGS, engine=engine).written == 1
    assert run(jobs, tmp_path / "out", SETTINGS, engine=engine, overwrite=True).skipped == 0


def test_no_workers(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="workers must be at least 1"):
        run([], tmp_path, SETTINGS, workers=0)


def test_a_script_that_its_own_workers_run_again(photos: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\n"
        "from hvqcodec.batch import Settings, run\n"
        "from hvqcodec.batch.inputs import find_jobs\n"
        f"settings = Settings({str(TINY)!r}, 'cpu', 1, {{}})\n"
        f"run(find_jobs([{str(photos / 'a.png')!r}]), Path('out'), settings)\n"
    )
    words = [sys.executable, str(script)]
    subprocess.run(words, cwd=tmp_path, env=environment(), capture_output=True, check=True)
    (record,) = records(tmp_path / "out")
    assert record.error
    assert 'is the script without `if __name__ == "__main__":`?' in record.error
