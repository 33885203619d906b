"""Floating-point operations by torch's own counter: two for each multiply-add of a matrix product or a convolution."""

from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

# torch counts the attention kernels of accelerators, not the processor's.
_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: (
        lambda query, key, value, *_args, **_kwargs: sdpa_flop_count(query, key, value)
    ),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        lambda gradient, query, key, value, *_args, **_kwargs: sdpa_backward_flop_count(gradient, query, key, value)
    ),
}


def count(work: Callable[[], object]) -> float:
    """Operations of ``work``, those of attention included."""
    with FlopCounterMode(display=False, custom_mapping=_ATTENTION) as counter:
        work()
    return float(counter.get_total_flops())


def matmul_peak(size: int = 2048) -> float:
    """Operations per second of one product of two square matrices of 32-bit floats."""
    import time

    left, right = torch.randn(size, size), torch.randn(size, size)
    start = time.perf_counter()
    torch.mm(left, right)
    return 2 * size**3 / (time.perf_counter() - start)
