"""What a training step moves and launches, eager and compiled: the table of docs/performance.md.

    .venv/bin/python scripts/compiled_counts.py measure    # about ten minutes, one thread
    .venv/bin/python scripts/compiled_counts.py            # the table, from results/compiled

One sample of four fields, forward and backward, counted on a CPU. Eager: every operation reads its
tensors and writes its results once (`wavelit.traffic`). Compiled: what inductor's scheduler leaves
for the CPU after fusion, its own kernels and library calls alike, with the bytes of the buffers
that each reads and writes. On a card it fuses otherwise.
"""

import argparse
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from tables import markdown, put

from wavelit.model.config import WaveLiTConfig
from wavelit.model.wavelit import WaveLiT
from wavelit.traffic import Traffic

RESULTS = Path("results/compiled")
PAGE = Path("docs/performance.md")
MARKS = ("<!-- table: scripts/compiled_counts.py -->", "<!-- end of table -->")
CASES = [
    (preset, 256, precision) for preset in ("nano", "1M") for precision in ("float32", "bfloat16")
]
# Nodes of the schedule that run nothing.
IDLE = ("NopKernelSchedulerNode",)


def measure(preset: str, side: int, precision: str) -> dict[str, Any]:
    """Operations and bytes of a step, eager and compiled."""
    torch.set_num_threads(1)
    model = WaveLiT(WaveLiTConfig.preset(preset, n_fields=4))
    fields = torch.randn(1, model.config.n_steps_input, 4, side, side)

    def loss() -> torch.Tensor:
        return model.increment(fields).square().mean()

    def autocast() -> Any:
        low = precision == "bfloat16"
        return torch.autocast("cpu", dtype=torch.bfloat16) if low else nullcontext()

    with Traffic() as traffic:
        with autocast():
            value = loss()
        value.backward()
    kernels, n_bytes = _compiled(loss, autocast)
    return {
        "preset": preset,
        "side": side,
        "precision": precision,
        "eager_operations": traffic.operations,
        "eager_bytes": traffic.n_bytes,
        "compiled_kernels": kernels,
        "compiled_bytes": n_bytes,
        "torch": torch.__version__,
    }


def _compiled(loss: Any, autocast: Any) -> tuple[int, int]:
    """Kernels and bytes of a compiled step, from inductor's schedule."""
    from torch._inductor import config, graph

    nodes: list[int] = []
    codegen = graph.GraphLowering.codegen

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        out = codegen(self, *args, **kwargs)
        for node in self.scheduler.nodes:
            moved = node.get_read_write_buffers_sizes()
            # A library call without bytes hands out a part of another's result.
            if type(node).__name__ not in IDLE and moved:
                nodes.append(moved)
        return out

    graph.GraphLowering.codegen = counted
    try:
        with config.patch(force_disable_caches=True, compile_threads=1):
            step = torch.compile(loss, dynamic=False)
            with autocast():
                value = step()
            value.backward()
    finally:
        graph.GraphLowering.codegen = codegen
        torch.compiler.reset()
    return len(nodes), sum(nodes)


def table() -> str:
    rows = []
    for preset, side, precision in CASES:
        found = json.loads((RESULTS / f"{preset}-{side}-{precision}.json").read_text())
        eager, compiled = (
            [f"{found[f'{mode}_{what}']:,}", f"{found[f'{mode}_bytes'] / 1e9:.2f} GB"]
            for mode, what in (("eager", "operations"), ("compiled", "kernels"))
        )
        rows.append([f"`{preset}`", f"{side}²", precision, *eager, *compiled])
    head = ["preset", "grid", "precision", "operations", "traffic", "kernels, compiled", "traffic"]
    return markdown(head, rows)


def tables() -> list[str]:
    """What the page holds."""
    return [table()]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("action", nargs="?", choices=["measure", "render"], default="render")
    if parser.parse_args().action == "measure":
        RESULTS.mkdir(parents=True, exist_ok=True)
        for case in CASES:
            path = RESULTS / ("-".join(map(str, case)) + ".json")
            path.write_text(json.dumps(measure(*case), indent=1) + "\n")
    else:
        put(PAGE, *MARKS, table())
