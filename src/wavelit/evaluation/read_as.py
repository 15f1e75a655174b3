"""Data as a trained model reads them: its fields, forcings, logarithms and mask, by name."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from wavelit.checks.arguments import listed
from wavelit.data.datamodule import WellDataModule
from wavelit.errors import WavelitError, printable
from wavelit.model.signature import Signature
from wavelit.training.transfer import names_of

__all__ = ["read_as", "require_names"]

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
