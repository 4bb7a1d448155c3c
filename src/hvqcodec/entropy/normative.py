"""NORMATIVE: everything of a model that decides bits, as tensors of integers and their checksum."""

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hvqcodec.entropy.constants import LATENT_MAX, SIGMA_STEPS
from hvqcodec.entropy.context import IntegerContext
from hvqcodec.entropy.fixed_point import IntegerConv, IntegerHyperSynthesis
from hvqcodec.entropy.map_coding import CONTEXTS, MAP_TABLE_SUM
from hvqcodec.entropy.tables import EXP_LAST, IndexTables

MAX_CODES = 1 << 16
"""Indices are checked as two bytes."""


@dataclass(frozen=True)
class Normative:
    """Everything that decides bits: the integer part of a model."""

    hyper_syntheses: tuple[IntegerHyperSynthesis, ...]
    """Coarse, medium, fine."""
    index_tables: IndexTables
    latent_tables: NDArray[np.int32]
    """(3, latent_channels, 31) frequencies of z."""
    map_tables: NDArray[np.int32]
    """(sets, contexts, 2) frequencies of the flags of the map."""
    contexts: tuple[IntegerContext, ...] = ()
    """Coarse, medium, fine; or none."""

    def to_tensors(self) -> dict[str, Tensor]:
        tensors = {
            "latent_tables": torch.from_numpy(self.latent_tables),
            "map_tables": torch.from_numpy(self.map_tables),
        }
        for name in ("entries", "inverse_variance", "log_prior", "exponential", "static"):
            tensors[f"index_tables.{name}"] = getattr(self.index_tables, name)
        for level, hyper in enumerate(self.hyper_syntheses):
            for number, conv in enumerate(hyper.convs, 1):
                tensors[f"hyper.{level}.conv{number}.weight"] = conv.weight
                tensors[f"hyper.{level}.conv{number}.bias"] = conv.bias
            formats = torch.tensor([*hyper.shifts, hyper.mask_one], dtype=torch.int32, device="cpu")
            tensors[f"hyper.{level}.formats"] = formats
        for level, context in enumerate(self.contexts):
            for number, layer in enumerate(context.layers, 1):
                tensors[f"context.{level}.layer{number}.weight"] = layer.weight
                tensors[f"context.{level}.layer{number}.bias"] = layer.bias
            formats = torch.tensor(context.shifts, dtype=torch.int32, device="cpu")
            tensors[f"context.{level}.formats"] = formats
        return tensors

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> "Normative":
        """Raises KeyError or ValueError if the tensors are not of a model."""

        def convs(prefix: str, count: int) -> tuple[IntegerConv, ...]:
            return tuple(
                IntegerConv(tensors[f"{prefix}{n}.weight"], tensors[f"{prefix}{n}.bias"])
                for n in range(1, count + 1)
            )

        tables = IndexTables(
            *(
                tensors[f"index_tables.{name}"]
                for name in ("entries", "inverse_variance", "log_prior", "exponential", "static")
            )
        )
        hypers, contexts = [], []
        for level in range(3):
            *shifts, one = tensors[f"hyper.{level}.formats"].tolist()
            layers = convs(f"hyper.{level}.conv", 4)
            hypers.append(IntegerHyperSynthesis(layers, tuple(shifts), one))
            if f"context.{level}.formats" in tensors:
                shifts = tensors[f"context.{level}.formats"].tolist()
                layers = convs(f"context.{level}.layer", 3)
                contexts.append(IntegerContext(layers, tuple(shifts), tables.entries.shape[1]))
        normative = cls(
            tuple(hypers),
            tables,
            tensors["latent_tables"].numpy(),
            tensors["map_tables"].numpy(),
            tuple(contexts),
        )
        normative.check()
        normative.check_kinds(tensors)  # as given: formats are kept as plain numbers
        return normative

    def check(self) -> None:
        """Raise ValueError unless types and shapes are those of docs/format.md, section 7, and
        all arithmetic is exact by these weights and tables."""
        if len(self.contexts) not in (0, 3):
            raise ValueError("a model has contexts for all levels or for none")
        self.check_kinds(self.to_tensors())
        for hyper in self.hyper_syntheses:
            hyper.check_exact(LATENT_MAX)
        for context in self.contexts:
            context.check_exact()
        self.index_tables.check_exact()
        if len(self.map_tables) < 2:
            raise ValueError("a model needs two sets of map tables or more")
        if (self.map_tables.sum(2) != MAP_TABLE_SUM).any():
            raise ValueError("a pair of the map tables does not sum to 2^12")
        if self.latent_tables.min() < 1 or self.map_tables.min() < 1:
            raise ValueError("a table of z or of the map holds a zero")

    def check_kinds(self, tensors: dict[str, Tensor]) -> None:
        """Raise ValueError unless the tensors of such a model have these types and shapes."""
        for name, (dtype, shape) in self._expected().items():
            if tensors[name].dtype != dtype or tuple(tensors[name].shape) != shape:
                raise ValueError(f"{name} should be {dtype} of shape {shape}")

    def _expected(self) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
        """Type and shape of each tensor, by those sizes that a model may choose: K, D, the
        channels of z, the sets of map tables, and the widths of hidden layers."""
        codes, dimensions = self.index_tables.entries.shape
        if codes > MAX_CODES:
            raise ValueError(f"a codebook has at most {MAX_CODES} entries")
        channels = self.latent_tables.shape[1] if self.latent_tables.ndim == 3 else 0
        tables = {
            "latent_tables": (torch.int32, (3, channels, 2 * LATENT_MAX + 1)),
            "map_tables": (torch.int32, (len(self.map_tables), CONTEXTS, 2)),
            "index_tables.entries": (torch.int16, (codes, dimensions)),
            "index_tables.inverse_variance": (torch.int32, (SIGMA_STEPS,)),
            "index_tables.log_prior": (torch.int64, (3, codes)),
            "index_tables.exponential": (torch.int32, (EXP_LAST + 1,)),
            "index_tables.static": (torch.int32, (3, codes)),
        }
        layers: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {}

        def expect(prefix: str, *shapes: tuple[int, int, int]) -> None:
            for number, (outputs, inputs, kernel) in enumerate(shapes, 1):
                name = f"{prefix}{number}"
                layers[f"{name}.weight"] = torch.int16, (outputs, inputs, kernel, kernel)
                layers[f"{name}.bias"] = torch.int64, (outputs,)

        for level, hyper in enumerate(self.hyper_syntheses):
            n1, n2, n3, _ = (len(conv.bias) for conv in hyper.convs)
            if n2 % 4:
                raise ValueError("a second convolution whose channels cannot be shuffled")
            expect(
                f"hyper.{level}.conv",
                (n1, channels, 3),
                (n2, n1, 1),
                (n3, n2 // 4 + 4, 3),
                (8 * dimensions, n3, 1),
            )
            layers[f"hyper.{level}.formats"] = torch.int32, (6,)
        for level, context in enumerate(self.contexts):
            n1, n2, _ = (len(layer.bias) for layer in context.layers)
            expect(
                f"context.{level}.layer",
                (n1, context.inputs, 1),
                (n2, n1, 1),
                (2 * dimensions, n2, 1),
            )
            layers[f"context.{level}.formats"] = torch.int32, (4,)
        return tables | layers

    def fingerprint(self) -> str:
        """SHA-256 over names, types, shapes and little-endian values, as 64 hex digits."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.to_tensors().items()):
            array = tensor.contiguous().numpy()
            digest.update(f"{name} {array.dtype.name} {list(array.shape)}\n".encode())
            digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
        return digest.hexdigest()
