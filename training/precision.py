"""The type of number in which a device trains fastest."""

from functools import cache

import torch

NATIVE = ("avx512_bf16", "amx_bf16")
"""Of which a processor needs one: others emulate bfloat16, ten times as slowly as float32."""


@cache
def fast_dtype(kind: str) -> torch.dtype:
    """kind: of a device, as `torch.device.type`."""
    if kind == "cpu" and not any(map(torch.cpu.get_capabilities().get, NATIVE)):
        return torch.float32
    return torch.bfloat16
