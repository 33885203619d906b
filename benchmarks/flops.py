"""Floating-point operations by torch's own counter: two for each multiply-add of a matrix product or a convolution."""

from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode


def count(work: Callable[[], object]) -> float:
    """Operations of ``work``."""
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


def matmul_peak(size: int = 2048) -> float:
    """Operations per second of one product of two square matrices of 32-bit floats."""
    import time

    left, right = torch.randn(size, size), torch.randn(size, size)
    start = time.perf_counter()
    torch.mm(left, right)
    return 2 * size**3 / (time.perf_counter() - start)
