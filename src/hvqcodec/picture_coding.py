"""A picture on its way to a file: coded at any lambda, or with any map, and finished."""

from dataclasses import replace

import numpy as np
import torch

from hvqcodec.alpha import pack_alpha
from hvqcodec.arrays import Floats
from hvqcodec.bitstream import Bitstream, Mode, Section
from hvqcodec.code_refinement import refine_codes
from hvqcodec.decoding import synthesise
from hvqcodec.encoding import analyse
from hvqcodec.entropy.symbol_coding import Symbols, encode_symbols
from hvqcodec.granularity import Levels
from hvqcodec.image import Picture
from hvqcodec.latent_refinement import refine_latents
from hvqcodec.memory import release_memory
from hvqcodec.models.zoo import LoadedModel
from hvqcodec.pixels import to_blocks, to_grey
from hvqcodec.rate import Coded, Room
from hvqcodec.residual import CELL, FINE_CELL, ResidualFitter
from hvqcodec.tiling import Stages
from hvqcodec.timing import step

SECTION_BYTES = 2, 4
"""What a section adds to the header, at least and, if it is of fewer than 2^21 bytes, at most."""


class PictureCoder:
    """Codes one picture, which it analyses once."""

    def __init__(
        self, model: LoadedModel, picture: Picture, tile: int | None, stages: Stages
    ) -> None:
        """tile: as in `Codec.compress`. stages: told of each step."""
        self.model, self.picture, self.tile, self.stages = model, picture, tile, stages
        with step("read"):
            self.blocks = to_blocks(picture.rgb)
            self.metadata = picture.metadata.to_sections()
            alpha = picture.alpha
            self.alpha = {} if alpha is None else {Section.ALPHA: pack_alpha(alpha)}
        static = model.normative.index_tables.static
        self.scene = analyse(model.networks, self.blocks, static, tile, stages.half)
        self.weights: torch.Tensor | None = None
        """How much errors count in each 8x8 cell, (H/8, W/8)."""

    @property
    def alpha_bytes(self) -> int:
        return sum(map(len, self.alpha.values()))

    @property
    def metadata_bytes(self) -> int:
        return sum(map(len, self.metadata.values()))

    def measure(self) -> None:
        """Choose maps, from now on, by what trial decodings show as well."""
        self.scene = self.scene.measured(self.blocks, self.tile, self.stages.half)

    def weigh(self, weights: Floats) -> None:
        """Count the distortion of each 8x8 cell so many times, from now on: (H/8, W/8)."""
        self.weights = torch.from_numpy(weights)
        weighed = self.scene.cell_distortion * self.weights
        self.scene = replace(self.scene, cell_distortion=weighed)

    def estimated_bits(self, lambda_: float) -> float:
        """Of the codes at a lambda, quickly; z and map not counted."""
        return self.scene.estimated_bits(self.scene.allocate(lambda_))

    def at(self, lambda_: float) -> Coded:
        """The file of a lambda, without residual."""
        with step("allocation"):
            levels = self.scene.choose(lambda_, self.model.normative.map_tables)
        return self.with_map(levels, lambda_)

    def with_map(self, levels: Levels, lambda_: float) -> Coded:
        """The file of a map, without residual. lambda_: what a bit is worth in what follows."""
        draft = self.file_of(self.scene.symbols(levels), lambda_)
        self.stages.half(1)  # nobody knows how many it will take
        return draft

    def refine_codes(self, draft: Coded, steps: int) -> Coded:
        """The file, without residual, with codes that look better for their bits."""
        assert draft.symbols
        with step("refinement of codes"):
            symbols = refine_codes(
                self.scene,
                self.blocks,
                draft.symbols,
                draft.lambda_,
                steps,
                weights=self.weights,
                grey=self.picture.mode == Mode.GREY,
                side=self.tile,
                progress=self.stages.most,
            )
        return self.file_of(symbols, draft.lambda_)

    def refine_latents(self, draft: Coded, rounds: int) -> Coded:
        """The file, without residual, with z that makes it smaller."""
        assert draft.symbols
        with step("refinement of z"):
            networks, normative = self.model.networks, self.model.normative
            symbols = refine_latents(networks, normative, draft.symbols, rounds, self.stages.half)
        refined = self.file_of(symbols, draft.lambda_)
        return min(refined, draft, key=lambda coded: coded.image_bytes)

    def file_of(self, symbols: Symbols, lambda_: float) -> Coded:
        """Without residual."""
        sections: dict[int, bytes] = {
            Section.PAYLOAD: encode_symbols(self.model.normative, symbols),
            Section.SYMBOL_CRC: symbols.crc().to_bytes(4, "little"),
        }
        sections |= self.alpha | self.metadata
        height, width = self.picture.rgb.shape[:2]
        mode, name = self.picture.mode, self.model.fingerprint
        stream = Bitstream(name, width, height, mode, sections)
        return Coded(stream.to_bytes(), stream.image_bytes, lambda_, symbols)

    def finish(self, draft: Coded, room: Room) -> Coded:
        """The file with what its decoder will miss at low frequencies."""
        assert draft.symbols
        release_memory()  # of the refinements, which trial decoding would not reuse
        with step("trial decoding"):
            decoded = synthesise(self.model.networks, draft.symbols, self.tile)
        with step("residual"):
            if self.picture.mode == Mode.GREY:
                decoded = np.repeat(to_grey(decoded)[..., None], 3, 2)
            least, most = room.least - SECTION_BYTES[0], room.most - SECTION_BYTES[1]
            body = b""
            for cell in (CELL, FINE_CELL) if room.fill else (CELL,):
                fitter = ResidualFitter(self.blocks, decoded, self.model.synthesis, cell)
                found = fitter.within(draft.lambda_, least, most, fill=room.fill, keep=room.keep)
                body = max(body, found, key=len)
                if len(body) >= least:
                    break
        self.stages.half(1)
        if not body:
            return draft
        stream = Bitstream.from_bytes(draft.data)
        stream = replace(stream, sections=stream.sections | {Section.RESIDUAL: body})
        return draft._replace(data=stream.to_bytes(), image_bytes=stream.image_bytes)
