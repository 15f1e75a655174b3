"""Where a training step's time goes: the profiler's own times, by kind of operation.

    OMP_NUM_THREADS=1 .venv/bin/python scripts/step_profile.py LABEL [--side 64] [--batch 8]

Adds the lines of LABEL to results/speed/profile.csv. To profile an older state of the code, put its
src first in PYTHONPATH.
"""

import argparse
import csv
import time
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from wavelit.allocator import keep_freed_memory
from wavelit.model.wavelit import WaveLiT, WaveLiTConfig

TABLE = Path("results/speed/profile.csv")
KINDS = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"),
    "convolutions": ("aten::mkldnn_convolution", "aten::convolution_backward"),
    "gathers and copies": (
        "aten::copy_",
        "aten::cat",
        "aten::index_select",
        "aten::index_add_",
        "aten::index",
        "aten::_index_put_impl_",
        "aten::fill_",
        "aten::gather",
    ),
    "exponentials": (
        "aten::exp_",
        "aten::elu",
        "aten::elu_backward",
        "aten::silu",
        "aten::silu_backward",
    ),
    "other arithmetic": (
        "aten::mul",
        "aten::mul_",
        "aten::add",
        "aten::add_",
        "aten::sub",
        "aten::sub_",
        "aten::neg",
        "aten::neg_",
        "aten::div",
        "aten::div_",
        "aten::addcmul",
        "aten::addcmul_",
        "aten::sum",
        "aten::mean",
        "aten::pow",
        "aten::linalg_vector_norm",
        "aten::clamp_max",
        "aten::clamp_min_",
        "aten::rsqrt",
        "aten::abs",
        "aten::_fused_adamw_",
    ),
}
STEPS = 5


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("label")
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8)
    options = parser.parse_args()
    torch.set_num_threads(1)
    # Else pages fetched anew under the profiler count as arithmetic.
    keep_freed_memory()
    torch.manual_seed(0)
    boundary = (("wall", "wall"), ("open", "open"))
    model = WaveLiT(
        WaveLiTConfig.preset("nano", n_fields=3, n_constant_fields=2, boundary_conditions=boundary)
    )
    fields = torch.randn(options.batch, 4, 3, options.side, options.side)
    constants = torch.randn(options.batch, 2, options.side, options.side)
    target = torch.randn(options.batch, 3, options.side, options.side)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        optimiser.zero_grad()
        model.loss(model.increment(fields, constants), target, 0.3).backward()
        optimiser.step()

    for _ in range(3):
        step()
    start = time.perf_counter()
    for _ in range(STEPS):
        step()
    plain = (time.perf_counter() - start) / STEPS
    with profile(activities=[ProfilerActivity.CPU]) as trace:
        for _ in range(STEPS):
            step()
    events = trace.key_averages()
    total = sum(event.self_cpu_time_total for event in events) / STEPS
    kind_of = {name: kind for kind, names in KINDS.items() for name in names}
    times, calls = dict.fromkeys([*KINDS, "rest"], 0.0), dict.fromkeys([*KINDS, "rest"], 0)
    for event in events:
        kind = kind_of.get(event.key, "rest")
        times[kind] += event.self_cpu_time_total / STEPS
        calls[kind] += event.count // STEPS
    lines = []
    if TABLE.exists():
        with TABLE.open(newline="") as file:
            lines = [line for line in csv.DictReader(file) if line["label"] != options.label]
    for kind, value in times.items():
        lines.append(
            {
                "label": options.label,
                "side": options.side,
                "batch": options.batch,
                "kind": kind,
                "share": round(value / total, 4),
                "calls": calls[kind],
                "ms_per_sample_unprofiled": round(plain / options.batch * 1e3, 2),
                "torch": torch.__version__,
            }
        )
        print(lines[-1])
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    with TABLE.open("w", newline="") as file:
        writer = csv.DictWriter(file, lines[0].keys())
        writer.writeheader()
        writer.writerows(lines)


if __name__ == "__main__":
    main()
