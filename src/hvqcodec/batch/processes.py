"""The engine of one machine: a process for each worker."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

from hvqcodec.batch.work import Job, Outcome, Settings, Worker

ATTEMPTS = 2
"""A job whose process ends is tried again, in case the job was not the reason."""

UNSTARTED = 'out of memory? or is the script without `if __name__ == "__main__":`?'
"""Why a process ends, if none has brought anything yet: it imports the script that began it."""


def in_processes(
    settings: Settings, jobs: Sequence[Job], workers: int
) -> Iterator[tuple[Job, Outcome]]:
    """An engine. Each worker has a pool of its own, so that a process that ends takes no
    other's work with it."""
    waiting = [(job, ATTEMPTS) for job in reversed(jobs)]
    idle = [_pool() for _ in range(min(workers, len(jobs)))]
    running: dict[Future[Outcome], tuple[ProcessPoolExecutor, Job, int, float]] = {}
    reason = UNSTARTED
    try:
        while waiting or running:
            while waiting and idle:
                pool, (job, attempts) = idle.pop(), waiting.pop()
                try:
                    future = pool.submit(_convert, settings, job.input)
                except BrokenProcessPool:  # its process ended after its last job
                    pool.shutdown()
                    pool = _pool()
                    future = pool.submit(_convert, settings, job.input)
                running[future] = pool, job, attempts - 1, time.perf_counter()
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                pool, job, attempts, begin = running[future]
                try:
                    yield job, future.result()
                    reason = "out of memory?"
                except BrokenProcessPool:
                    pool.shutdown()
                    pool = _pool()
                    if attempts:
                        waiting.append((job, attempts))
                    else:
                        fault = f"{job.input}: its process ended ({reason})"
                        yield job, Outcome(None, time.perf_counter() - begin, fault)
                del running[future]
                idle.append(pool)
    finally:
        for pool, *_ in running.values():
            pool.shutdown(wait=False, cancel_futures=True)
        for pool in idle:  # Python's own end would race with theirs
            pool.shutdown()


def _pool() -> ProcessPoolExecutor:
    # Forked processes would inherit the locks of torch's threads.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(1, mp_context=context, initializer=_begin)


def _begin() -> None:
    """Of a worker process: it ends when it is interrupted, without a word, and when the
    process ends that began it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os._exit(1)


_workers: list[Worker] = []
"""The one of this process."""


def _convert(settings: Settings, source: str) -> Outcome:
    if not _workers:
        _workers.append(Worker(settings))
    return _workers[0].convert(source)
