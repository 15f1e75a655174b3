"""Point sources above a periodic sound-hard surface, to 3e-6 or better: array scanning, boundary
integrals.

    -(lap + omega^2) u = delta(x - x0) above the surface,   du/dn = 0 on it,   u radiates upwards

The surface has period 1 along x, the source does not. As delta(x - x0) is the mean over Bloch wave
numbers kappa of a row of sources with phases exp(i kappa j), u is the mean of quasi-periodic
solutions, each solved in one cell: a single layer on the surface and its two neighbours, a Bessel
expansion for all further copies, and plane waves above the cell, joined at the cell's sides and top
by least squares. On a straight segment the layer's normal derivative vanishes, so that plain Gauss
quadrature, graded to the corners, converges fast. Kappa runs below the poles (trapped waves) and
branch points (grazing plane waves) at positive kappa and above those at negative kappa, where the
trapezoidal rule converges exponentially.

References: Agocs, Barnett, Trapped acoustic waves and raindrops, 2023, arXiv:2310.12486 (array
scanning); Barnett, Greengard, BIT 51, 2011 (periodization by neighbours); Kress, Numer. Math. 58,
1990 (grading).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.linalg
import scipy.special

__all__ = ["Boundary", "PeriodicSurface", "contour", "green"]

Array = npt.NDArray[Any]

PERIOD = np.array([1.0, 0.0])
NEIGHBOURS = (-1, 0, 1)
# The Bessel expansion stands for sources at least 1.5 from the cell's centre.
FAR = 1.5
BESSEL_ORDER = 40
# Orders of plane waves above the cell; the last has decayed by exp(-2 pi 12 / 4) from a source 1/4
# below.
PLANE_WAVES = 12
SIDE_NODES = 32
TOP_NODES = 40
# Panels that replace one where the field close to the surface is evaluated.
REFINEMENT = 16


def green(omega: float, displacement: Array) -> Array:
    """The free-space solution i/4 H0(omega r) at displacements (..., 2) from its source."""
    z = omega * np.hypot(displacement[..., 0], displacement[..., 1])
    field: Array = 0.25 * (1j * scipy.special.j0(z) - scipy.special.y0(z))
    return field


def green_gradient(omega: float, displacement: Array) -> Array:
    """The gradient (..., 2) of `green`; zero at the source itself."""
    r = np.hypot(displacement[..., 0], displacement[..., 1])
    z = omega * np.where(r > 0, r, 1.0)
    radial = -0.25 * omega * (1j * scipy.special.j1(z) - scipy.special.y1(z)) * omega / z
    gradient: Array = np.where(r > 0, radial, 0.0)[..., None] * displacement
    return gradient


def contour(n: int, amplitude: float = 0.5, clustering: float = 0.8) -> tuple[Array, Array]:
    """Bloch wave numbers (n,) and weights (n,) of the mean over one period of kappa.

    kappa = s - i amplitude sin(s) with s = t - clustering sin(2 t) / 2, which crowds the nodes
    where the path crosses the real axis, at 0 and pi: the singularities of low and of high omega
    are close to these.
    """
    t = -np.pi + 2 * np.pi * (np.arange(n) + 0.5) / n
    s = t - clustering / 2 * np.sin(2 * t)
    slope = (1 - clustering * np.cos(2 * t)) * (1 - 1j * amplitude * np.cos(s))
    return s - 1j * amplitude * np.sin(s), slope / n


@dataclass(frozen=True)
class Boundary:
    """One period of a surface of straight segments, with a quadrature graded to their ends.

    A segment of length l is run through by s = l t^q / (t^q + (1 - t)^q), t in [0, 1], in equal
    panels of Gauss nodes in t. A density is kept times ds/dt, which vanishes at the corners where
    the density itself may be infinite.

    Args:
        vertices: (V, 2) from left to right; the last is the first plus (1, 0).
        panels: per segment.
        order: Gauss nodes per panel.
        grading: q.
    """

    vertices: Sequence[tuple[float, float]]
    panels: int = 8
    order: int = 16
    grading: int = 8

    def nodes(self, refinement: int = 1) -> tuple[Array, Array, Array, Array]:
        """Positions (N, 2), unit normals upwards (N, 2), ds/dt (N,) and weights in t (N,)."""
        x, w = np.polynomial.legendre.leggauss(self.order)
        n = self.panels * refinement
        t = ((np.arange(n)[:, None] + (x + 1) / 2) / n).ravel()
        q = self.grading
        total = t**q + (1 - t) ** q
        # Measured from the nearer end, and s itself never subtracted from 1: corners are where
        # digits count.
        from_start, from_end = t**q / total, (1 - t) ** q / total
        slope = q * (t * (1 - t)) ** (q - 1) / total**2
        parts = []
        corners = np.asarray(self.vertices, dtype=np.float64)
        for a, b in itertools.pairwise(corners):
            edge = b - a
            length = float(np.hypot(*edge))
            near = np.where(
                (t < 0.5)[:, None], a + from_start[:, None] * edge, b - from_end[:, None] * edge
            )
            normal = np.array([-edge[1], edge[0]]) / length
            parts.append(
                (near, np.tile(normal, (len(t), 1)), slope * length, np.tile(w / (2 * n), n))
            )
        positions, normals, slopes, weights = (np.concatenate(p) for p in zip(*parts, strict=True))
        return positions, normals, slopes, weights

    def interpolation(self, refinement: int) -> Array:
        """(order * refinement, order): a density's values on a panel's refined nodes from those
        on its nodes.
        """
        x = np.polynomial.legendre.leggauss(self.order)[0]
        fine = ((np.arange(refinement)[:, None] + (x + 1) / 2) * 2 / refinement - 1).ravel()
        vandermonde = np.polynomial.legendre.legvander
        matrix: Array = np.linalg.solve(
            vandermonde(x, self.order - 1).T, vandermonde(fine, self.order - 1).T
        ).T
        return matrix


class PeriodicSurface:
    """All that does not depend on kappa and on the sources.

    Args:
        omega: wave number, below pi.
        boundary: the surface; the cell is the region above it with |x| <= 1/2.
        top: height from which plane waves carry the field; at least 1/4 above all sources.
    """

    def __init__(self, omega: float, boundary: Boundary, top: float = 0.75) -> None:
        self.omega, self.boundary, self.top = omega, boundary, top
        self.positions, self.normals, self.slopes, self.weights = boundary.nodes()
        left = float(boundary.vertices[0][1])
        self.centre = np.array([0.0, (min(y for _, y in boundary.vertices) + top) / 2])
        y, _ = np.polynomial.legendre.leggauss(SIDE_NODES)
        self.side = np.stack([np.full(SIDE_NODES, -0.5), left + (y + 1) / 2 * (top - left)], -1)
        self.top_x = (np.arange(TOP_NODES) + 0.5) / TOP_NODES - 0.5
        self.ceiling = np.stack([self.top_x, np.full(TOP_NODES, top)], -1)

        on_surface = self._normal_slope(self._bessel_gradient(self.positions))
        right = self.side + PERIOD
        self.bessel = {
            "surface": on_surface,
            "left": self._rows(self._bessel(self.side), self._bessel_gradient(self.side)[..., 0]),
            "right": self._rows(self._bessel(right), self._bessel_gradient(right)[..., 0]),
            "top": self._rows(
                self._bessel(self.ceiling), self._bessel_gradient(self.ceiling)[..., 1]
            ),
        }
        self.layer = self._conditions(self.positions, self.weights)

    def solve(self, sources: Array, points: Array, n_kappa: int = 128) -> Array:
        """The field (S, P) of S sources at P points.

        A source's result does not depend on the others.

        Args:
            sources: (S, 2) above the surface, |x| <= 1/2, at least 1/4 below `top`.
            points: (P, 2) above the surface, in any cell.
            n_kappa: nodes of the array scanning.
        """
        cells = np.rint(points[:, 0]).astype(int)
        local, where = np.unique(points - cells[:, None] * PERIOD, axis=0, return_inverse=True)
        places, cell = np.unique(cells, return_inverse=True)
        evaluate = _Evaluation(self, local)
        incident = [self._conditions(source[None], np.ones(1)) for source in sources]
        sums = np.zeros((len(sources), len(places), len(local)), dtype=np.complex128)
        for kappa, weight in zip(*contour(n_kappa), strict=True):
            phases = weight * np.exp(1j * kappa * places)
            for sum_, (density, bessel, waves) in zip(
                sums, self.bloch(kappa, incident), strict=True
            ):
                sum_ += phases[:, None] * evaluate(kappa, density, bessel, waves)
        fields: Array = sums[:, cell, where.reshape(-1)]
        # Of the row of sources, the three next to the cell are in no expansion: their mean over
        # kappa is the source.
        low = (points[:, 1] < self.top) & (np.abs(cells) <= 1)
        for field, source in zip(fields, sources, strict=True):
            field[low] += green(self.omega, points[low] - source)
        return fields

    def bloch(
        self, kappa: complex, incident: Sequence[_Conditions]
    ) -> list[tuple[Array, Array, Array]]:
        """Layer density (N,), Bessel and plane-wave coefficients of the quasi-periodic solution
        of every source.
        """
        alpha = np.exp(1j * kappa)
        factors = scipy.linalg.lu_factor(
            self.layer.surface(alpha) - 0.5 * np.eye(len(self.weights))
        )
        below = np.concatenate([self.layer.side(alpha), self.layer.top(alpha)])
        n = np.arange(-PLANE_WAVES, PLANE_WAVES + 1)
        waves = np.exp(1j * np.outer(self.top_x, kappa + 2 * np.pi * n))
        joined = np.zeros((len(below), 2 * BESSEL_ORDER + 1 + len(n)), dtype=np.complex128)
        joined[:, : -len(n)] = np.concatenate(
            [self.bessel["right"] - alpha * self.bessel["left"], self.bessel["top"]]
        ) - below @ scipy.linalg.lu_solve(factors, self.bessel["surface"])
        joined[-2 * TOP_NODES :, -len(n) :] = -self._rows(waves, 1j * waves * self.vertical(kappa))
        q, r = scipy.linalg.qr(joined, mode="economic")
        solutions = []
        for source in incident:
            scattered = scipy.linalg.lu_solve(factors, source.surface(alpha)[:, 0])
            due = np.concatenate([source.side(alpha), source.top(alpha)])[:, 0] - below @ scattered
            found = scipy.linalg.solve_triangular(r, q.conj().T @ -due)
            bessel, rest = found[: -len(n)], found[-len(n) :]
            density = -scattered - scipy.linalg.lu_solve(factors, self.bessel["surface"] @ bessel)
            solutions.append((density, bessel, rest))
        return solutions

    def vertical(self, kappa: complex) -> Array:
        """Vertical wave numbers sqrt(omega^2 - kappa_n^2) of the plane waves, continued along
        the contour.
        """
        horizontal = kappa + 2 * np.pi * np.arange(-PLANE_WAVES, PLANE_WAVES + 1)

        def root(z: Array) -> Array:
            # Cut along the negative imaginary axis, to the side of +-omega on which the contour
            # does not pass.
            value: Array = np.exp(0.25j * np.pi) * np.sqrt(-1j * z)
            return value

        return root(self.omega - horizontal) * root(self.omega + horizontal)

    def _conditions(self, sources: Array, weights: Array) -> _Conditions:
        """What sources (N, 2) give in the equations on the surface, at the sides and at the top."""
        far = {}
        for shift in (2, -1):
            d = (self.side + shift * PERIOD)[:, None] - sources
            far[shift] = (
                self._rows(green(self.omega, d), green_gradient(self.omega, d)[..., 0]) * weights
            )
        surface, top = [], []
        for j in NEIGHBOURS:
            d = self.positions[:, None] - sources - j * PERIOD
            surface.append(self._normal_slope(green_gradient(self.omega, d)) * weights)
            d = self.ceiling[:, None] - sources - j * PERIOD
            top.append(
                self._rows(green(self.omega, d), green_gradient(self.omega, d)[..., 1]) * weights
            )
        return _Conditions(np.stack(surface), np.stack(top), far[2], far[-1])

    def _normal_slope(self, gradient: Array) -> Array:
        """du/dn ds/dt on the surface from the gradient (N, M, 2)."""
        slope: Array = np.einsum("nmd,nd,n->nm", gradient, self.normals, self.slopes)
        return slope

    def _bessel(self, points: Array, margin: int = 0) -> Array:
        """J_l(omega r) exp(i l phi) about the cell's centre, scaled to be of order 1 at r = FAR,
        (P, 2 L + 1).
        """
        z = points - self.centre
        r, angle = np.hypot(z[:, 0], z[:, 1]), np.arctan2(z[:, 1], z[:, 0])
        order = np.arange(-BESSEL_ORDER - margin, BESSEL_ORDER + margin + 1)
        size = np.abs(order)
        log_scale = scipy.special.gammaln(size + 1) - size * np.log(self.omega * FAR / 2)
        # J_-l = (-1)^l J_l
        sign = np.where(order < 0, (-1.0) ** size, 1.0)
        values: Array = sign * scipy.special.jv(size, self.omega * r[:, None]) * np.exp(log_scale)
        return values * np.exp(1j * np.outer(angle, order))

    def _bessel_gradient(self, points: Array) -> Array:
        """(P, 2 L + 1, 2)."""
        order = np.arange(-BESSEL_ORDER - 1, BESSEL_ORDER + 2)
        size = np.abs(order)
        log_scale = scipy.special.gammaln(size + 1) - size * np.log(self.omega * FAR / 2)
        scale = np.exp(log_scale[1:-1, None] - np.stack([log_scale[:-2], log_scale[2:]], -1))
        wider = self._bessel(points, margin=1)
        less, more = wider[:, :-2] * scale[:, 0], wider[:, 2:] * scale[:, 1]
        return self.omega / 2 * np.stack([less - more, 1j * (less + more)], -1)

    @staticmethod
    def _rows(values: Array, slopes: Array) -> Array:
        return np.concatenate([values, slopes])


@dataclass(frozen=True)
class _Conditions:
    """Contributions of sources with their neighbours: rows of equations, one column a source."""

    on_surface: Array  # (3, N, M)
    at_top: Array  # (3, 2 TOP_NODES, M)
    ahead: Array  # (2 SIDE_NODES, M), seen from the left side moved by 2
    behind: Array  # the same moved by -1

    def surface(self, alpha: complex) -> Array:
        return _row_of(self.on_surface, alpha)

    def top(self, alpha: complex) -> Array:
        return _row_of(self.at_top, alpha)

    def side(self, alpha: complex) -> Array:
        """u(x + 1) - alpha u(x) on the left side: the copies next to the sides cancel."""
        return self.ahead / alpha - alpha**2 * self.behind


class _Evaluation:
    """Values at points (P, 2) of the cell of a quasi-periodic solution, without its three
    nearest sources.
    """

    def __init__(self, surface: PeriodicSurface, points: Array) -> None:
        self.surface = surface
        self.low = points[:, 1] < surface.top
        near, self.high = points[self.low], points[~self.low]
        positions, _, _, weights = surface.boundary.nodes(REFINEMENT)
        interpolation = surface.boundary.interpolation(REFINEMENT)
        layers = []
        for j in NEIGHBOURS:
            fine = green(surface.omega, near[:, None] - positions - j * PERIOD) * weights
            layers.append(
                (fine.reshape(len(near), -1, len(interpolation)) @ interpolation).reshape(
                    len(near), -1
                )
            )
        self.layer = np.stack(layers)
        self.bessel = surface._bessel(near)

    def __call__(self, kappa: complex, density: Array, bessel: Array, waves: Array) -> Array:
        values = np.empty(len(self.low), dtype=np.complex128)
        values[self.low] = _row_of(self.layer, np.exp(1j * kappa)) @ density + self.bessel @ bessel
        horizontal = kappa + 2 * np.pi * np.arange(-PLANE_WAVES, PLANE_WAVES + 1)
        rise = self.high[:, 1, None] - self.surface.top
        phases = horizontal * self.high[:, 0, None] + self.surface.vertical(kappa) * rise
        values[~self.low] = np.exp(1j * phases) @ waves
        return values


def _row_of(copies: Array, alpha: complex) -> Array:
    """Neighbours (3, ...) summed with their phases."""
    total: Array = copies[0] / alpha + copies[1] + alpha * copies[2]
    return total
