"""The type of number in which a device trains fastest."""

import time
from functools import cache

import torch

ROUNDS = 5


def seconds_of_product(dtype: torch.dtype) -> float:
    """Of half a billion multiplications and additions on the processor, the best of a few."""
    a, b = torch.ones(512, 512, dtype=dtype), torch.ones(512, 1024, dtype=dtype)
    taken = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        a @ b
        taken.append(time.perf_counter() - begin)
    return min(taken)


@cache
def fast_dtype(kind: str) -> torch.dtype:
    """kind: of a device, as `torch.device.type`. Processors are asked by trial: some emulate
    bfloat16, ten times as slowly as float32, and of those with instructions for it some (AVX-512
    without AMX) take twice as long, others half."""
    if kind != "cpu":
        return torch.bfloat16
    return min((torch.float32, torch.bfloat16), key=seconds_of_product)
