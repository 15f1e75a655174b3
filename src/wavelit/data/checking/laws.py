"""What physics forbids, by dataset and field."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from the_well.data.utils import WELL_DATASETS

from wavelit.data.format.layout import FieldLayout, FileLayout

__all__ = ["BOUNDS", "Bound", "laws_of"]


@dataclass(frozen=True)
class Bound:
    """A quantity that physics keeps positive.

    Args:
        dataset: the dataset that it is for; None: all of The Well's that have the field, and maybe
            others.
        field: the field it is taken from.
        beside: scalar fields that it needs as well.
        margin: (cells, components) of the field and (cells,) of each one beside -> (cells,),
            positive where all is well.
        quantity: the name of the margin.
        law: why it is positive.
        n_components: of the field.
    """

    dataset: str | None
    field: str
    beside: tuple[str, ...]
    margin: Callable[..., NDArray[np.float64]]
    quantity: str
    law: str
    n_components: int = 1

    def severity(self, dataset: str) -> str:
        """What is not positive in a dataset: an error, or where only the name of a field
        suggests the law, a warning.
        """
        return "error" if dataset in (self.dataset, *WELL_DATASETS) else "warning"


def _smallest_eigenvalue(tensor: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of the symmetric part of 2 x 2 tensors (cells, 4)."""
    xx, xy, yx, yy = tensor.T
    smallest: NDArray[np.float64] = (xx + yy) / 2 - np.hypot((xx - yy) / 2, (xy + yx) / 2)
    return smallest


def _missing_order(
    second_moment: NDArray[np.float64], concentration: NDArray[np.float64]
) -> NDArray[np.float64]:
    """1.01 c - |Q| of D = (c I + Q) / 2, where |Q| is the difference of the eigenvalues of D."""
    xx, xy, yx, yy = second_moment.T
    margin: NDArray[np.float64] = 1.01 * concentration - np.hypot(xx - yy, xy + yx)
    return margin


BOUNDS = (
    Bound(None, "density", (), lambda x: x[:, 0], "field 'density'", "a density is positive"),
    Bound(
        "viscoelastic_instability",
        "C",
        (),
        _smallest_eigenvalue,
        "the smallest eigenvalue of field 'C'",
        "a conformation tensor is positive definite",
        n_components=4,
    ),
    Bound(
        "viscoelastic_instability",
        "c_zz",
        (),
        lambda x: x[:, 0],
        "field 'c_zz'",
        "a conformation tensor is positive definite",
    ),
    Bound(
        "active_matter",
        "D",
        ("concentration",),
        _missing_order,
        "1.01 c - |Q| of field 'D'",
        "rods are at most all parallel",
        n_components=4,
    ),
)


def laws_of(layout: FileLayout, field: FieldLayout) -> list[Bound]:
    """Those that can be told from this field of the file."""
    scalars = {other.name for other in layout.fields if other.order == 0}
    return [
        bound
        for bound in BOUNDS
        if bound.field == field.name
        and bound.n_components == field.n_components
        and bound.dataset in (None, layout.dataset_name)
        and scalars.issuperset(bound.beside)
    ]
