"""Errors between a predicted and a true field: functions, and means of them over many batches.

The means are torchmetrics', imported on first use: that takes as long as torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from wavelit.metrics.functional import (
    EPS,
    binned_spectral_mse,
    isotropic_spectrum,
    linf,
    nrmse,
    pearson,
    require_names_apart,
    vrmse,
)

if TYPE_CHECKING:
    from wavelit.metrics.modular import NRMSE, VRMSE, FieldMetric, LInfinity, Pearson

__all__ = [
    "EPS",
    "NRMSE",
    "VRMSE",
    "FieldMetric",
    "LInfinity",
    "Pearson",
    "binned_spectral_mse",
    "isotropic_spectrum",
    "linf",
    "nrmse",
    "pearson",
    "require_names_apart",
    "vrmse",
]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'wavelit.metrics' has no attribute '{name}'")
    return getattr(import_module("wavelit.metrics.modular"), name)
