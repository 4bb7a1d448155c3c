"""How far the images of a folder are from their originals in another."""

from collections import defaultdict
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from statistics import mean

from hvqcodec.batch.inputs import IMAGE, Kind, expand, plain
from hvqcodec.batch.work import HVQ
from hvqcodec.errors import FileError
from hvqcodec.metrics.evaluation import Evaluator, displayed_pair
from hvqcodec.metrics.measuring import TITLES
from hvqcodec.probing import probe
from hvqcodec.tiling import Progress

COLUMNS = {"bpp": "bpp"} | TITLES
DECODED = Kind("image or .hvq file", (*IMAGE.suffixes, HVQ), (".jsonl",))


@dataclass(frozen=True)
class FolderEvaluation:
    """Figures by image and metric, and a line for each metric that is left out."""

    images: dict[str, dict[str, float]]
    """By the original's path below its folder. Those of an .hvq file begin with its "bpp"."""
    mean: dict[str, float]
    """Of the metrics that all images have."""
    left_out: list[str]

    def lines(self) -> list[str]:
        """For people: a table."""
        names = list(dict.fromkeys(name for figures in self.images.values() for name in figures))
        last = f"mean of {len(self.images)}"
        wide = max(map(len, [*self.images, last]))
        rows = [
            f"{place:<{wide}}"
            + "".join(f"  {figures[n]:11.4f}" if n in figures else f"  {'-':>11}" for n in names)
            for place, figures in [*self.images.items(), (last, self.mean)]
        ]
        head = f"{'':<{wide}}" + "".join(f"  {COLUMNS[name]:>11}" for name in names)
        return [head, *rows, *self.left_out]


def evaluate_folders(
    originals: str | PathLike[str],
    decoded: str | PathLike[str],
    perceptual: str | PathLike[str] | None = None,
    *,
    model: str | PathLike[str] | None = None,
    progress: Progress | None = None,
) -> FolderEvaluation:
    """`evaluate` of each image of a folder and what it has become in another, by `pairs`.

    Raises FileError where an image has no partner, and as `evaluate` does.
    """
    paired = pairs(originals, decoded)
    images, left_out, evaluator = {}, [], Evaluator(perceptual)
    for number, (place, pair) in enumerate(paired.items(), 1):
        found = evaluator(*displayed_pair(*pair, model))
        rate = {"bpp": probe(pair[1]).bpp} if pair[1].suffix.lower() == HVQ else {}
        images[place] = rate | found.figures
        left_out += [line for line in found.left_out if line not in left_out]
        if progress:
            progress(number / len(paired))
    shared = [name for name in COLUMNS if all(name in figures for figures in images.values())]
    means = {name: mean(figures[name] for figures in images.values()) for name in shared}
    return FolderEvaluation(images, means, left_out)


def pairs(
    originals: str | PathLike[str], decoded: str | PathLike[str]
) -> dict[str, tuple[Path, Path]]:
    """Path of each image below the folder of originals -> its file, and that which `hvq batch`
    would have made of it: of the same path but for the suffix, or with one more.

    Raises FileError where there is none, or more than one.
    """
    partners = defaultdict(list)
    for source, place in expand(fspath(decoded), DECODED):
        partners[plain(place.with_suffix(""))].append(Path(source))
    found: dict[str, tuple[Path, Path]] = {}
    for source, place in expand(fspath(originals), IMAGE):
        there = partners[plain(place)] or partners[plain(place.with_suffix(""))]
        if not there:
            raise FileError(f"{decoded} has no image that was {place}")
        if len(there) > 1:
            raise FileError(f"{there[0]} and {there[1]} may both be what {place} has become")
        found[str(place)] = Path(source), there[0]
    return found
