"""Images per second of `hvq batch` with one worker and more.

    python -m benchmarks.batch photos/kodak --workers 1,2 --repeat 2

Each run is a process of its own, from its start to its end, into an empty folder; the model is
loaded once by each worker. The counts of workers take turns, and the best of each is told.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HVQ = [sys.executable, "-c", "from hvqcodec.cli import main; main(prog_name='hvq')"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", nargs="+", help="as `hvq batch` takes them")
    parser.add_argument("--workers", default="1,2", help="counts, with commas between")
    parser.add_argument("--rate", default="0.2", help="bits per pixel")
    parser.add_argument("--engine", default="local")
    parser.add_argument("--repeat", type=int, default=2)
    options = parser.parse_args()
    counts = [int(count) for count in options.workers.split(",")]
    best = dict.fromkeys(counts, 0.0)
    for _ in range(options.repeat):
        for count in counts:
            speed = photos_per_second(options, count)
            best[count] = max(best[count], speed)
            print(f"{count} workers: {speed:.2f} photos/s", flush=True)
    for count, speed in best.items():
        print(f"best with {count}: {speed:.2f} photos/s, {speed / best[counts[0]]:.2f} times")


def photos_per_second(options: argparse.Namespace, workers: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        command = [*HVQ, "batch", *options.photos, "-o", str(Path(folder) / "out")]
        command += ["--rate", options.rate, "--workers", str(workers), "--engine", options.engine]
        told = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"^(\d+) encoded, .* \(([\d.]+) photos/s\)$", told.stdout, re.MULTILINE)
    if told.returncode or not found:
        sys.exit(told.stderr or "nothing was encoded")
    return float(found[2])


if __name__ == "__main__":
    main()
