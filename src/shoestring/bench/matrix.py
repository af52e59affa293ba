"""How much of a step is spent outside matrix products."""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

# Kernels of cuBLAS, CUTLASS and the fused attentions, by what their names have had in common for years.
_KERNELS = re.compile(r"gemm|gemv|cutlass|cublas|nvjet|wgmma|xmma|splitk|flash|fmha|attention", re.IGNORECASE)
_OPERATIONS = re.compile(r"aten::(addmm|mm|bmm|baddbmm|mkldnn_linear|_?scaled_dot_product.*)$")


def matrix_seconds(step: Callable[[], None], device: torch.device) -> float:
    """Return the seconds of one call of `step` in matrix products and attention.

    On CUDA the time of kernels, told by their names; on the CPU that of operations, without those they call.
    """
    cuda = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with profile(activities=activities) as profiled:
        step()
        if cuda:
            torch.cuda.synchronize(device)
    if cuda:
        events = profiled.events() or ()
        kernels = [event for event in events if event.device_type == DeviceType.CUDA and not event.is_user_annotation]
        return sum(event.self_device_time_total for event in kernels if _KERNELS.search(event.name)) / 1e6
    averages = profiled.key_averages()
    return sum(event.self_cpu_time_total for event in averages if _OPERATIONS.match(event.key)) / 1e6
