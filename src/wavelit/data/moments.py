"""Mean and spread of more values than memory holds, in one pass.

References: Chan, Golub, LeVeque, Updating Formulae and a Pairwise Algorithm for Computing Sample
Variances, 1979.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Moments"]


class Moments:
    """Running count, mean and sum of squared deviations per component, merged batch by batch
    (Chan et al., 1979).
    """

    def __init__(self, n_components: int) -> None:
        self.count = 0
        self.mean = np.zeros(n_components)
        self.squares = np.zeros(n_components)

    def add(self, x: NDArray[np.float64]) -> None:
        """Take in values (N, n_components)."""
        if len(x) == 0:
            return
        mean = x.mean(0)
        gap, total = mean - self.mean, self.count + len(x)
        # In place: fresh memory for the squares takes several times as long as they do.
        squares = x - mean
        np.multiply(squares, squares, out=squares)
        self.squares += squares.sum(0) + gap**2 * (self.count * len(x) / total)
        self.mean += gap * (len(x) / total)
        self.count = total

    @property
    def std(self) -> NDArray[np.float64]:
        return np.sqrt(self.squares / self.count)

    @property
    def rms(self) -> NDArray[np.float64]:
        return np.sqrt(self.squares / self.count + self.mean**2)
