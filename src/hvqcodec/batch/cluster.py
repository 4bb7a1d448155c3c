"""The engine of a cluster: Ray Data, with a model in each actor.

What `ray.init` finds is used: a cluster named by RAY_ADDRESS, or this machine. Paths must
lead to the same files on all its machines; URLs do. Files come back to the process that
began it, which alone writes.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from hvqcodec.batch.work import Job, Outcome, Settings, Worker
from hvqcodec.errors import HvqError
from hvqcodec.optional import require

BLOCKS_PER_WORKER = 16
"""Pieces of the work for each worker at least, if there are so many images: a piece is what
is done again when an actor ends."""
MAX_BLOCK = 32
"""Images of a piece at most: what comes back at once."""


class Actor:
    """What Ray Data keeps alive and maps rows with."""

    def __init__(self, settings: Settings) -> None:
        self.worker = Worker(settings)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        outcome = self.worker.convert(row["input"])
        return {
            "number": row["number"],
            "data": outcome.data or b"",
            "seconds": outcome.seconds,
            "error": outcome.error or "",
            "notices": "\n".join(outcome.notices),
            "photo": outcome.photo or "",
            "bpp": outcome.bpp or 0.0,
        }


def on_cluster(
    settings: Settings, jobs: Sequence[Job], workers: int
) -> Iterator[tuple[Job, Outcome]]:
    """An engine; actors that end are replaced, and their work is done again.

    Raises MissingError without Ray.
    """
    # Ray tells its makers of its use unless it is told not to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray, data = require("ray", "ray"), require("ray.data", "ray")
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level=logging.ERROR)
    data.DataContext.get_current().enable_progress_bars = False
    on_gpu = settings.device.startswith("cuda")
    if on_gpu:  # Ray gives each actor one, and shows it no other
        settings = replace(settings, device="cuda")
    blocks = max(-(-len(jobs) // MAX_BLOCK), min(len(jobs), BLOCKS_PER_WORKER * workers))
    rows = [{"number": number, "input": job.input} for number, job in enumerate(jobs)]
    done = data.from_items(rows, override_num_blocks=blocks).map(
        Actor,
        fn_constructor_args=(settings,),
        compute=data.ActorPoolStrategy(min_size=1, max_size=workers, initial_size=workers),
        num_cpus=settings.threads,
        num_gpus=int(on_gpu),
    )
    try:
        for row in done.iter_rows():
            notices = row["notices"].split("\n") if row["notices"] else []
            file, error, photo, bpp = (row[k] or None for k in ("data", "error", "photo", "bpp"))
            yield jobs[row["number"]], Outcome(file, row["seconds"], error, notices, photo, bpp)
    except ray.exceptions.RayError as error:
        last = str(error).strip().splitlines()[-1]
        raise HvqError(f"Ray gave up: {last}") from error
