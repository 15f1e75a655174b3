"""A trained model as a file that needs neither its code nor, as ONNX, PyTorch.

    .pt2    a program of PyTorch, `torch.export.load(path).module()`
    .onnx   of ONNX, for onnxruntime and others

Both take fields (B, T, C, *S) and, where the model has them, constants (B, K, *S) and scalars
(B, P), in physical units and float32, and give the next state (B, C, *S): one call of the model. B
is any; the grid is the one that was asked for. What the channels are stands in the file as JSON,
`wavelit.json` of a .pt2 and the metadata `wavelit` of an .onnx.

Before a file is kept its program is run on random inputs beside the model.

References: ONNX, Open Neural Network Exchange, https://onnx.ai.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from wavelit.checks.arguments import require_whole, shown
from wavelit.errors import WavelitError, one_line
from wavelit.files.atomic import atomic_path
from wavelit.model.emulator import IncrementEmulator
from wavelit.model.rollout import evaluation_mode

__all__ = ["FORMATS", "Exported", "export_model"]

FORMATS = (".pt2", ".onnx")
# Largest difference from the model, in standard deviations of a field: a thousand times what sums
# in another order make.
TOLERANCE = 1e-3
# Of a grid: at some kilobytes a point, tens of gigabytes.
MOST_POINTS = 2**24
NEEDED = "onnx, onnxscript and onnxruntime: pip install 'wavelit[export]'"

Program = Callable[[dict[str, Tensor]], Tensor]


class Exported(NamedTuple):
    """What was written.

    Attributes:
        path: The file.
        difference: Largest difference from the model on random inputs, in standard deviations of a
            field.
    """

    path: Path
    difference: float


def export_model(
    model: IncrementEmulator, path: str | os.PathLike[str], resolution: Sequence[int]
) -> Exported:
    """Write one step of a model as a file for other programs; the model is left as it is.

    Args:
        model: A trained model; a network of one's own must be within what PyTorch can export.
        path: The file, whose suffix is the format, .pt2 or .onnx.
        resolution: Points along each axis.

    Raises:
        WavelitError: Another suffix or number of axes, a grid that the model cannot take, a network
            that cannot be exported, packages that are not installed, or a program that differs from
            the model.
    """
    path = Path(os.path.expanduser(path))
    if path.suffix not in FORMATS:
        raise WavelitError(
            f"{path}: the suffix says the format, {' or '.join(FORMATS)}, not {shown(path.suffix)}"
        )
    if not isinstance(resolution, list | tuple) or len(resolution) != model.spatial:
        raise WavelitError(
            f"resolution must be the points along {model.spatial} axes, not {shown(resolution)}"
        )
    grid = [require_whole("resolution", n) for n in resolution]
    if (n := math.prod(grid)) > MOST_POINTS:
        raise WavelitError(
            f"resolution comes to {shown(n)} points, more than the {MOST_POINTS} on which programs "
            "are compared here: ask for a smaller grid"
        )
    with _evaluated(model), _quiet():
        # Of two samples: a program of one would take no others.
        program = _program(model, _inputs(model, grid, 2, seed=0))
        with atomic_path(path) as temporary:
            write = _write_pt2 if path.suffix == ".pt2" else _write_onnx
            run = write(program, temporary, _description(model, grid))
            difference = _difference(model, run, _inputs(model, grid, 3, seed=1))
            if not difference <= TOLERANCE:
                raise WavelitError(
                    f"{path}: the exported program differs from {model.title} by {difference:.2g} "
                    f"standard deviations, more than {TOLERANCE:g}: nothing is written"
                )
    return Exported(path, difference)


def _inputs(
    model: IncrementEmulator, grid: Sequence[int], batch: int, seed: int
) -> dict[str, Tensor]:
    """Random ones of the model's statistics, those that it takes."""
    random, known = torch.Generator().manual_seed(seed), model.normalizer
    history = model.n_steps_input
    if history is None:
        raise WavelitError(f"{model.title} does not say its history: set n_steps_input")

    def draw(mean: Tensor, std: Tensor, *shape: int) -> Tensor:
        lines = (-1, *(1,) * (len(shape) - 2))
        noise = torch.randn(batch, *shape[1:], generator=random)
        return noise * std.cpu().view(lines) + mean.cpu().view(lines)

    n, k, p = len(known.mean), len(known.constant_mean), len(known.scalar_mean)
    frames = [draw(known.mean, known.std, batch, n, *grid) for _ in range(history)]
    inputs = {"fields": torch.stack(frames, 1)}
    if k:
        inputs["constants"] = draw(known.constant_mean, known.constant_std, batch, k, *grid)
    if p:
        scalars = draw(known.scalar_mean, known.scalar_std, batch, p)
        inputs["scalars"] = torch.where(known.scalar_log.cpu(), scalars.exp(), scalars)
    return inputs


def _program(model: IncrementEmulator, inputs: dict[str, Tensor]) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch", min=1, max=2**20)
    try:
        return torch.export.export(
            model, (), inputs, dynamic_shapes={name: {0: batch} for name in inputs}
        )
    except WavelitError:
        raise
    except Exception as error:
        # Any kind comes from a network that PyTorch cannot follow.
        raise WavelitError(f"{model.title} cannot be exported: {one_line(error)}") from error


def _write_pt2(program: torch.export.ExportedProgram, path: Path, description: str) -> Program:
    # Its writer looks at the suffix, of a name; a file is taken as it is.
    with path.open("wb") as file:
        torch.export.save(program, file, extra_files={"wavelit.json": description})
    with path.open("rb") as file:
        module = torch.export.load(file).module()
    return lambda inputs: module(**inputs)


def _write_onnx(program: torch.export.ExportedProgram, path: Path, description: str) -> Program:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise WavelitError(f"an .onnx file needs {NEEDED}") from error
    try:
        translated = torch.onnx.export(
            program, dynamo=True, output_names=["next_state"], verbose=False
        )
    except torch.onnx.errors.OnnxExporterError as error:
        # It says so among advice to its own developers.
        named = re.search(r"op='([^']+)'", str(error))
        what = named.group(1) if named else one_line(error)
        raise WavelitError(f"ONNX cannot express {what}; write a .pt2 file instead") from error
    assert translated is not None
    translated.model.metadata_props["wavelit"] = description
    path.write_bytes(translated.model_proto.SerializeToString())
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda inputs: torch.from_numpy(
        session.run(None, {name: value.numpy() for name, value in inputs.items()})[0]
    )


def _difference(model: IncrementEmulator, run: Program, inputs: dict[str, Tensor]) -> float:
    with torch.no_grad():
        error = run(inputs) - model(**inputs)
    std = model.normalizer.std.view(-1, *(1,) * model.spatial)
    return float((error / std).abs().max())


def _description(model: IncrementEmulator, grid: Sequence[int]) -> str:
    known = None if model.signature is None else model.signature.to_dict()
    return json.dumps({"model": model.title, "resolution": list(grid), "signature": known})


@contextlib.contextmanager
def _evaluated(model: IncrementEmulator) -> Iterator[None]:
    """On the CPU and in evaluation mode: nothing that only training does is exported."""
    if (device := next(model.parameters()).device).type != "cpu":
        raise WavelitError(f"the model is on {device}: export it from the CPU, model.cpu()")
    with evaluation_mode(model):
        yield


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' advice to their own developers."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    before = [logger.level for logger in loggers]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
