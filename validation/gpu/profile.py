"""Kernels of a training step: how many, what they do, gaps between them, and both bounds."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity
from validation.gpu.models import Size, inputs, model, seconds_of, training_step

from wavelit.traffic import Traffic, flop_counter

__all__ = ["measure"]

# What is in a kernel's name, of matrix products and of convolutions.
KINDS = {
    # Before products: cuDNN's are called implicit_gemm too.
    "convolutions": ("conv", "cudnn", "depthwise", "fprop", "dgrad", "wgrad"),
    "products": ("gemm", "nvjet", "cutlass", "cublas", "::mm", "::bmm", "::addmm", "::baddbmm"),
    "copies": ("copy", "memcpy", "memset", "cat"),
    "gathers": ("index", "gather", "scatter"),
    "optimiser": ("adam", "multi_tensor", "foreach"),
}


def measure(size: Size) -> dict[str, Any]:
    """Of `nano` at 64 x 64 and `1M` at 256 x 256 under bfloat16, eager; the device's own rates."""
    cases = (("nano", 32, 2),) if size.short else (("nano", 64, 64), ("1M", 256, 32))
    rates = _rates(size)
    return {"rates": rates, "steps": [_profile(*case, size, rates) for case in cases]}


def _profile(
    preset: str, side: int, batch: int, size: Size, rates: dict[str, float]
) -> dict[str, Any]:
    network, x = model(preset, size.device), inputs(batch, side, size.device)
    step = training_step(
        network.increment, network, lambda y, t: network.loss(y, t, 1.0), x, low=True
    )
    seconds = seconds_of(step, size.device, 2 if size.short else 10)
    cuda = size.device != "cpu"
    activities = [ProfilerActivity.CUDA, ProfilerActivity.CPU] if cuda else [ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities) as trace:
        step()
        if cuda:
            torch.cuda.synchronize(size.device)
    kind = DeviceType.CUDA if cuda else DeviceType.CPU
    # A span that the optimiser names is no kernel.
    events = [
        event
        for event in trace.key_averages()
        if event.device_type == kind and not event.is_user_annotation
    ]
    spent_by = "self_device_time_total" if cuda else "self_cpu_time_total"
    times: dict[str, float] = {}
    n_kernels, busy = 0, 0.0
    for event in events:
        spent = getattr(event, spent_by) * 1e-6
        n_kernels, busy = n_kernels + event.count, busy + spent
        name = event.key.lower()
        label = next((k for k, words in KINDS.items() if any(w in name for w in words)), "others")
        times[label] = times.get(label, 0.0) + spent
    with flop_counter() as counter:
        step()
    flops = counter.get_total_flops()
    with Traffic() as traffic:
        step()
    top = sorted(
        ((getattr(event, spent_by), event.count, event.key[:90]) for event in events), reverse=True
    )[:25]
    return {
        "preset": preset,
        "side": side,
        "batch": batch,
        "step_ms": seconds * 1e3,
        "kernels": n_kernels,
        "busy_ms": busy * 1e3,
        "gaps": max(0.0, 1 - busy / seconds),
        "share": {label: spent / busy for label, spent in sorted(times.items())},
        "gflop": flops / 1e9,
        "operations": traffic.operations,
        "gigabytes": traffic.n_bytes / 1e9,
        "arithmetic_bound_ms": flops / rates["flops_per_s"] * 1e3,
        "memory_bound_ms": traffic.n_bytes / rates["bytes_per_s"] * 1e3,
        "longest": [[round(spent), count, key] for spent, count, key in top],
    }


def _rates(size: Size) -> dict[str, float]:
    """FLOP/s of a large product in bfloat16, and bytes/s of a copy."""
    n = 512 if size.short else 8192
    a = torch.randn(n, n, device=size.device, dtype=torch.bfloat16)
    b = torch.randn(n, n, device=size.device, dtype=torch.bfloat16)
    product = seconds_of(lambda: a @ b, size.device, 3 if size.short else 20)
    source = torch.empty(2**20 if size.short else 2**30, device=size.device, dtype=torch.uint8)
    target = torch.empty_like(source)
    copy = seconds_of(lambda: target.copy_(source), size.device, 3 if size.short else 20)
    return {"flops_per_s": 2 * n**3 / product, "bytes_per_s": 2 * source.numel() / copy}
