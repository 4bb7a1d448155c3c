"""The curves as a picture: bits per pixel against each metric."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.points import Point
from hvqcodec.metrics import LOWER_IS_BETTER, TITLES
from hvqcodec.optional import require

SUFFIXES = (".png", ".svg")
COLUMNS = 3


def draw(path: Path, points: Sequence[Point]) -> None:
    """One panel per metric, one line per codec. Raises MissingError without matplotlib."""
    metrics = [name for name in TITLES if any(name in point.means for point in points)]
    codecs = list(dict.fromkeys(point.codec for point in points))
    columns = min(COLUMNS, len(metrics))
    rows = -(-len(metrics) // columns)
    figure = require("matplotlib.figure", "bench").Figure(
        figsize=(4.2 * columns, 3.4 * rows), layout="constrained"
    )
    panels = figure.subplots(rows, columns, squeeze=False).flat
    for metric, panel in zip(metrics, panels, strict=False):
        for codec in codecs:
            means = [p.means for p in points if p.codec == codec and metric in p.means]
            if line := sorted((m["bpp"], m[metric]) for m in means):
                panel.plot(*zip(*line, strict=True), marker="o", markersize=3, label=codec)
        better = "lower" if metric in LOWER_IS_BETTER else "higher"
        panel.set(title=f"{TITLES[metric]} ({better} is better)", xlabel="bits per pixel")
        panel.grid(alpha=0.3)
    for panel in panels:
        panel.remove()
    figure.axes[0].legend()
    figure.savefig(path, dpi=150)
