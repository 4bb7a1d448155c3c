"""The manifest: a line of JSON for each image that was dealt with."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hvqcodec.batch.work import Record
from hvqcodec.files import file_errors


class Manifest:
    """Lines are added, never changed: the last one of an output counts."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def outputs(self) -> dict[str, Record]:
        """The last record of each output that was written. Lines that are none, such as the
        last one of a run that was killed, are passed over. Raises FileError."""
        with file_errors(self.path):
            if not self.path.exists():
                return {}
            lines = self.path.read_text("utf-8", "replace").splitlines()
        found = (_record(line) for line in lines)
        return {record.output: record for record in found if record and record.error is None}

    @contextmanager
    def appending(self) -> Iterator[Callable[[Record], None]]:
        """What to call with each record; it is in the file when the call returns. Raises
        FileError."""
        with file_errors(self.path):
            file = self.path.open("a+b")
        with file:

            def append(record: Record) -> None:
                with file_errors(self.path):
                    file.write(record.to_line().encode() + b"\n")
                    file.flush()

            with file_errors(self.path):
                # A run that was killed may have left half a line.
                if file.tell() and file.seek(-1, os.SEEK_END) and file.read(1) != b"\n":
                    file.write(b"\n")
            yield append


def _record(line: str) -> Record | None:
    try:
        record = Record(**json.loads(line))
    except (TypeError, ValueError):
        return None
    return record if isinstance(record.output, str) else None
