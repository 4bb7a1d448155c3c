import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hvqcodec import FileError
from hvqcodec.files import check_output, named, read_file, write_atomically


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With in.png and out.hvq."""
    (tmp_path / "in.png").write_bytes(b"photo")
    (tmp_path / "out.hvq").write_bytes(b"old")
    return tmp_path


def check(folder: Path, output: str, overwrite: bool = False) -> None:
    check_output(folder / output, folder / "in.png", overwrite)


def test_good_outputs_pass(folder: Path) -> None:
    check(folder, "new.hvq")
    check(folder, "out.hvq", overwrite=True)
    check_output(folder / "new.hvq", Path("-"), False)


@pytest.mark.parametrize(
    ("output", "overwrite", "message"),
    [
        ("out.hvq", False, r"out\.hvq exists: ask to overwrite it"),
        ("in.png", True, r"in\.png is the input itself: give another output"),
        ("./in.png", False, "is the input itself"),
        (".", True, "is a folder: give the name of a file"),
        ("absent/new.hvq", True, "the folder .*absent does not exist"),
        ("in.png/new.hvq", True, r"the folder .*in\.png does not exist"),
    ],
)
def test_bad_outputs_are_refused(folder: Path, output: str, overwrite: bool, message: str) -> None:
    before = contents(folder)
    with pytest.raises(FileError, match=message):
        check(folder, output, overwrite)
    assert contents(folder) == before


def test_a_link_to_the_input_is_the_input(folder: Path) -> None:
    (folder / "soft").symlink_to(folder / "in.png")
    (folder / "hard").hardlink_to(folder / "in.png")
    for name in ("soft", "hard"):
        with pytest.raises(FileError, match="is the input itself"):
            check(folder, name, overwrite=True)


@pytest.mark.skipif(os.name != "posix", reason="no such files")
def test_devices_and_pipes_are_never_replaced(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    for output in (folder / "pipe", Path("/dev/null")):
        with pytest.raises(FileError, match="is no ordinary file"):
            check_output(output, folder / "in.png", overwrite=True)


def test_reading(folder: Path) -> None:
    assert read_file(folder / "out.hvq") == b"old"
    with pytest.raises(FileError, match=r"absent\.hvq: No such file"):
        read_file(folder / "absent.hvq")
    with pytest.raises(FileError, match=folder.name):
        read_file(folder)


def test_writing(folder: Path) -> None:
    write_atomically(folder / "out.hvq", b"new")
    write_atomically(folder / "more.hvq", b"")
    assert contents(folder) == {"in.png": b"photo", "out.hvq": b"new", "more.hvq": b""}


@pytest.mark.skipif(os.name != "posix", reason="other permissions")
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_files_get_the_usual_permissions(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "photo.hvq", b"data")
        (tmp_path / "plain").write_bytes(b"")
    finally:
        os.umask(before)
    assert (tmp_path / "photo.hvq").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.skipif(os.name != "posix", reason="other permissions")
def test_a_file_that_is_replaced_hands_on_its_permissions(folder: Path) -> None:
    (folder / "out.hvq").chmod(0o600)
    write_atomically(folder / "out.hvq", b"new")
    assert (folder / "out.hvq").stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.name != "posix", reason="other permissions")
def test_writing_in_threads_leaves_the_umask_alone(tmp_path: Path) -> None:
    before = os.umask(0o027)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            paths = [tmp_path / str(number) for number in range(400)]
            list(pool.map(lambda path: write_atomically(path, b"data"), paths))
    finally:
        sys.setswitchinterval(interval)
        found = os.umask(before)
    assert found == 0o027
    assert {path.stat().st_mode & 0o777 for path in paths} == {0o640}


def test_the_longest_names_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 251 + ".hvq")
    write_atomically(path, b"data")
    assert contents(tmp_path) == {path.name: b"data"}
    with pytest.raises(FileError, match="name too long"):
        check_output(tmp_path / ("n" * 300), tmp_path / "in.png", overwrite=False)


def test_readers_see_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "photo.hvq"
    versions = [bytes([number]) * 300_000 for number in range(12)]
    path.write_bytes(versions[0])
    seen, done = set(), threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.add(path.read_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for version in versions:
            write_atomically(path, version)
    finally:
        done.set()
        watcher.join()
    assert seen
    assert seen <= set(versions)


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("old", [None, b"old"])
def test_a_write_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, old: bytes | None
) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "photo.hvq"
    if old is not None:
        path.write_bytes(old)
    before = contents(tmp_path)
    monkeypatch.setattr(os, call, full_disk)
    with pytest.raises(FileError, match=r"photo\.hvq: No space left on device"):
        write_atomically(path, b"new")
    assert contents(tmp_path) == before
    monkeypatch.undo()
    write_atomically(path, b"new")
    assert contents(tmp_path) == {"photo.hvq": b"new"}


def test_an_interrupted_write_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "photo.hvq", b"new")
    assert contents(tmp_path) == {}


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="no folder where root must not write")
def test_a_folder_that_cannot_be_written_to() -> None:
    with pytest.raises(FileError, match=r"^/proc/photo\.hvq: \w"):
        write_atomically(Path("/proc/photo.hvq"), b"data")


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_appeared_meanwhile_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", no_links)
    write_atomically(tmp_path / "one.hvq", b"one", overwrite=False)
    assert contents(tmp_path) == {"one.hvq": b"one"}
    with pytest.raises(FileError, match=r"one\.hvq exists: ask to overwrite it"):
        write_atomically(tmp_path / "one.hvq", b"other", overwrite=False)
    assert contents(tmp_path) == {"one.hvq": b"one"}


def test_a_link_as_the_output_stays_a_link(folder: Path) -> None:
    (folder / "elsewhere").mkdir()
    (folder / "link.hvq").symlink_to(folder / "elsewhere" / "photo.hvq")
    with pytest.raises(FileError, match=r"link\.hvq exists: ask to overwrite it"):
        check(folder, "link.hvq")  # though it leads nowhere
    check(folder, "link.hvq", overwrite=True)
    for data in (b"one", b"two"):
        write_atomically(folder / "link.hvq", data)
        assert (folder / "link.hvq").is_symlink()
        assert (folder / "elsewhere" / "photo.hvq").read_bytes() == data


def test_what_a_link_leads_to_is_what_is_checked(folder: Path) -> None:
    (folder / "link.hvq").symlink_to(folder / "nowhere" / "photo.hvq")
    with pytest.raises(FileError, match=r"link\.hvq: the folder .*nowhere does not exist"):
        check(folder, "link.hvq", overwrite=True)


@pytest.mark.skipif(os.name != "posix", reason="no such modes")
def test_a_read_only_folder_is_noticed_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o500)
    if os.geteuid() == 0:  # whom no mode keeps out

        def access(path: Path, mode: int) -> bool:
            return bool(path.stat().st_mode & mode << 6)

        monkeypatch.setattr(os, "access", access)
    with pytest.raises(FileError, match="not to be written in"):
        check_output(tmp_path / "new.hvq", tmp_path / "photo.png", False)


def test_what_is_no_ordinary_file_is_not_to_be_overwritten(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="is no ordinary file"):
        check_output(Path(os.devnull), tmp_path / "photo.png", False)


def test_a_name_that_ends_like_a_folder_names_no_file() -> None:
    with pytest.raises(FileError, match="names no file"):
        named("photos/")


def test_a_name_with_a_nul_names_no_file() -> None:
    with pytest.raises(FileError, match="names no file"):
        named("photo\0.png")
