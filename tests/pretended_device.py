"""A device that is not the CPU, where there is none: `Codec.load(device="pretended")` within
`pretended_device()`.

The CPU does its work, but as with a GPU what lies there cannot be read from here, nor mixed with
what lies here, and convolutions round what they multiply to 10 bits (TF32, as those of GPUs do), so
that networks give other numbers than they do here.

Registered for the whole process: use it in one of its own.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

NAME = "pretended"
DROPPED = 13
"""Bits of a float32 that TF32 has not."""


class There(Tensor):
    """A tensor on the device; `held` has its numbers."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "There":
        return Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=torch.device(NAME, 0),
        )

    def __init__(self, held: Tensor) -> None:
        self.held = held

    def tolist(self) -> object:
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: object, args: Any = (), kwargs: Any = None
    ) -> object:
        with Device():  # a mode holds for its thread alone
            return func(*args, **(kwargs or {}))


class Device(TorchDispatchMode):
    """Does on the CPU what is asked of either device."""

    def __torch_dispatch__(
        self, func: Any, types: object, args: Any = (), kwargs: Any = None
    ) -> object:
        kwargs = kwargs or {}
        if func._can_decompose():
            with self:
                return func.decompose(*args, **kwargs)
        leaves = tree_leaves((args, kwargs))
        there = [t for t in leaves if isinstance(t, There)]
        name = func.name().removeprefix("aten::").split(".")[0]
        if there and name not in ("copy_", "_to_copy"):
            refuse_a_mixture(name, args, leaves)
        asked = kwargs.get("device")
        stays = bool(there) if asked is None else torch.device(asked).type == NAME
        if asked is not None:
            kwargs = kwargs | {"device": torch.device("cpu")}
        held_args, held_kwargs = tree_map_only(There, lambda t: t.held, (args, kwargs))
        if there and name == "convolution":
            held_args = (*(rounded(t) for t in held_args[:2]), *held_args[2:])
        result = func(*held_args, **held_kwargs)
        for tensor in there:
            if result is tensor.held:  # changed in place
                return tensor
        if not stays or (name == "copy_" and not isinstance(args[0], There)):
            return result
        with torch.inference_mode(False):  # else views of what is not of that mode are refused
            return tree_map_only(Tensor, There, result)


def refuse_a_mixture(name: str, args: Any, leaves: list[object]) -> None:
    """Single numbers of the CPU may be mixed in; what is indexed may have its indices there."""
    if name.startswith("index") and isinstance(args[0], There):
        return
    if any(isinstance(t, Tensor) and not isinstance(t, There) and t.dim() for t in leaves):
        raise RuntimeError(f"{name}: some operands are on {NAME}, some on the CPU")


def rounded(values: Tensor) -> Tensor:
    """To TF32, half to even."""
    bits = values.view(torch.int32)
    odd = (bits >> DROPPED) & 1
    up = (1 << (DROPPED - 1)) - 1 + odd
    return ((bits + up) >> DROPPED << DROPPED).view(torch.float32)


def made_anywhere(
    data: object, *, dtype: torch.dtype | None = None, device: object = None
) -> Tensor:
    """`torch.tensor`, which itself knows no modes."""
    made = torch.as_tensor(data, dtype=dtype, device="cpu").clone()
    return made if device is None else made.to(device)  # type: ignore[call-overload]


@contextmanager
def pretended_device() -> Iterator[None]:
    class Module(backend_registration._DummyBackendModule):
        def get_amp_supported_dtype(self) -> list[torch.dtype]:
            return [torch.bfloat16]

    setup: Callable[..., None] = backend_registration._setup_privateuseone_for_python_backend
    setup(NAME, backend_module=Module())
    # Parameters are replaced: they cannot become tensors of another class.
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    torch.tensor = made_anywhere
    with Device():
        yield
