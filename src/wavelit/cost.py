"""What a model costs: parameters, arithmetic, memory, the time of a step here, and an estimate for
another device.

FLOPs are counted by PyTorch over the operations that a step really runs (a multiplication and an
addition are two). Activations are the bytes that the forward pass keeps for the backward pass.
Traffic is what the operations of a step in eager mode read and write (`wavelit.traffic`).

The estimate for another device is the largest of three: FLOPs over its FLOP/s, traffic over its
bandwidth, operations times the time of a launch. It is meant for eager mode and knows no caches;
compiled, a step has fewer operations and less traffic.

References:
    Roofline: an insightful visual performance model for multicore architectures, Williams et al.,
    2009 (doi 10.1145/1498765.1498785).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from wavelit.benchmarks.timing import medians
from wavelit.checks.arguments import require_name, require_real, require_whole, shown
from wavelit.errors import WavelitError, printable
from wavelit.model.config import PRESETS, WaveLiTConfig, padded_shape
from wavelit.model.foundation import JointWaveLiT
from wavelit.model.wavelit import WaveLiT
from wavelit.ops.depthwise import DepthwiseConv
from wavelit.traffic import Traffic, flop_counter
from wavelit.training.module import is_weight

__all__ = [
    "DEVICES",
    "Cost",
    "Shares",
    "cost_of",
    "describe_cost",
    "describe_shares",
    "shares_of",
]

# Dense FLOP/s in TF32 and bytes/s, of the makers' data sheets: H100 and H200 SXM, A100 80 GB SXM.
DEVICES = {
    "h200": (4.94e14, 4.8e12),
    "h100": (4.94e14, 3.35e12),
    "a100": (1.56e14, 2.04e12),
    "l40s": (1.83e14, 8.64e11),
    "rtx4090": (8.26e13, 1.01e12),
}
# Seconds from one kernel to the next where the processor launches each: an assumption.
LAUNCH = 5e-6
# Points times samples that are measured: at some kilobytes a point, tens of gigabytes.
MAX_POINTS = 2**24
# Weights of a model that is measured, a gigabyte with their gradients: the linear skip grows as the
# square of the fields.
MAX_WEIGHTS = 2**27


def describe_cost(
    preset: str,
    resolution: Sequence[int],
    n_fields: int = 4,
    batch: int = 1,
    flops_per_second: float | None = None,
    bytes_per_second: float | None = None,
    device_name: str | None = None,
) -> str:
    """Lines that say what a training step and a prediction of a preset cost on a periodic grid.

    Args:
        preset: A key of `PRESETS`.
        resolution: Points along each axis, 1 to 3 axes.
        n_fields: Field channels C.
        batch: Samples of a step.
        flops_per_second: Sustained FLOP/s of another device; with `bytes_per_second`, for the
            estimate.
        bytes_per_second: Its memory bandwidth.
        device_name: A key of `DEVICES`, in place of both rates.

    Raises:
        WavelitError: Unknown preset, a grid the preset cannot take or too large to measure, no
            channels, an unknown device, or only one of the two rates.
    """
    require_name("preset", preset, PRESETS)
    if not isinstance(resolution, list | tuple) or not 1 <= len(resolution) <= 3:
        raise WavelitError(
            f"resolution must be the points along 1 to 3 axes, not {shown(resolution)}"
        )
    resolution = [require_whole("resolution", n) for n in resolution]
    require_whole("fields", n_fields, high=10_000)
    require_whole("batch", batch)
    if (n := batch * math.prod(resolution)) > MAX_POINTS:
        raise WavelitError(
            f"resolution and batch come to {shown(n)} points, more than the {MAX_POINTS} that are "
            "measured here: ask for a smaller grid"
        )
    if device_name is not None:
        require_name("device_name", device_name, DEVICES)
        if flops_per_second is not None or bytes_per_second is not None:
            raise WavelitError("device_name stands for both rates: leave --flops, --bandwidth out")
        flops_per_second, bytes_per_second = DEVICES[device_name]
    if (flops_per_second is None) != (bytes_per_second is None):
        raise WavelitError("an estimate needs both rates of the device: --flops and --bandwidth")
    for name, rate in (("flops", flops_per_second), ("bandwidth", bytes_per_second)):
        if rate is not None:
            require_real(name, rate, beyond=True)
    config = WaveLiTConfig.preset(preset, n_fields=n_fields, spatial=len(resolution))
    padded_shape(resolution, config)
    with torch.device("meta"):
        n_weights = WaveLiT(config).n_parameters
    if n_weights > MAX_WEIGHTS:
        raise WavelitError(
            f"fields={n_fields} come to {n_weights:,} weights, more than the {MAX_WEIGHTS:,} that "
            "are measured here: ask for fewer fields"
        )
    model = WaveLiT(config)
    fields = torch.randn(batch, config.n_steps_input, n_fields, *resolution)
    cost = cost_of(model, fields)

    def train() -> None:
        model.increment(fields).square().mean().backward()

    def predict() -> None:
        with torch.no_grad():
            model(fields)

    seconds = medians({"predict": predict, "train": train}, rounds=5, warm_up=1)
    grid = " x ".join(map(str, resolution))
    lines = [
        (
            f"{preset}: {n_fields} fields, history {config.n_steps_input}, {grid} points, batch "
            f"{batch}"
        ),
        f"parameters        {model.n_parameters / 1e6:.2f}M",
        f"prediction        {cost.flops / 1e9:.2f} GFLOP, {seconds['predict'] * 1e3:.1f} ms here",
        (
            f"training step     {cost.training_flops / 1e9:.2f} GFLOP, "
            f"{seconds['train'] * 1e3:.1f} ms here, without the optimiser"
        ),
        f"kept activations  {cost.activations / 1e6:.1f} MB",
        (
            f"traffic           {cost.traffic / 1e9:.2f} GB in {cost.operations:,} "
            "operations of a training step, eager, float32"
        ),
        f"measured on       {torch.get_num_threads()} CPU thread(s), float32",
    ]
    if flops_per_second is not None and bytes_per_second is not None:
        bounds = cost.bounds(flops_per_second, bytes_per_second)
        bound, seconds_a_step = max(bounds.items(), key=lambda item: item[1])
        each = ", ".join(f"{name} {value * 1e3:.2f} ms" for name, value in bounds.items())
        lines.append(
            f"estimate          at least {seconds_a_step * 1e3:.2f} ms a training step at "
            f"{flops_per_second:.3g} FLOP/s and {bytes_per_second:.3g} B/s, bound by {bound}: "
            f"{each} (an estimate, not measured)"
        )
    return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of a training step, eager and in float32, and of a prediction.

    Attributes:
        parameters: Of the model.
        flops: Of a prediction.
        training_flops: Of a forward and a backward pass.
        activations: Bytes that the forward pass keeps for the backward pass.
        traffic: Bytes that the operations of both passes read and write.
        operations: How many these are.
    """

    parameters: int
    flops: int
    training_flops: int
    activations: int
    traffic: int
    operations: int

    def bounds(self, flops_per_second: float, bytes_per_second: float) -> dict[str, float]:
        """Least seconds of a training step by what may bind it: arithmetic, memory, launches."""
        return {
            "arithmetic": self.training_flops / flops_per_second,
            "memory": self.traffic / bytes_per_second,
            "launches": self.operations * LAUNCH,
        }


