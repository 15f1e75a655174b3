"""Fourier-Chebyshev tools for flow between two walls: x periodic, z from wall to wall.

A field is a Fourier series in x and a polynomial in z of degree n - 1, known by its values at the n
Gauss-Lobatto nodes: complex `modes` (..., Z, K). Products are formed on a grid of 3/2 as many
points along both axes, which leaves the kept modes free of aliases. Diffusion and pressure are
implicit: per wave number, velocity and pressure are solved together with no-slip walls, with
pressure two degrees below the velocity, so that no spurious pressure is left and div u = 0 holds at
the inner nodes to rounding. Time steps are those of the implicit-explicit Runge-Kutta scheme (4, 4,
3): third order, L-stable for diffusion, one matrix per step size, no memory of earlier steps, so
that the step may change at will.

References: Ascher, Ruuth, Spiteri, Implicit-explicit Runge-Kutta methods for time-dependent PDEs,
Appl. Numer. Math. 25, 1997; Peyret, Spectral Methods for Incompressible Viscous Flow, Springer,
2002, chapters 3 and 7.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wavelit.data.pocketwell.system import SolverDivergedError

__all__ = ["GAMMA", "CFLStepper", "Channel", "Integrator", "Stokes", "lobatto"]

Array = npt.NDArray[Any]

# Ascher, Ruuth, Spiteri (4, 4, 3): the weights of earlier stages in each of the four that are
# solved; the implicit weight of the stage itself is GAMMA.
GAMMA = 0.5
EXPLICIT = ((1 / 2,), (11 / 18, 1 / 18), (5 / 6, -5 / 6, 1 / 2), (1 / 4, 7 / 4, 3 / 4, -7 / 4))
IMPLICIT: tuple[tuple[float, ...], ...] = ((), (1 / 6,), (-1 / 2, 1 / 2), (3 / 2, -3 / 2, 1 / 2))
# Advection's rate times the step: aimed at when a step is chosen, and borne at the end of its use.
# The scheme itself bears 1.57 on the imaginary axis.
AIM, LIMIT = 1.1, 1.45
# Numbers of steps in a piece of time.
LADDER = (4, 6, 8, 11, 16, 22, 32, 45, 64, 90, 128, 256)


def lobatto(n: int) -> tuple[Array, Array]:
    """The n Gauss-Lobatto nodes on [-1, 1], ascending, and the matrix that differentiates there."""
    j = np.arange(n)
    # The sine form is exactly symmetric.
    s = np.sin(math.pi * (2 * j - n + 1) / (2 * (n - 1)))
    weight = np.where((j == 0) | (j == n - 1), 2.0, 1.0) * (-1.0) ** j
    gap = s[:, None] - s[None] + np.eye(n)
    derivative = weight[:, None] / weight[None] / gap
    np.fill_diagonal(derivative, 0.0)
    # Rows sum to zero: a constant has no slope.
    np.fill_diagonal(derivative, -derivative.sum(1))
    return s, derivative


@dataclass(frozen=True)
class Stokes:
    """Inverse of the implicit part of the momentum equation, for one step size.

    Args:
        mean: (Z, Z), from the mean of f_x to that of u.
        across: (K, Z, 2 Z), from (f_x / i, f_z) to w.
        pressure: (K, Z, 2 Z), from (f_x / i, f_z) to p, without its mean over x.
    """

    mean: Tensor
    across: Tensor
    pressure: Tensor


class Channel:
    """Grid, transforms and implicit operators of [0, length] x [low, high].

    Args:
        shape: points along x (even) and z; nx // 2 wave numbers are kept.
        length: period along x.
        low: position of the lower wall.
        high: position of the upper wall.
    """

    def __init__(self, shape: Sequence[int], length: float, low: float, high: float) -> None:
        self.nx, self.nz = int(shape[0]), int(shape[1])
        self.fine = (3 * self.nx // 2, 3 * self.nz // 2)
        self.length, self.low, self.high = length, low, high
        s, derivative = lobatto(self.nz)
        self.half = (high - low) / 2
        self.z = low + self.half * (s + 1)
        self.derivative = derivative / self.half
        self.n_modes = self.nx // 2
        self.wavenumbers = 2 * math.pi / length * np.arange(self.n_modes)
        self.ik = 1j * torch.from_numpy(self.wavenumbers)
        self._i_over_k = 1j / torch.from_numpy(np.append(np.inf, self.wavenumbers[1:]))
        self.dz = torch.from_numpy(self.derivative)
        # From values at the nodes to values and slopes on the fine grid, and back without the high
        # degrees.
        degrees = np.arange(self.nz)
        coefficients = np.linalg.inv(_chebyshev(s, degrees))
        fine_s, _ = lobatto(self.fine[1])
        interpolate = _chebyshev(fine_s, degrees) @ coefficients
        self.interpolate = torch.from_numpy(interpolate)
        self.both = torch.from_numpy(np.concatenate([interpolate, interpolate @ self.derivative]))
        to_degrees = np.linalg.inv(_chebyshev(fine_s, np.arange(self.fine[1])))[: self.nz]
        self.restrict = torch.from_numpy(np.linalg.inv(coefficients) @ to_degrees)
        # Integral from the lower wall to every node.
        primitive = np.polynomial.chebyshev.chebint(np.eye(self.nz), lbnd=-1)
        self.integral = self.half * _chebyshev(s, np.arange(self.nz + 1)) @ primitive @ coefficients
        self._coefficients = coefficients

    def at(self, z: Array) -> Tensor:
        """The matrix (n, Z) from values at the nodes to values at the positions z."""
        s = (np.asarray(z) - self.low) / self.half - 1
        return torch.from_numpy(_chebyshev(s, np.arange(self.nz)) @ self._coefficients)

    def modes(self, values: Tensor) -> Tensor:
        """Values at x = 0, dx ... and the nodes, (..., Z, nx) -> modes (..., Z, K)."""
        modes: Tensor = torch.fft.rfft(values, norm="forward")[..., : self.n_modes]
        return modes

    def values(self, modes: Tensor) -> Tensor:
        """Modes (..., Z, K) -> values (..., Z, nx)."""
        values: Tensor = torch.fft.irfft(modes, n=self.nx, norm="forward")
        return values

    def to_fine(self, modes: Tensor) -> Tensor:
        """Modes (..., Z, K) -> values on the fine grid (..., 3 Z / 2, 3 nx / 2)."""
        fine: Tensor = self.interpolate @ torch.fft.irfft(modes, n=self.fine[0], norm="forward")
        return fine

    def gradient_to_fine(self, modes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Modes (..., Z, K) -> values, slopes along x and slopes along z on the fine grid."""
        pair = torch.fft.irfft(
            torch.stack([modes, self.ik * modes]), n=self.fine[0], norm="forward"
        )
        value, slope_z = (self.both @ pair[0]).split(self.fine[1], -2)
        return value, self.interpolate @ pair[1], slope_z

    def from_fine(self, values: Tensor) -> Tensor:
        """Values on the fine grid -> modes (..., Z, K), without what the kept ones cannot hold."""
        modes: Tensor = torch.fft.rfft(self.restrict @ values, norm="forward")[..., : self.n_modes]
        return modes

    def slope(self, modes: Tensor) -> Tensor:
        """The derivative along z of modes (..., Z, K)."""
        parts = torch.view_as_real(modes)
        return torch.view_as_complex((self.dz @ parts.flatten(-2)).reshape(parts.shape))

    def laplacian(self, modes: Tensor) -> Tensor:
        return self.slope(self.slope(modes)) + self.ik**2 * modes

    def rate(self, u: Tensor, w: Tensor) -> float:
        """Largest |u| k + |w| pi / dz over the points of the fine grid: times the step, at most
        `LIMIT`.
        """
        kmax = math.pi * self.nx / self.length
        s, _ = lobatto(self.fine[1])
        spacing = math.pi / (self.nz - 1) * np.sqrt(np.maximum(1 - s**2, (math.pi / self.nz) ** 2))
        across = torch.from_numpy(math.pi / (self.half * spacing))[:, None]
        return float((kmax * u.abs() + across * w.abs()).max())

    def helmholtz(self, diffusivity: float, weight: float, walls: bool = True) -> Tensor:
        """The inverses (K, Z, Z) of 1 - weight * diffusivity * laplacian.

        Args:
            diffusivity: of the diffusion.
            weight: GAMMA times the time step.
            walls: the value is zero at the walls; otherwise it does not diffuse there, so that no
                condition is needed.
        """
        n = self.nz
        second = self.derivative @ self.derivative
        laplacian = second - self.wavenumbers[:, None, None] ** 2 * np.eye(n)
        matrix = np.eye(n) - weight * diffusivity * laplacian
        matrix[:, [0, -1]] = np.eye(n)[[0, -1]]
        inverse = np.linalg.inv(matrix)
        if walls:
            inverse[:, :, [0, -1]] = 0.0
            inverse[:, [0, -1]] = 0.0
        return torch.from_numpy(inverse)

    def stokes(self, viscosity: float, weight: float, slip: bool = False) -> Stokes:
        """Velocity and pressure of u - weight * viscosity * laplacian u + grad p = f, div u = 0, u
        = 0 at walls.

        Unknowns per wave number are u / i, w and p at the inner nodes, which makes the matrices
        real.

        Args:
            viscosity: of the fluid.
            weight: GAMMA times the time step.
            slip: w alone vanishes at the walls; with weight zero, f is split into a flow that stays
                inside the walls and a gradient.

        Returns:
            The matrices of `solve_flow` and `pressure`.
        """
        n, m = self.nz, self.nz - 2
        inner = slice(1, n - 1)
        # Pressure as values at the inner nodes, and the polynomial through them at all nodes.
        s = (self.z - self.low) / self.half - 1
        low_degrees = _chebyshev(s, np.arange(m))
        extend = low_degrees @ np.linalg.inv(low_degrees[inner])
        second = self.derivative @ self.derivative
        matrix = np.zeros((self.n_modes, 2 * n + m, 2 * n + m))
        for k, a in zip(self.wavenumbers, matrix, strict=True):
            momentum = np.eye(n) - weight * viscosity * (second - k**2 * np.eye(n))
            walls = momentum.copy()
            walls[[0, -1]] = np.eye(n)[[0, -1]]
            a[n : 2 * n, n : 2 * n] = walls
            a[:n, :n] = momentum if slip else walls
            if k == 0.0:
                # No flow across the walls on the mean; the pressure is found apart.
                a[n : 2 * n] = np.eye(2 * n + m)[n : 2 * n]
                a[2 * n :, 2 * n :] = np.eye(m)
                continue
            rows = slice(0, n) if slip else inner
            a[rows, 2 * n :] = k * extend[rows]
            a[n + 1 : 2 * n - 1, 2 * n :] = (self.derivative @ extend)[inner]
            a[2 * n :, :n] = -k * np.eye(n)[inner]
            a[2 * n :, n : 2 * n] = self.derivative[inner]
        inverse = np.linalg.inv(matrix)[:, :, : 2 * n]
        inverse[:, :, [n, 2 * n - 1]] = 0.0
        inverse[:, [n, 2 * n - 1]] = 0.0
        if not slip:
            inverse[:, :, [0, n - 1]] = 0.0
        inverse[0, n:] = 0.0
        pressure = extend @ inverse[:, 2 * n :]
        return Stokes(
            *(
                torch.from_numpy(np.ascontiguousarray(part))
                for part in (inverse[0, :n, :n], inverse[:, n : 2 * n], pressure)
            )
        )

    def solve(self, inverse: Tensor, right: Tensor) -> Tensor:
        """Apply one matrix per wave number, (K, I, J), to modes (..., J, K) -> (..., I, K)."""
        leading, (rows, modes) = right.shape[:-2], right.shape[-2:]
        # Rows times transposed matrices are twice as fast as matrices times columns, for so few.
        parts = torch.view_as_real(right).reshape(-1, rows, modes, 2).permute(2, 0, 3, 1)
        solved = torch.bmm(parts.reshape(modes, -1, rows), inverse.transpose(1, 2))
        solved = solved.reshape(modes, -1, 2, inverse.shape[1]).permute(1, 3, 0, 2).contiguous()
        return torch.view_as_complex(solved).reshape(*leading, inverse.shape[1], modes)

    def solve_flow(self, stokes: Stokes, right: Tensor) -> Tensor:
        """(f_x, f_z) -> (u, w), modes (2, Z, K)."""
        w = self.solve(stokes.across, torch.cat([-1j * right[0], right[1]]))
        # u follows from div u = 0, but for its mean over x.
        u = self.slope(w) * self._i_over_k
        u[:, 0] = (stokes.mean @ right[0, :, 0].real).to(u.dtype)
        u[[0, -1]] = 0.0
        return torch.stack([u, w])

    def pressure(self, tendency: Tensor) -> Tensor:
        """The pressure, mean zero, that keeps a flow of tendency -grad p + f free of divergence.

        Args:
            tendency: modes of f, all accelerations but the pressure's, (2, Z, K).

        Returns:
            Modes (Z, K).
        """
        p = self.solve(self._projection, torch.cat([-1j * tendency[0], tendency[1]]))
        mean = torch.from_numpy(self.integral) @ tendency[1, :, 0].real
        p[:, 0] = mean - self.average @ mean
        return p

    @functools.cached_property
    def average(self) -> Tensor:
        """Weights (Z,) of the mean over z."""
        return torch.from_numpy(self.integral[-1] / (self.high - self.low))

    @functools.cached_property
    def _projection(self) -> Tensor:
        return self.stokes(0.0, 0.0, slip=True).pressure


class Integrator:
    """Implicit-explicit Runge-Kutta steps of X' = N(X) + L X with L implicit.

    Args:
        explicit: N.
        solve: R -> (1 - GAMMA dt L)^-1 R, constraints included.
        dt: the step.
    """

    def __init__(
        self, explicit: Callable[[Tensor], Tensor], solve: Callable[[Tensor], Tensor], dt: float
    ) -> None:
        self.explicit, self.solve, self.dt = explicit, solve, dt

    def step(self, start: Tensor) -> Tensor:
        """X(t) -> X(t + dt)."""
        x = start
        tendencies: list[Tensor] = []
        implicit: list[Tensor] = []
        for a, h in zip(EXPLICIT, IMPLICIT, strict=True):
            tendencies.append(self.explicit(x))
            right = start + self.dt * sum(c * n for c, n in zip(a, tendencies, strict=True))
            for c, item in zip(h, implicit, strict=True):
                right = right + c * item
            x = self.solve(right)
            # dt L X of this stage, multipliers of the constraints included.
            implicit.append((x - right) / GAMMA)
        return x


class CFLStepper:
    """Steps whose length follows advection, chosen anew for every piece of time.

    Args:
        rate: X -> advection's rate, see `Channel.rate`.
        integrator: dt -> steps of dt; kept, as pieces come back to the same few lengths.
    """

    def __init__(
        self, rate: Callable[[Tensor], float], integrator: Callable[[float], Integrator]
    ) -> None:
        self.rate = rate
        self.integrator = functools.cache(integrator)

    def advance(self, x: Tensor, time: float) -> tuple[Tensor, int]:
        """X a time on, and the number of steps.

        Where the flow has become too fast for the steps, they are not kept: the whole time is done
        again with shorter ones.

        Raises:
            SolverDivergedError: no step of the ladder will do; its step is the number of steps
                tried.
        """
        rate, tried = self.rate(x), 0
        for steps in LADDER:
            dt = time / steps
            if not rate * dt <= AIM:
                continue
            stepper, new = self.integrator(dt), x
            for _ in range(steps):
                new = stepper.step(new)
            if self.rate(new) * dt <= LIMIT:
                return new, steps
            tried += steps
        raise SolverDivergedError(tried)


def _chebyshev(s: Array, degrees: Array) -> Array:
    """Chebyshev polynomials (points, degrees)."""
    return np.asarray(np.cos(degrees * np.arccos(np.clip(s, -1, 1))[:, None]))
