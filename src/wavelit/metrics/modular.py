"""Means of the errors over many batches and processes, as torchmetrics keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from wavelit.checks.arguments import listed, require_whole
from wavelit.errors import WavelitError
from wavelit.metrics.functional import (
    linf,
    nrmse,
    pearson,
    require_field,
    require_names_apart,
    vrmse,
)

__all__ = ["NRMSE", "VRMSE", "FieldMetric", "LInfinity", "Pearson"]


class FieldMetric(Metric):
    """Mean of a per-field error over samples, times and fields, each weighing the same.

    Sums and counts are kept per field in float64 and added over processes, so that a distributed
    run prints what one process would. `compute()` is the mean over the fields, `per_field()` the
    values behind it. A NaN stays a NaN.

    Args:
        field_names: the C fields, in channel order.
        spatial: number of grid axes, 1 to 3.
        kwargs: torchmetrics' own options.

    Raises:
        WavelitError: two fields of one name, or one that is called "all", as the mean over fields
            is in tables.
    """

    higher_is_better: bool | None = False
    is_differentiable: bool | None = False
    full_state_update: bool | None = False
    total: Tensor
    count: Tensor

    def __init__(self, field_names: Sequence[str], spatial: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_names_apart(field_names)
        self.field_names = tuple(field_names)
        self.spatial = require_whole("spatial", spatial, 1, 3)
        zeros = torch.zeros(len(self.field_names), dtype=torch.float64)
        self.add_state("total", default=zeros.clone(), dist_reduce_fx="sum")
        self.add_state("count", default=zeros.clone(), dist_reduce_fx="sum")

    def error(self, prediction: Tensor, target: Tensor, valid: Tensor | None) -> Tensor:
        """The error of each sample, time and field, (..., C, *S) -> (..., C)."""
        raise NotImplementedError

    def update(self, prediction: Tensor, target: Tensor, valid: Tensor | None = None) -> None:
        """Add predictions (..., C, *S) beside their targets; `valid` as in the functions.

        Raises:
            WavelitError: the number of channels is not that of the field names.
        """
        for name, value in (("prediction", prediction), ("target", target)):
            require_field(name, value, self.spatial)
        channels = target.shape[-self.spatial - 1]
        if channels != len(self.field_names):
            raise WavelitError(
                f"expected {len(self.field_names)} fields ({listed(self.field_names)}), got "
                f"{channels} channels"
            )
        values = self.error(prediction.detach(), target.detach(), valid).reshape(-1, channels)
        self.total += values.sum(0)
        self.count += len(values)

    def compute(self) -> Tensor:
        """Mean over samples, times and fields."""
        return (self.total / self.count).mean()

    def per_field(self) -> dict[str, Tensor]:
        """Mean over samples and times of each field; every process of a distributed run has to
        call it.
        """
        with self.sync_context(dist_sync_fn=self.dist_sync_fn):
            means = self.total / self.count
        return dict(zip(self.field_names, means, strict=True))


class VRMSE(FieldMetric):
    """Mean of `vrmse` with eps 1e-7 over samples, times and fields."""

    def error(self, prediction: Tensor, target: Tensor, valid: Tensor | None) -> Tensor:
        return vrmse(prediction, target, self.spatial, valid=valid)


class NRMSE(FieldMetric):
    """Mean of `nrmse` with eps 1e-7 over samples, times and fields."""

    def error(self, prediction: Tensor, target: Tensor, valid: Tensor | None) -> Tensor:
        return nrmse(prediction, target, self.spatial, valid=valid)


class Pearson(FieldMetric):
    """Mean of `pearson` with eps 1e-7 over samples, times and fields."""

    higher_is_better = True

    def error(self, prediction: Tensor, target: Tensor, valid: Tensor | None) -> Tensor:
        return pearson(prediction, target, self.spatial, valid=valid)


class LInfinity(FieldMetric):
    """Mean of `linf` over samples, times and fields: in mixed units where the fields have
    different ones.
    """

    def error(self, prediction: Tensor, target: Tensor, valid: Tensor | None) -> Tensor:
        return linf(prediction, target, self.spatial, valid=valid)
