"""Files: read whole, written whole or not at all."""

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike, fspath
from pathlib import Path

from hvqcodec.errors import FileError

SEPARATORS = tuple(filter(None, (os.sep, os.altsep)))
"""What the name of a folder may end in."""


def check_output(output: Path, source: Path, overwrite: bool) -> None:
    """Raises FileError, before any work is done, if the output must not be written."""
    with file_errors(output):
        # Of a link that is to be overwritten, what it leads to is.
        folder = (Path(os.path.realpath(output)) if overwrite else output).parent
        if output.is_dir():
            raise FileError(f"{output} is a folder: give the name of a file")
        if not folder.is_dir():
            raise FileError(f"{output}: the folder {folder} does not exist")
        if not os.access(folder, os.W_OK):
            raise FileError(f"{output}: the folder {folder} is not to be written in")
        if not (output.exists() or output.is_symlink()):
            return
        if output.exists() and source.exists() and output.samefile(source):
            raise FileError(f"{output} is the input itself: give another output")
        if output.exists() and not output.is_file():
            raise FileError(f"{output} is no ordinary file: give another output")
        if not overwrite:
            raise exists_already(output)


def exists_already(path: Path) -> FileError:
    return FileError(
        f"{path} exists: ask to overwrite it (overwrite=True, --overwrite) or give another output"
    )


@contextmanager
def file_errors(path: Path) -> Iterator[None]:
    """What the system refuses within the block is a FileError that names the path."""
    try:
        yield
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}") from error


def named(path: str | PathLike[str]) -> Path:
    """Raises FileError for what can name no file."""
    found = Path(path)
    if not found.name or "\0" in str(found) or fspath(path).endswith(SEPARATORS):
        raise FileError(f"{str(path)!r} names no file")
    return found


def read_file(path: Path) -> bytes:
    """Raises FileError."""
    with file_errors(path):
        return path.read_bytes()


def write_atomically(path: Path, data: bytes, overwrite: bool = True) -> None:
    """The destination is absent, the old file or the complete new one, at any moment. A file
    that is replaced hands on its permissions.

    Raises FileError, also if there is a file already and it is not to be overwritten.
    """
    if overwrite:
        path = Path(os.path.realpath(path))  # a link stays one: what it leads to is replaced
    # Neither a long name nor one that another process takes at this moment.
    part = path.with_name(f".hvq-{secrets.token_hex(8)}")
    with file_errors(path):
        try:
            with part.open("xb") as file:
                if path.exists():
                    part.chmod(stat.S_IMODE(path.stat().st_mode))
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if overwrite:
                os.replace(part, path)
            else:
                publish(part, path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def publish(part: Path, path: Path) -> None:
    """Give a file its name, unless another one has taken it since the work began."""
    try:
        os.link(part, path)
    except FileExistsError:
        raise exists_already(path) from None
    except OSError:  # not every file system has links
        if path.exists():
            raise exists_already(path) from None
        os.replace(part, path)
    else:
        part.unlink()
