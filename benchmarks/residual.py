"""What the residual brings and costs, at equal bytes.

    python -m benchmarks.residual photos --perceptual networks --rates 0.1,0.2,0.3

Each photo is coded to the same rate with residual and without: what the residual takes of a file,
and what both are like.
"""

from collections.abc import Sequence

import numpy as np

from benchmarks import decoded
from benchmarks.photos import load_photos
from hvqcodec import Codec, probe
from hvqcodec.image import Picture
from hvqcodec.metrics import TITLES, Metrics
from hvqcodec.picture_coding import PictureCoder
from hvqcodec.rate import Coded, Room
from hvqcodec.tiling import Stages


class Bare(PictureCoder):
    """Codes as releases before 0.8 did."""

    def finish(self, draft: Coded, room: Room) -> Coded:
        return draft


class WithoutResidual(Codec):
    def _coder(self, picture: Picture, tile: int | None, stages: Stages) -> PictureCoder:
        return Bare(self.model, picture, tile, stages)


def main(given: Sequence[str] | None = None) -> None:
    parser = decoded.options_parser(__doc__, rates="0.1,0.2,0.3")
    options = parser.parse_args(given)
    photos = load_photos(options.photos, options.limit_photos)
    metrics = Metrics(options.perceptual)
    names = list(metrics.distances)
    print("| model | bpp | residual | share | " + " | ".join(TITLES[n] for n in names) + " |")
    print("|---" * (4 + len(names)) + "|")
    for name in options.models:
        codec = Codec.load(name)
        for rate in map(float, options.rates.split(",")):
            for coder, said in ((WithoutResidual(codec.model), "without"), (codec, "with")):
                share, figures = [], []
                for photo, file in zip(
                    photos, decoded.files(coder, photos, rate, options.effort), strict=True
                ):
                    share.append(probe(file).sections.get("residual", 0) / len(file))
                    shown = codec.decompress(file, output="numpy")
                    figures.append(list(metrics(photo, shown).values()))
                means = " | ".join(f"{value:.4f}" for value in np.mean(figures, 0))
                print(
                    f"| {name} | {rate:g} | {said} | {np.mean(share):.2%} | {means} |", flush=True
                )


if __name__ == "__main__":
    main()
