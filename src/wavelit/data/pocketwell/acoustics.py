"""Linear acoustics in a heterogeneous medium, by wave propagation with limited second-order
corrections.

    p_t + K (u_x + v_y) = 0,  u_t + p_x / rho = 0,  v_t + p_y / rho = 0,  c = sqrt(K / rho),  Z =
    sqrt(K rho)

At each face the jump of (p, u) is split into a wave (-Z_l, 1) that runs left at c_l and a wave
(Z_r, 1) that runs right at c_r: the exact solution of the Riemann problem, so impedance jumps
reflect and transmit as they must. Each wave also gives a Lax-Wendroff flux, limited by the
monotonised central (MC) limiter: second order where the solution is smooth. The sweeps along x and
y alternate in Strang's order; half sweeps that meet between two steps are merged.

Departure from Clawpack: waves of neighbouring faces are compared in the energy product p p' / Z^2 +
u u', which does not depend on units, where Clawpack uses the plain product; there is no transverse
solver, as the splitting needs none.

References: LeVeque, Finite Volume Methods for Hyperbolic Problems, 2002, chapters 6 and 9; LeVeque,
Wave propagation algorithms for multidimensional hyperbolic systems, J. Comput. Phys. 131, 1997.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from wavelit.data.pocketwell.system import SolverDivergedError

__all__ = ["Acoustics"]

# Ghost cells a side: a face's limiter looks one face upwind.
GHOSTS = 2


class Acoustics:
    """Second-order solver of a batch of media on one uniform grid.

    Args:
        density: rho, (B, H, W) float64.
        bulk_modulus: K.
        spacing: cell widths along both axes.
        boundary_conditions: per axis (low, high), periodic, wall (reflects) or open (lets waves
            out).
        courant: largest c dt / dx of a sweep, at most 1.
    """

    def __init__(
        self,
        density: Tensor,
        bulk_modulus: float,
        spacing: Sequence[float],
        boundary_conditions: Sequence[tuple[str, str]],
        courant: float = 0.5,
    ) -> None:
        self.boundary_conditions = tuple(boundary_conditions)
        self.spacing = tuple(spacing)
        impedance = (bulk_modulus * density).sqrt()
        speed = (bulk_modulus / density).sqrt()
        self.max_step = courant * min(self.spacing) / float(speed.max())
        # Per axis, the impedance and speed of the cells with ghosts, the swept axis last.
        self.media = []
        for axis in (0, 1):
            sides = self.boundary_conditions[axis]
            self.media.append(tuple(extend(_last(a, axis), sides, 1.0) for a in (impedance, speed)))

    def solve(self, state: Tensor, times: Sequence[float]) -> Tensor:
        """Carry (p, u, v) through the given times.

        Args:
            state: (B, 3, H, W) float64 at time 0.
            times: increasing times of the snapshots.

        Returns:
            (B, T, 3, H, W).

        Raises:
            SolverDivergedError: the state is no longer finite.
        """
        now, steps, snapshots = 0.0, 0, []
        for time in times:
            if time > now:
                count = math.ceil((time - now) / self.max_step - 1e-9)
                state = self._advance(state, (time - now) / count, count)
                now, steps = time, steps + count
            if not bool(state.isfinite().all()):
                raise SolverDivergedError(steps)
            snapshots.append(state)
        return torch.stack(snapshots, 1)

    def _advance(self, state: Tensor, dt: float, count: int) -> Tensor:
        state = self._sweep(state, 0, dt / 2)
        for step in range(count):
            state = self._sweep(state, 1, dt)
            state = self._sweep(state, 0, dt if step < count - 1 else dt / 2)
        return state

    def _sweep(self, state: Tensor, axis: int, dt: float) -> Tensor:
        """One step of p_t + K u_x = 0, u_t + p_x / rho = 0 along an axis."""
        z, c = self.media[axis]
        sides = self.boundary_conditions[axis]
        ratio = dt / self.spacing[axis]
        p = _last(state[:, 0], axis)
        u = _last(state[:, 1 + axis], axis)
        pressure, velocity = extend(p, sides, 1.0), extend(u, sides, -1.0)
        dp, du = pressure.diff(dim=-1), velocity.diff(dim=-1)
        zl, zr, cl, cr = z[..., :-1], z[..., 1:], c[..., :-1], c[..., 1:]
        left = (zr * du - dp) / (zl + zr)
        right = (zl * du + dp) / (zl + zr)

        # Faces 1 .. -1 have an upwind neighbour on both sides; they are the n + 1 faces of the n
        # cells.
        inner = slice(1, -1)
        upwind_left = left[..., 2:] * 0.5 * (1 + zl[..., 2:] / zl[..., inner])
        upwind_right = right[..., :-2] * 0.5 * (1 + zr[..., :-2] / zr[..., inner])
        left, right = left[..., inner], right[..., inner]
        zl, zr, cl, cr = zl[..., inner], zr[..., inner], cl[..., inner], cr[..., inner]
        correct_left = 0.5 * cl * (1 - ratio * cl) * monotonised_central(left, upwind_left)
        correct_right = 0.5 * cr * (1 - ratio * cr) * monotonised_central(right, upwind_right)
        flux_p = zr * correct_right - zl * correct_left
        flux_u = correct_right + correct_left

        # A cell takes the right-going wave of its left face and the left-going wave of its right
        # face.
        into_p = (zr * cr * right)[..., :-1] + (zl * cl * left)[..., 1:] + flux_p.diff(dim=-1)
        into_u = (cr * right)[..., :-1] - (cl * left)[..., 1:] + flux_u.diff(dim=-1)
        parts = list(state.unbind(1))
        parts[0] = _last(p - ratio * into_p, axis)
        parts[1 + axis] = _last(u - ratio * into_u, axis)
        return torch.stack(parts, 1)


def monotonised_central(wave: Tensor, upwind: Tensor) -> Tensor:
    """The MC-limited wave: min(mean of both, twice the smaller) where they agree in sign, else
    0.
    """
    bound = 2 * torch.minimum(wave.abs(), upwind.abs())
    limited = torch.minimum(0.5 * (wave + upwind).abs(), bound) * wave.sign()
    return torch.where(wave * upwind > 0, limited, torch.zeros_like(wave))


def extend(values: Tensor, sides: tuple[str, str], sign: float) -> Tensor:
    """Two ghost cells on each side of the last axis.

    Periodic wraps; a wall mirrors the cells times `sign` (-1 for the normal velocity, which
    vanishes on the wall); an open side repeats the last cell, so that no wave enters.
    """
    low, high = sides
    if low == "periodic":
        return torch.cat([values[..., -GHOSTS:], values, values[..., :GHOSTS]], -1)
    ends = []
    for side, kind in ((values[..., :GHOSTS], low), (values[..., -GHOSTS:].flip(-1), high)):
        ends.append(sign * side.flip(-1) if kind == "wall" else side[..., :1].expand_as(side))
    return torch.cat([ends[0], values, ends[1].flip(-1)], -1)


def _last(values: Tensor, axis: int) -> Tensor:
    """Swap the swept axis of (B, H, W) with the last; its own inverse."""
    return values.transpose(-1, -2) if axis == 0 else values
