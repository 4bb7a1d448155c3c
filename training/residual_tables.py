"""Fit the constants of the residual to photos, and write them into the package.

    python -m training.residual_tables base --photos ../shared/data/train-*.tar --limit-photos 80

Which table a coefficient's magnitude is coded under follows from an estimate of it, linear in the
magnitudes around it: least squares, with no negative weight, for each kind of band. The tables are
what was counted. What is counted follows from the tables in turn, so it goes round twice. The
constants belong to the format: files made with others cannot be read any more.
"""

import argparse
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.optimize import nnls

from benchmarks.photos import Photo, load_photos
from hvqcodec import Codec, residual
from hvqcodec.decoding import synthesise
from hvqcodec.entropy import residual_coding, residual_tables
from hvqcodec.entropy.corrections import PLANES
from hvqcodec.entropy.residual_coding import LEVELS, VALUE_MAX, Known, band_frequencies
from hvqcodec.image import read_picture
from hvqcodec.limits import MAX_PIXELS
from hvqcodec.picture_coding import PictureCoder
from hvqcodec.residual import ResidualFitter
from hvqcodec.tiling import Stages

LAMBDAS = (5.0, 2.0, 0.8, 0.3)
UNIT = 1024
"""Of an activity, for a magnitude of 1."""
EDGES = np.round(UNIT * np.geomspace(0.004, 4, 13)).astype(int)
LISTED = 16
"""Magnitudes whose frequencies are listed."""
TOTAL = 1 << 16
ROUNDS = 2
LARGE = 6
"""Larger magnitudes count as this in the fit, so that few of them do not decide it."""

Kind = tuple[int, int, int]
"""Luma or chroma, level, detail along one side or both."""
Samples = dict[Kind, list[tuple[NDArray[np.int32], NDArray[np.int32]]]]
"""What is around, (N, 3), and the magnitudes, (N,)."""


def fitters(model: str, photos: Sequence[Photo]) -> Iterator[tuple[float, ResidualFitter]]:
    codec = Codec.load(model)
    for photo in photos:
        picture = read_picture(Image.fromarray(photo), False, MAX_PIXELS)
        coder = PictureCoder(codec.model, picture, None, Stages(None))
        for lambda_ in LAMBDAS:
            symbols = coder.at(lambda_).symbols
            assert symbols
            decoded = synthesise(codec.model.networks, symbols)
            yield lambda_, ResidualFitter(coder.blocks, decoded, codec.model.synthesis)


def collect(found: Sequence[tuple[float, ResidualFitter]]) -> Samples:
    samples: Samples = defaultdict(list)
    for lambda_, fitter in found:
        fitted = fitter(lambda_)
        if fitted is None:
            continue
        known = Known()
        for level in range(LEVELS)[::-1]:
            for number in range(PLANES):
                plane = fitted.planes[number]
                for band in range(3) if plane else ():
                    values = plane.bands[level][band]
                    around = known.around(number, level, band, values.shape)
                    known.add(number, level, band, values)
                    kind = (int(number > 0), level, int(band == 2))
                    rows = np.stack([part.reshape(-1) for part in around], 1)
                    samples[kind].append((rows, np.abs(values).reshape(-1)))
    return samples


def fit(samples: Samples) -> tuple[dict[Kind, list[int]], NDArray[np.int64]]:
    """Weights of each kind, and the frequencies of each table, (tables, LISTED)."""
    weights: dict[Kind, list[int]] = {}
    counts = np.zeros((len(EDGES) + 1, VALUE_MAX + 1))
    for kind, parts in samples.items():
        rows, magnitudes = (np.concatenate(column) for column in zip(*parts, strict=True))
        inputs = np.concatenate([np.ones((len(rows), 1)), rows], 1)
        solution, _ = nnls(inputs, magnitudes.clip(max=LARGE).astype(float))
        weights[kind] = [int(w) for w in np.round(UNIT * solution)]
        classes = np.searchsorted(EDGES, inputs.astype(int) @ weights[kind], "right")
        np.add.at(counts, (classes, magnitudes), 1)
    shares = (counts + 0.5 * (counts.sum(0) + 1) / counts.sum()) / (counts.sum(1) + 1)[:, None]
    return weights, np.maximum(1, np.round(TOTAL / 2 * shares[:, :LISTED])).astype(int)


def written(weights: dict[Kind, list[int]], tables: NDArray[np.int64]) -> str:
    nested = tuple(
        tuple(tuple(tuple(weights[p, level, both]) for both in (0, 1)) for level in range(LEVELS))
        for p in (0, 1)
    )
    rows = ",\n".join(f"    {tuple(map(int, row))}" for row in tables)
    return f'''"""NORMATIVE: constants of the residual, fitted by `training.residual_tables`."""

import numpy as np

ACTIVITY_WEIGHTS = {nested}
"""In units of 1/{UNIT}, by luma or chroma, by level, by detail along one side or both: what is
expected of a magnitude anyway, and what each unit around it adds, in the coarser level, in the
earlier bands of its level and in the earlier planes."""
ACTIVITY_EDGES = np.array({EDGES.tolist()})
"""Of the activities, between one table and the next."""
MAGNITUDES = (
{rows},
)
"""Frequencies by table of the magnitudes from 0 on, of either sign (and half of 0's)."""
'''


def use(weights: dict[Kind, list[int]], tables: NDArray[np.int64]) -> None:
    """In this process, from now on."""
    names: dict[str, object] = {}
    exec(written(weights, tables), names)
    residual_coding.ACTIVITY_WEIGHTS = names["ACTIVITY_WEIGHTS"]
    residual_coding.ACTIVITY_EDGES = names["ACTIVITY_EDGES"]
    residual_coding.MAGNITUDES = names["MAGNITUDES"]
    residual_coding.BAND_FREQUENCIES = band_frequencies()
    residual.BITS = residual.bits_of(residual_coding.BAND_FREQUENCIES)


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model", help="a name, or a .safetensors file with its card beside it")
    parser.add_argument("--photos", type=Path, nargs="+", required=True, help="tar files, folders")
    parser.add_argument("--limit-photos", type=int)
    parser.add_argument("--output", type=Path, default=Path(residual_tables.__file__))
    options = parser.parse_args(given)
    found = list(fitters(options.model, load_photos(options.photos, options.limit_photos)))
    for _ in range(ROUNDS):
        weights, tables = fit(collect(found))
        use(weights, tables)
        sizes = [len(fitter.body(lambda_)) for lambda_, fitter in found]
        print(f"{np.mean(sizes):.1f} bytes a residual", flush=True)
    options.output.write_text(written(weights, tables))
    subprocess.run(["ruff", "format", "-q", options.output], check=True)


if __name__ == "__main__":
    main()
