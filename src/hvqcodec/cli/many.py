"""`hvq batch`."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from hvqcodec.batch import Settings, run
from hvqcodec.batch.cluster import encode_on_cluster
from hvqcodec.batch.inputs import find_jobs
from hvqcodec.batch.processes import encode_in_processes
from hvqcodec.batch.running import Summary
from hvqcodec.batch.work import Record
from hvqcodec.cli.options import device_option, encoding_choices
from hvqcodec.cli.terminal import is_watched, say

ENGINES = {"local": encode_in_processes, "ray": encode_on_cluster}

MAX_WORKERS = 8
"""If nothing is said: each takes some 450 MB."""


@click.command()
@click.argument("photos", nargs=-1, required=True, metavar="PHOTO...")
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder of the .hvq files; made if it is not there.",
)
@encoding_choices
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help=f"Processes; one for each processor, at most {MAX_WORKERS}, if nothing is said.",
)
@click.option(
    "--engine",
    type=click.Choice(list(ENGINES)),
    default="local",
    show_default=True,
    help="Processes of this machine, or actors of a Ray cluster (hvqcodec[ray], RAY_ADDRESS).",
)
@click.option(
    "--manifest",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A line of JSON for each photo. Default: manifest.jsonl in the folder.",
)
@click.option(
    "--overwrite",
    is_flag=True,
    help="Replace outputs of other settings or photos, and files that no manifest knows; fetch "
    "photos behind URLs again.",
)
@device_option
def batch(
    photos: tuple[str, ...],
    folder: Path,
    choices: dict[str, Any],
    model: str,
    workers: int | None,
    engine: str,
    manifest: Path | None,
    overwrite: bool,
    device: str,
) -> None:
    """Encode many photos: files, folders, globs and URLs (hvqcodec[remote]).

    Started again, it goes on where it stopped. A photo that cannot be encoded does not stop
    the others; the exit status is 1 then.
    """
    processors = usable_processors()
    workers = workers or min(processors, MAX_WORKERS)
    jobs = find_jobs(photos)
    settings = Settings(model, device, max(1, processors // workers), choices)
    begin = time.monotonic()
    with counting_bar(len(jobs)) as report:
        summary = run(
            jobs,
            folder,
            settings,
            workers=workers,
            engine=ENGINES[engine],
            overwrite=overwrite,
            manifest=manifest,
            report=report,
        )
    seconds = time.monotonic() - begin
    click.echo(
        f"{summary.encoded} encoded, {summary.skipped} skipped, {summary.failed} failed "
        f"in {seconds:.1f} s ({summary.encoded / max(seconds, 1e-3):.2f} photos/s)"
    )
    if summary.failed:
        raise click.exceptions.Exit(1)


def usable_processors() -> int:
    """How many this process may use, where the system tells."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


@contextmanager
def counting_bar(total: int) -> Iterator[Callable[[Summary, Record | None], None]]:
    """What a batch reports to: a bar on standard error, if that is a terminal, and a line for
    each failure and notice."""
    begin = time.monotonic()

    def counts(summary: Summary | None) -> str | None:
        if summary is None:
            return None
        speed = summary.encoded / max(time.monotonic() - begin, 1e-3)
        return f"{speed:.2f} photos/s, {summary.skipped} skipped, {summary.failed} failed"

    with click.progressbar(
        length=total,
        label="encoding",
        file=sys.stderr,
        hidden=not is_watched(),
        show_pos=True,
        item_show_func=counts,
    ) as bar:

        def report(summary: Summary, record: Record | None) -> None:
            if record:
                for text in record.notices:
                    say("Notice", f"{record.input}: {text}")
                if record.error:
                    say("Error", record.error)
            bar.update(1, summary)

        yield report