def cost_of(model: WaveLiT, fields: torch.Tensor, *beside: torch.Tensor | None) -> Cost:
    """What a training step and a prediction of a model cost, counted while they run.

    Args:
        model: The model.
        fields: (B, T, C, *S).
        beside: Where it has them, constants (B, K, *S) and scalars (B, P).
    """
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model.increment(fields, *beside).square().mean()
    loss.backward()
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    activations = sum(size for pointer, size in kept.items() if pointer not in weights)
    with flop_counter() as counter:
        model.increment(fields, *beside).square().mean().backward()
    training_flops = counter.get_total_flops()
    # A step of training does not add to gradients that are there.
    model.zero_grad()
    with Traffic() as traffic:
        model.increment(fields, *beside).square().mean().backward()
    with flop_counter() as counter, torch.no_grad():
        model(fields, *beside)
    return Cost(
        model.n_parameters,
        counter.get_total_flops(),
        training_flops,
        activations,
        traffic.n_bytes,
        traffic.operations,
    )


@dataclasses.dataclass(frozen=True)
class Shares:
    """What of a system in a joint model is shared by all its systems.

    Args:
        parameters: Active for the system.
        shared: Of these, shared by all.
        flops: Of one prediction of one sample.
        shared_flops: Of these, by weights that are shared by all.
    """

    parameters: int
    shared: int
    flops: int
    shared_flops: int


