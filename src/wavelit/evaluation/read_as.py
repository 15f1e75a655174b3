"""Data as a trained model reads them: its fields, forcings, logarithms and mask, by name."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from wavelit.checks.arguments import listed
from wavelit.data.datamodule import WellDataModule
from wavelit.data.signature import cell_spacing
from wavelit.data.well import WellDataset
from wavelit.errors import WavelitError, printable
from wavelit.model.emulator import IncrementEmulator
from wavelit.model.signature import KINDS, Signature
from wavelit.model.units import same_time_unit, seconds_in, units_differ
from wavelit.model.wavelit import WaveLiT
from wavelit.training.transfer import names_of

__all__ = ["read_as", "require_names", "require_seen", "warn_of_spacing", "warn_of_time_step"]

LOG = "log "


def read_as(signature: Signature, path: str) -> WellDataModule:
    """A dataset as the model of a signature reads it.

    Args:
        signature: What the model takes.
        path: The dataset.

    Raises:
        WavelitError: It lacks a field that the model takes.
    """
    plain = WellDataModule(path, n_steps_input=signature.n_steps_input)
    layout = plain.train_dataset.layouts[0]
    constants = [field.name for field in layout.fields if not field.time_varying]
    given = [*signature.forcing_fields, *signature.forcing_scalars]
    options: dict[str, Any] = {
        "fields": [each.name for each in signature.fields],
        "forcings": [each.name for each in given],
        "log_constants": [
            name.removeprefix(LOG)
            for name in signature.constant_names
            if name.startswith(LOG) and name not in constants
        ],
    }
    if layout.mask is None and signature.mask in constants:
        options |= {"mask_field": signature.mask, "mask_excludes": signature.mask_excludes}
    return plain.replaced(**options)


def require_names(signature: Signature, data: WellDataModule) -> None:
    """Refuse data whose channels have other names than those of a model, or another order, or that
    count the cells that the model's mask leaves out.

    Raises:
        WavelitError: Names both.
    """
    due = asdict(names_of(signature))
    found = {
        "fields": data.field_names,
        "constants": data.constant_field_names,
        "scalars": data.scalar_names,
    }
    for kind, names in found.items():
        if list(names) != list(due[kind]):
            raise WavelitError(
                f"{printable(data.path)} has the {kind} {listed(names, 60) or 'none'}; the model "
                f"takes {listed(due[kind], 60) or 'none'}: give data with the same, in the same "
                "order"
            )
    if signature.mask and data.train_dataset.mask is None:
        raise WavelitError(
            f"{printable(data.path)} has no mask; the model leaves out cells where "
            f"'{printable(signature.mask, 60)}' is {signature.mask_excludes:g}: give mask_field "
            "and mask_excludes"
        )


def require_seen(model: IncrementEmulator, data: WellDataModule, judged: WellDataset) -> None:
    """Refuse data whose scalars or boundaries a model cannot see.

    Args:
        model: The model, which takes as many scalars as the data have.
        data: What it is judged on.
        judged: Its split.

    Raises:
        WavelitError: A scalar has no logarithm, which the model sees, boundaries are others, or
            units are.
    """
    path, layouts = printable(data.path), judged.layouts
    for name, log in zip(data.scalar_names, model.normalizer.scalar_log.tolist(), strict=True):
        if not log or name not in layouts[0].scalars:
            continue
        if (lowest := min(float(layout.scalars[name].min()) for layout in layouts)) <= 0:
            raise WavelitError(
                f"{path} has scalar '{printable(name, 60)}' {lowest:g}, of which the model sees "
                "the logarithm: leave that file out"
            )
    if model.signature is not None:
        _require_units(model.signature, judged)
    known = model.config if isinstance(model, WaveLiT) else model.signature
    if known is not None and data.boundary_conditions != known.boundary_conditions:
        raise WavelitError(
            f"{path} has the boundaries {data.boundary_conditions}; the model was trained with "
            f"{known.boundary_conditions}: name a dataset with the same"
        )


def warn_of_spacing(signature: Signature, judged: WellDataset, stacklevel: int = 3) -> None:
    """Warn of other distances between points or states than those that a model assumes.

    Args:
        signature: What the model takes.
        judged: The split that is judged.
        stacklevel: Whose line the warning names.
    """
    found, known = cell_spacing(judged), signature.spacing
    if found and known and not all(_is_close(a, b) for a, b in zip(found, known, strict=True)):
        has, had = (" x ".join(f"{step:.4g}" for step in each) for each in (found, known))
        warnings.warn(
            f"{printable(judged.data_path)} has cells of {has}; the model was trained on {had}, "
            "which it assumes",
            stacklevel=stacklevel,
        )
    if signature.time_step is not None:
        warn_of_time_step(signature.time_step, judged, stacklevel + 1, signature.time_unit)


def warn_of_time_step(
    known: Sequence[float], judged: WellDataset, stacklevel: int = 3, unit: str = ""
) -> None:
    """Warn of a time step outside a model's, smallest and largest, which are in that unit."""
    low, high = known
    own = judged.layouts[0].units.get("time", "")
    scale = 1.0
    if unit and own and not same_time_unit(unit, own):
        scale = (seconds_in(own) or math.nan) / (seconds_in(unit) or math.nan)
    steps = [scale * layout.dt for layout in judged.layouts]
    if odd := [step for step in steps if not 0.99 * low <= step <= 1.01 * high]:
        step = odd[0] if math.isfinite(odd[0]) else judged.layouts[0].dt
        has = f"{step:.4g} {unit if math.isfinite(odd[0]) else own}".rstrip()
        warnings.warn(
            f"{printable(judged.data_path)} has the time step {has}; the model was trained "
            f"with {low:.4g} to {high:.4g} {unit}".rstrip()
            + ", which it assumes",
            stacklevel=stacklevel,
        )


def _require_units(signature: Signature, judged: WellDataset) -> None:
    """Refuse data in other units than those that a model was trained on, where both are told."""
    units = judged.layouts[0].units
    due = {each.name: each.unit for kind in KINDS for each in getattr(signature, kind)}
    due |= dict(zip(signature.axes, signature.axis_units, strict=True))
    for name, unit in due.items():
        own = units.get(name, "")
        if units_differ(own, unit):
            raise WavelitError(
                f"{printable(judged.data_path)} has '{printable(name, 60)}' in "
                f"{printable(own, 40)}; the model was trained on {printable(unit, 40)}: convert "
                "it, or mend the units of the files if both are one"
            )


def _is_close(found: float, known: float) -> bool:
    return 0.99 * known <= found <= 1.01 * known
