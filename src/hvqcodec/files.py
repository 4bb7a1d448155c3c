"""Files: read whole, written whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hvqcodec.errors import FileError


def check_output(output: Path, source: Path, overwrite: bool) -> None:
    """Raises FileError, before any work is done, if the output must not be written."""
    if output.is_dir():
        raise FileError(f"{output} is a folder: give the name of a file")
    if not output.parent.is_dir():
        raise FileError(f"{output}: the folder {output.parent} does not exist")
    if output.exists():
        if source.exists() and output.samefile(source):
            raise FileError(f"{output} is the input itself: give another output")
        if not overwrite:
            raise FileError(
                f"{output} exists: ask to overwrite it (overwrite=True, --overwrite) or give "
                "another output"
            )
        if not output.is_file():
            raise FileError(f"{output} is no ordinary file: give another output")


@contextmanager
def file_errors(path: Path) -> Iterator[None]:
    """What the system refuses within the block is a FileError that names the path."""
    try:
        yield
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}") from error


def read_file(path: Path) -> bytes:
    """Raises FileError."""
    with file_errors(path):
        return path.read_bytes()


def write_atomically(path: Path, data: bytes) -> None:
    """The destination is absent, the old file or the complete new one, at any moment.

    Raises FileError.
    """
    with file_errors(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o666 & ~current_umask())
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def current_umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask
