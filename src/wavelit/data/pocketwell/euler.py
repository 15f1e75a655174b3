"""Compressible Euler equations on a uniform grid, by split MUSCL-Hancock sweeps with HLLC fluxes.

    q_t + F(q)_x + G(q)_y = S(q),  q = (rho, rho u, rho v, E),  E = p / (gamma - 1) + rho (u^2 +
    v^2) / 2

A sweep reconstructs (rho, u, v, p) linearly in each cell with the monotonised central (MC) limiter,
carries the two face values of a cell over half a step, and solves the Riemann problem of each face
by HLLC, which keeps a resting contact exactly. One step is X(h) Y(h) S(2h) Y(h) X(h): symmetric, so
second order, and four sweeps of Courant number below 1 for a time of 2 h. Every trajectory of a
batch has its own h, from its own wave speeds, so that it does not depend on its companions.

References: van Leer, SIAM J. Sci. Stat. Comput. 5, 1984 (MUSCL-Hancock); Toro, Spruce, Speares,
Shock Waves 4, 1994 (HLLC); Strang, SIAM J. Numer. Anal. 5, 1968; Toro, Riemann Solvers and
Numerical Methods for Fluid Dynamics, 2009, chapters 10 and 14.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from wavelit.data.pocketwell.acoustics import GHOSTS, extend
from wavelit.data.pocketwell.system import SolverDivergedError

__all__ = ["Euler", "conserved", "primitive"]

# Mass, normal and tangential momentum, energy when the second axis is swept; its own inverse.
TURNED = (0, 2, 1, 3)
# Largest number of steps between two snapshots; beyond it, a vanishing step has made the solver
# useless.
MAX_STEPS = 100_000


class Euler:
    """Second-order solver of a batch of gases of one gamma on one uniform grid.

    Args:
        gamma: ratio of specific heats.
        spacing: cell widths along both axes.
        boundary_conditions: per axis (low, high), periodic, wall (reflects), open (zero gradient)
            or balanced (zero gradient but for the mean normal velocity, which is reversed: no net
            flow).
        source: (conserved (B, 4, H, W), time step (B, 1, 1, 1)) -> conserved, or None; a trajectory
            whose step is 0 keeps its state.
        courant: largest (|u| + c) h / dx of a sweep, below 1.
    """

    def __init__(
        self,
        gamma: float,
        spacing: Sequence[float],
        boundary_conditions: Sequence[tuple[str, str]],
        source: Callable[[Tensor, Tensor], Tensor] | None = None,
        courant: float = 0.7,
    ) -> None:
        self.gamma = gamma
        self.spacing = tuple(spacing)
        self.boundary_conditions = tuple(boundary_conditions)
        self.source = source
        self.courant = courant

    def solve(self, state: Tensor, times: Sequence[float]) -> Tensor:
        """Carry the conserved variables through the given times.

        Args:
            state: (rho, rho u, rho v, E), (B, 4, H, W) float64 at time 0.
            times: increasing times of the snapshots.

        Returns:
            (B, T, 4, H, W).

        Raises:
            SolverDivergedError: density or pressure is no longer positive and finite.
        """
        now, steps, snapshots = 0.0, 0, []
        for time in times:
            if time > now:
                state, count = self._advance(state, time - now, steps)
                now, steps = time, steps + count
            _check(primitive(state, self.gamma), steps)
            snapshots.append(state)
        return torch.stack(snapshots, 1)

    def _advance(self, state: Tensor, duration: float, steps: int) -> tuple[Tensor, int]:
        """Steps of equal shares of what is left of the duration, renewed after each; and the
        most taken.
        """
        left = torch.full((len(state), 1, 1, 1), duration, dtype=state.dtype)
        for count in range(MAX_STEPS):
            if not bool((left > 0).any()):
                return state, count
            shares = (left / (2 * self._largest_sweep(state, steps + count))).ceil().clamp(min=1)
            h = left / (2 * shares)
            state = self._sweep(state, 0, h)
            state = self._sweep(state, 1, h)
            if self.source is not None:
                state = torch.where(h > 0, self.source(state, 2 * h), state)
            state = self._sweep(state, 1, h)
            state = self._sweep(state, 0, h)
            left = torch.where(shares == 1, torch.zeros_like(left), left - 2 * h)
        raise SolverDivergedError(steps + MAX_STEPS)

    def _largest_sweep(self, state: Tensor, steps: int) -> Tensor:
        """The longest h that the wave speeds of each trajectory allow, (B, 1, 1, 1)."""
        w = primitive(state, self.gamma)
        _check(w, steps)
        sound = (self.gamma * w[:, 3:] / w[:, :1]).sqrt()
        rates = [
            (w[:, 1 + axis : 2 + axis].abs() + sound).amax((-2, -1), keepdim=True)
            / self.spacing[axis]
            for axis in (0, 1)
        ]
        return self.courant / torch.maximum(rates[0], rates[1])

    def _sweep(self, state: Tensor, axis: int, h: Tensor) -> Tensor:
        """One step of h along an axis."""
        sides = self.boundary_conditions[axis]
        q = state[:, TURNED] if axis == 1 else state.transpose(-1, -2)
        ratio = h / self.spacing[axis]
        flux = self._flux(_extend(primitive(q, self.gamma), sides), ratio)
        q = q - ratio * flux.diff(dim=-1)
        return q[:, TURNED] if axis == 1 else q.transpose(-1, -2)

    def _flux(self, w: Tensor, ratio: Tensor) -> Tensor:
        """HLLC fluxes of the n + 1 faces of n cells, from the primitive variables of n + 4
        cells.
        """
        half = half_slope(w.diff(dim=-1))
        w = w[..., 1:-1]
        rho, u, _, p = w.unbind(1)
        _, d_u, d_v, d_p = half.unbind(1)
        change = torch.stack([rho * d_u, d_p / rho, torch.zeros_like(d_v), self.gamma * p * d_u], 1)
        change += u[:, None] * half
        middle = w - ratio * change
        # A strong rarefaction can empty a cell within the half step: such a cell is taken as
        # constant.
        least = (middle - half.abs())[:, ::3]
        if not bool((least > 0).all()):
            kept = (least > 0).all(1, keepdim=True)
            middle, half = (
                torch.where(kept, middle, w),
                torch.where(kept, half, torch.zeros_like(half)),
            )
        return hllc((middle + half)[..., :-1], (middle - half)[..., 1:], self.gamma)


def half_slope(jumps: Tensor) -> Tensor:
    """Half the MC-limited slope of the cells between n + 1 jumps: (a + b) / 4 kept between 0 and
    a, 0 and b.
    """
    a, b = jumps[..., :-1], jumps[..., 1:]
    return torch.clamp(
        0.25 * (a + b), torch.maximum(a, b).clamp(max=0), torch.minimum(a, b).clamp(min=0)
    )


def hllc(left: Tensor, right: Tensor, gamma: float) -> Tensor:
    """Fluxes of mass, normal and tangential momentum and energy between primitive states (B, 4,
    ...).
    """
    both = torch.stack([left, right])
    rho, u, p = both[:, :, 0], both[:, :, 1], both[:, :, 3]
    c = (gamma * p / rho).sqrt()
    outer = torch.stack([(u - c).amin(0), (u + c).amax(0)])
    # Mass that enters each outer wave, per time and area; the contact moves at the speed that
    # balances both.
    inflow = rho * (outer - u)
    contact = (p[1] - p[0] + inflow[0] * u[0] - inflow[1] * u[1]) / (inflow[0] - inflow[1])

    from_left = contact >= 0
    rho, u, v, p = torch.where(from_left[:, None], left, right).unbind(1)
    inflow, speed = torch.where(
        from_left, torch.stack([inflow[0], outer[0]]), torch.stack([inflow[1], outer[1]])
    )
    # Between the outer waves the flux is that of the star state, F + S (q* - q), otherwise F.
    weight = torch.where(from_left, speed.clamp(max=0), speed.clamp(min=0))
    energy = p / (gamma - 1) + 0.5 * rho * (u * u + v * v)
    rho_star = inflow / (speed - contact)
    energy_star = rho_star * (energy / rho + (contact - u) * (contact + p / inflow))
    mass = rho * u
    mass_flux = mass + weight * (rho_star - rho)
    return torch.stack(
        [
            mass_flux,
            mass * u + p + weight * (rho_star * contact - mass),
            v * mass_flux,
            u * (energy + p) + weight * (energy_star - energy),
        ],
        1,
    )


def primitive(q: Tensor, gamma: float) -> Tensor:
    """(rho, rho u, rho v, E) -> (rho, u, v, p), components in axis 1."""
    rho, mu, mv, energy = q.unbind(1)
    u, v = mu / rho, mv / rho
    return torch.stack([rho, u, v, (gamma - 1) * (energy - 0.5 * (mu * u + mv * v))], 1)


def conserved(w: Tensor, gamma: float) -> Tensor:
    """(rho, u, v, p) -> (rho, rho u, rho v, E), components in axis 1."""
    rho, u, v, p = w.unbind(1)
    return torch.stack([rho, rho * u, rho * v, p / (gamma - 1) + 0.5 * rho * (u * u + v * v)], 1)


def _extend(w: Tensor, sides: tuple[str, str]) -> Tensor:
    """Two ghost cells on each side of the last axis; component 1 is the normal velocity."""
    low, high = ("open" if side == "balanced" else side for side in sides)
    padded = extend(w, (low, high), 1.0)
    if "wall" in sides:
        padded[:, 1] = extend(w[:, 1], (low, high), -1.0)
    for side, ghosts in zip(sides, (slice(0, GHOSTS), slice(-GHOSTS, None)), strict=True):
        if side == "balanced":
            velocity = padded[:, 1, :, ghosts]
            # A running sum adds in one order whatever the batch; a mean need not.
            mean = velocity.cumsum(1)[:, -1:] / velocity.shape[1]
            padded[:, 1, :, ghosts] = velocity - 2 * mean
    return padded


def _check(w: Tensor, steps: int) -> None:
    # A comparison with NaN is false.
    if not bool(((w[:, ::3] > 0) & (w[:, ::3] < float("inf"))).all()):
        raise SolverDivergedError(steps)