def shares_of(joint: JointWaveLiT, resolution: Sequence[int]) -> dict[str, Shares]:
    """Parameters and FLOPs of every system of a joint model, and how many all share.

    A matrix that is put together from blocks of fields counts as shared only if it is the same for
    all systems.

    Args:
        joint: The model.
        resolution: Points along each axis.

    Raises:
        WavelitError: A grid that a system cannot take.
    """
    common = {id(p) for p in joint.parameters()}
    for system in joint.values():
        common &= {id(p) for p in system.parameters()}
    found = {}
    for name, system in joint.items():
        config = system.config
        padded_shape(resolution, config)
        fields = torch.randn(1, config.n_steps_input, config.n_fields, *resolution)
        constants = torch.randn(1, config.n_constant_fields, *resolution)
        scalars = torch.ones(1, config.n_scalars)
        with flop_counter() as counter, torch.no_grad():
            system(
                fields,
                constants if config.n_constant_fields else None,
                scalars if config.n_scalars else None,
            )
        counts = counter.get_flop_counts()
        found[name] = Shares(
            system.n_parameters,
            joint.n_shared,
            counter.get_total_flops(),
            _shared_flops(system, common, counts),
        )
    return found


def _shared_flops(
    system: torch.nn.Module, common: set[int], counts: Mapping[str, Mapping[Any, int]]
) -> int:
    """FLOPs of the outermost modules all of whose matrices are in `common`; of those whose stencils
    are not, without their convolutions. Gains and biases multiply no tokens by a matrix.
    """
    total, paths = 0, list[str]()
    for path, module in system.named_modules():
        stencils = {id(m.weight) for m in module.modules() if isinstance(m, DepthwiseConv)}
        matrices = {
            id(parameter)
            for name, parameter in module.named_parameters()
            if is_weight(name, parameter)
        } - stencils
        inside = any(path.startswith(f"{outer}.") for outer in paths)
        if not path or inside or not common.issuperset(matrices or stencils or {0}):
            continue
        paths.append(path)
        total += sum(
            count
            for operation, count in counts.get(f"{type(system).__name__}.{path}", {}).items()
            if operation != torch.ops.aten.convolution or common.issuperset(stencils)
        )
    return total


def describe_shares(joint: JointWaveLiT, resolution: Sequence[int]) -> str:
    """Lines that say what each system of a joint model has, and what all share."""
    lines = [joint.describe(), f"a prediction of {' x '.join(map(str, resolution))} points:"]
    for name, shares in shares_of(joint, resolution).items():
        lines.append(
            f"  {printable(name, 40):32s} {shares.parameters / 1e6:6.2f}M parameters, "
            f"{shares.shared / shares.parameters:4.0%} shared; {shares.flops / 1e9:6.2f} GFLOP, "
            f"{shares.shared_flops / shares.flops:4.0%} shared"
        )
    return "\n".join(lines)
