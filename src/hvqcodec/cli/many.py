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
from hvqcodec.batch.cluster import on_cluster
from hvqcodec.batch.inputs import find_jobs
from hvqcodec.batch.processes import in_processes
from hvqcodec.batch.running import Summary
from hvqcodec.batch.work import HVQ, Record
from hvqcodec.cli.options import (
    decoding_choices,
    device_option,
    encoding_choices,
    max_metadata_bytes_option,
)
from hvqcodec.cli.terminal import is_watched, say
from hvqcodec.saving import FORMATS

ENGINES = {"local": in_processes, "ray": on_cluster}

MAX_WORKERS = 8
"""If nothing is said: each takes some 800 MB, 450 with the effort "fast"."""


def parse_suffix(ctx: click.Context, param: click.Parameter, value: str | None) -> str:
    """Of the outputs, `.hvq` if nothing is said."""
    if value is None:
        return HVQ
    suffix = f".{value.lower().removeprefix('.')}"
    if suffix not in FORMATS:
        known = ", ".join(known.removeprefix(".") for known in FORMATS)
        raise click.BadParameter(f"{value!r} is none of {known}")
    return suffix


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder of what is made; itself made if it is not there.",
)
@click.option(
    "--decode",
    "suffix",
    callback=parse_suffix,
    metavar="FORMAT",
    help="The other way: .hvq files to png, jpg, webp, tiff or ppm, each by the model inside the "
    "package that made it, or by --model.",
)
@max_metadata_bytes_option
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
    help="A line of JSON for each input. Default: manifest.jsonl in the folder.",
)
@click.option(
    "--overwrite",
    is_flag=True,
    help="Replace outputs of other settings or inputs, and files that no manifest knows; fetch "
    "what is behind URLs again.",
)
@device_option
def batch(
    inputs: tuple[str, ...],
    folder: Path,
    suffix: str,
    max_metadata_bytes: int,
    choices: dict[str, Any],
    model: str | None,
    workers: int | None,
    engine: str,
    manifest: Path | None,
    overwrite: bool,
    device: str,
) -> None:
    """Encode many photos, or decode many files: files, folders, globs and URLs (hvqcodec[remote]).

    Started again, it goes on where it stopped. One that fails does not stop the others; the exit
    status is 1 then.
    """
    processors = usable_processors()
    workers = workers or min(processors, MAX_WORKERS)
    if suffix != HVQ:
        model, choices = decoding_choices(model, choices)
        choices["max_metadata_bytes"] = max_metadata_bytes
    jobs = find_jobs(inputs, suffix)
    settings = Settings(model, device, max(1, processors // workers), choices, suffix)
    verb = "encod" if suffix == HVQ else "decod"
    begin = time.monotonic()
    with counting_bar(len(jobs), f"{verb}ing") as report:
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
        f"{summary.written} {verb}ed, {summary.skipped} skipped, {summary.failed} failed "
        f"in {seconds:.1f} s ({summary.written / max(seconds, 1e-3):.2f} photos/s)"
    )
    if summary.failed:
        raise click.exceptions.Exit(1)


def usable_processors() -> int:
    """How many this process may use, where the system tells."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


@contextmanager
def counting_bar(total: int, label: str) -> Iterator[Callable[[Summary, Record | None], None]]:
    """What a batch reports to: a bar on standard error, if that is a terminal, and a line for
    each failure and notice."""
    begin = time.monotonic()

    def counts(summary: Summary | None) -> str | None:
        if summary is None:
            return None
        speed = summary.written / max(time.monotonic() - begin, 1e-3)
        return f"{speed:.2f} photos/s, {summary.skipped} skipped, {summary.failed} failed"

    with click.progressbar(
        length=total,
        label=label,
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
