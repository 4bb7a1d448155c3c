"""A batch from its jobs to its manifest: what is to be done, done, written and recorded."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

from hvqcodec.batch.manifest import Manifest
from hvqcodec.batch.processes import in_processes
from hvqcodec.batch.work import Engine, Job, Outcome, Record, Settings, is_url, read_source
from hvqcodec.errors import HvqError
from hvqcodec.files import check_output, file_errors, write_atomically

MANIFEST = "manifest.jsonl"


@dataclass
class Summary:
    """How many of the jobs had which end, so far."""

    total: int
    written: int = 0
    skipped: int = 0
    failed: int = 0

    @property
    def done(self) -> int:
        return self.written + self.skipped + self.failed


def run(
    jobs: Sequence[Job],
    folder: str | PathLike[str],
    settings: Settings,
    *,
    workers: int = 1,
    engine: Engine = in_processes,
    overwrite: bool = False,
    manifest: str | PathLike[str] | None = None,
    report: Callable[[Summary, Record | None], None] = lambda summary, record: None,
) -> Summary:
    """Do all jobs, but for those that an earlier run has done with the same settings.

    folder: of the outputs; it and what lies between are made.
    workers: processes, or actors of a cluster; each takes some 800 MB, 450 with the effort "fast".
    engine: `in_processes`, or `on_cluster` of `hvqcodec.batch.cluster` (Ray).
    overwrite: replace outputs of other settings or inputs, and files that the manifest does not
        know, and fetch what is behind URLs again; else their jobs fail.
    manifest: `manifest.jsonl` in the folder if nothing is said.
    report: called when a job is dealt with, with its record unless it was skipped.
    Raises ModelError, ImageError for the suffix of no format, and FileError for the folder and
    the manifest; what is wrong with one input is in its record.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, not {workers}")
    settings.check()
    for job in jobs:
        if not job.output.endswith(settings.suffix):
            raise ValueError(f"{job.output} has not the suffix of the settings, {settings.suffix}")
    folder = Path(folder)
    digest = settings.digest()
    with file_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    book = Manifest(Path(manifest or folder / MANIFEST))
    records = book.outputs()
    summary, todo = Summary(len(jobs)), []
    with book.appending() as append:
        for job in jobs:
            path, record = folder / job.output, records.get(job.output)
            if is_done(job, path, record, digest, fetch=overwrite):
                summary.skipped += 1
                report(summary, None)
            elif record and path.exists() and not overwrite:
                fault = (
                    f"{path} exists, of other settings or another input: ask to overwrite it "
                    "(overwrite=True, --overwrite)"
                )
                _finish(job, Outcome(None, 0.0, fault), digest, summary, append, report)
            else:
                todo.append(job)
        for job, outcome in engine(settings, todo, workers) if todo else ():
            written = _write(job, outcome, folder / job.output, overwrite)
            _finish(job, written, digest, summary, append, report)
    return summary


def is_done(
    job: Job, output: Path, record: Record | None, digest: str, *, fetch: bool = False
) -> bool:
    """Whether the output is there, as the record says, of the same settings and photo. fetch:
    photos behind URLs as well, which else are taken to be what they were."""
    if record is None or record.settings != digest:
        return False
    photo = photo_digest(job, fetch)
    # What cannot be looked at is taken to be what it was, if it is called what it was.
    same = record.input == job.input if photo is None else record.photo in (None, photo)
    if not same:
        return False
    try:
        if not output.is_file():
            return False
        # All that an older record tells of the photo is when it was coded.
        dated = photo and not record.photo and not is_url(job.input)
        if dated and Path(job.input).stat().st_mtime > output.stat().st_mtime:
            return False
        return hashlib.sha256(output.read_bytes()).hexdigest() == record.sha256
    except OSError:  # which is not to be read
        return False


def photo_digest(job: Job, fetch: bool = False) -> str | None:
    """SHA-256 of the input, if it can be read; that of a URL only if it is to be fetched, or of
    this machine."""
    if is_url(job.input) and not fetch and not job.input.startswith("file://"):
        return None
    try:
        return hashlib.sha256(read_source(job.input)).hexdigest()
    except HvqError:
        return None


def _write(job: Job, outcome: Outcome, path: Path, overwrite: bool) -> Outcome:
    """The outcome, an error if its file cannot be written."""
    if outcome.data is None:
        return outcome
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A run that was killed may have written it and not recorded it.
        if not (path.is_file() and path.read_bytes() == outcome.data):
            check_output(path, Path(job.input), overwrite)
            write_atomically(path, outcome.data, overwrite)
    except (HvqError, OSError) as error:
        return replace(outcome, data=None, error=str(error), photo=None, bpp=None)
    return outcome


def _finish(
    job: Job,
    outcome: Outcome,
    digest: str,
    summary: Summary,
    append: Callable[[Record], None],
    report: Callable[[Summary, Record | None], None],
) -> None:
    data = outcome.data
    record = Record(
        input=job.input,
        output=job.output,
        bytes=len(data) if data else None,
        bpp=outcome.bpp,
        seconds=round(outcome.seconds, 3),
        error=outcome.error,
        notices=outcome.notices,
        sha256=hashlib.sha256(data).hexdigest() if data else None,
        settings=digest,
        photo=outcome.photo,
    )
    append(record)
    if outcome.error:
        summary.failed += 1
    else:
        summary.written += 1
    report(summary, record)
