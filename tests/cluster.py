"""A batch on a cluster of two nodes, both here, one of whose workers is killed in the middle.

    python tests/cluster.py PHOTOS OUTPUTS MODEL

Prints JSON: how many workers were killed, and the summary.
"""

import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from hvqcodec.batch import Record, Settings, Summary, run
from hvqcodec.batch.cluster import on_cluster
from hvqcodec.batch.inputs import find_jobs


def workers() -> list[int]:
    """The processes that hold our actors."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes()
        except OSError:  # it has just ended
            continue
        if line.startswith(b"ray::MapWorker"):
            found.append(int(process.name))
    return found


def main(photos: str, folder: str, model: str) -> None:
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False)
    nodes = len(ray.nodes())
    killed: list[int] = []

    def kill(summary: Summary, record: Record | None) -> None:
        if summary.done == 1:
            killed.append(workers()[0])
            os.kill(killed[0], signal.SIGKILL)

    settings = Settings(model, "cpu", 1, {"quality": 50.0})
    summary = run(
        find_jobs([photos]),
        Path(folder),
        settings,
        workers=2,
        engine=on_cluster,
        report=kill,
    )
    print(json.dumps({"nodes": nodes, "killed": len(killed)} | asdict(summary)))
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
