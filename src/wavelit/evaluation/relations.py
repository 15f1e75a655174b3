"""What goes with transfer: rank correlation of descriptors with ratios, judged by permuting
systems.

    rho = Spearman's correlation of x(A, B) with log ratio(A, B) over pairs A, B

Two forms of x are looked at for every descriptor d, fixed before any ratio was known:

    difference    x = |d(A) - d(B)|: are systems that are alike better sources?
    target        x = d(B): do some targets gain whatever the source?

for d in `wavelit.evaluation.descriptors.DESCRIPTORS`: spectral_slope, haar_share, persistence,
predictability, advection, correlation_steps, growth. Pairs share sources and targets, so they are
no independent points. The null distribution therefore permutes the *systems*: their descriptors are
dealt out anew, rows and columns of x move together. p is the share of permutations, the identity
among them, with |rho| at least as large. The interval holds the central 95 % of permuted rho: a rho
inside it is no relation. Of 14 relations, about one is below p = 0.07 by chance.

References:
    The detection of disease clustering and a generalized regression approach, N. Mantel, 1967.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from wavelit.checks.arguments import require_name, require_whole
from wavelit.evaluation.descriptors import DESCRIPTORS, Descriptors
from wavelit.evaluation.transfer import TransferMap

__all__ = ["FORMS", "LEAST_SYSTEMS", "Relation", "relation", "relations"]

Array = NDArray[np.float64]

FORMS = ("difference", "target")
# With three systems, six permutations say nothing; all of up to seven are gone through, of more
# systems so many are drawn.
LEAST_SYSTEMS, MOST_EXACT, DRAWN = 4, 7, 9999
# Rounding of two sums of the same terms.
TIE = 1e-9


@dataclass(frozen=True)
class Relation:
    """A rank correlation and what permuted systems give.

    Args:
        rho: Spearman's correlation; NaN where too little is known.
        low: Where the central 95 % of permuted correlations begin.
        high: Where they end.
        p: Share of permutations with |rho| at least as large.
        n_systems: How many systems were permuted.
        n_pairs: Over how many pairs the correlation is.
    """

    rho: float
    low: float
    high: float
    p: float
    n_systems: int
    n_pairs: int


def relation(
    found: TransferMap, values: Mapping[str, float], form: str = "difference", seed: int = 0
) -> Relation:
    """The rank correlation of a descriptor with the ratios of a map.

    Pairs of one system with itself, pairs that were not measured, and systems without the
    descriptor are left out, whether they are sources or targets.

    Args:
        found: The map.
        values: The descriptor by system.
        form: "difference" or "target".
        seed: Of the permutations, where they are drawn.

    Returns:
        All numbers NaN with fewer than four systems, or where ratio or descriptor does not vary.

    Raises:
        WavelitError: No such form.
    """
    require_name("form", form, FORMS)
    require_whole("seed", seed, 0)
    ratios = found.elsewhere
    pairs = [
        (source, target, ratios[i, j])
        for i, source in enumerate(found.sources)
        for j, target in enumerate(found.targets)
        if not np.isnan(ratios[i, j]) and source in values and target in values
    ]
    systems = sorted({name for source, target, _ in pairs for name in (source, target)})
    nothing = Relation(*(math.nan,) * 4, len(systems), len(pairs))
    if len(systems) < LEAST_SYSTEMS:
        return nothing
    source, target = (np.array([systems.index(pair[side]) for pair in pairs]) for side in (0, 1))
    # The ranks of a ratio are those of its logarithm, an infinite one's too.
    outcome = _standard(rankdata([ratio for *_, ratio in pairs])[None])[0]
    d = np.array([values[name] for name in systems])
    rhos = np.concatenate([
        _standard(rankdata(_predictor(d[order], source, target, form), axis=1)) @ outcome
        for order in _permutations(len(systems), seed)
    ])  # fmt: skip
    rho = float(rhos[0])
    if not outcome.any() or math.isnan(rho):
        return nothing
    rhos = rhos[~np.isnan(rhos)]
    low, high = (float(edge) for edge in np.quantile(rhos, (0.025, 0.975)))
    p = float(np.mean(np.abs(rhos) >= abs(rho) - TIE))
    return Relation(rho, low, high, p, len(systems), len(pairs))


def relations(
    found: TransferMap, rows: Mapping[str, Descriptors], seed: int = 0
) -> dict[tuple[str, str], Relation]:
    """All relations that are looked at, by (descriptor, form).

    Args:
        found: The map.
        rows: The descriptors of systems.
        seed: Of the permutations, where they are drawn.
    """
    return {
        (name, form): relation(
            found,
            {system: row.values[name] for system, row in rows.items() if name in row.values},
            form,
            seed,
        )
        for name in DESCRIPTORS
        for form in FORMS
    }


def _predictor(d: Array, source: NDArray[np.int64], target: NDArray[np.int64], form: str) -> Array:
    """x of every pair, (permutations, pairs), of descriptors (permutations, systems)."""
    of_target: Array = d[:, target]
    return of_target if form == "target" else np.abs(d[:, source] - of_target)


def _standard(ranks: Array) -> Array:
    """Ranks (n, pairs) about their mean, of length 1; NaN where all are the same."""
    about = ranks - ranks.mean(1, keepdims=True)
    length = np.sqrt((about**2).sum(1, keepdims=True))
    with np.errstate(invalid="ignore"):
        return np.asarray(about / np.where(length > 0, length, np.nan), np.float64)


def _permutations(n: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Permutations of n systems in pieces (k, n), the identity first of all."""
    if n <= MOST_EXACT:
        yield np.array(list(itertools.permutations(range(n))))
        return
    rng = np.random.default_rng(seed)
    yield np.arange(n)[None]
    yield rng.permuted(np.tile(np.arange(n), (DRAWN, 1)), axis=1)
