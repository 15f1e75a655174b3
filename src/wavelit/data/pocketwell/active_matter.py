"""Active matter: rods in a film of fluid align, push it, and are turned and carried by the flow
they make.

With z = e^{2 i theta} and averages over the rods of concentration c at a point: Q = c <z>, R = c
<z^2> by Bingham's closure, D = (c I + [[Q_1, Q_2], [Q_2, -Q_1]]) / 2. The strain rate E and the
deviator of the stress Sigma are written as complex numbers e = E_11 + i E_12, sigma likewise; ' is
the complex conjugate.

    c_t + u . grad c = d_T lap c
    Q_t + u . grad Q = i omega Q + (c e - e' R) + zeta (c Q - Q' R) - 4 d_R Q + d_T lap Q
    -lap u + grad p = div Sigma,  div u = 0,  Sigma = alpha D + beta S:E - 2 zeta beta (D D - S:D)
    sigma = alpha Q / 2 + (beta / 4) (c e + e' R) - (zeta beta / 4) (c Q - Q' R)

S:X is c <p p (p . X p)>. beta = 0.8; alpha < 0: rods that push out along their axis. The stress
holds the flow that it drives; c beta <= 0.8 c against a viscosity of 1 lets a fixed point find it.
ETDRK4 in Fourier space with all modes but the highest: two thirds of them would let |Q| exceed c by
some percent at defects.

References: Gao, Betterton, Jhang, Shelley, Analytical structure, dynamics, and coarse graining of a
kinetic model of an active fluid, Phys. Rev. Fluids 2, 2017; Maddu, Weady, Shelley, Learning fast,
accurate, and stable closures of a kinetic theory of an active fluid, J. Comput. Phys. 504, 2024;
Ohana et al., The Well, 2024, arXiv:2412.00568 (active_matter).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wavelit.data.pocketwell.bingham import fourth_moment
from wavelit.data.pocketwell.spectral import ETDRK4, FourierGrid
from wavelit.data.pocketwell.system import SolverDivergedError, System, Trajectories

__all__ = ["SYSTEM", "ActiveFluid", "defect_charges", "initial_state"]

Array = npt.NDArray[Any]

BETA = 0.8
# d_T and d_R: The Well's card gives neither.
TRANSLATION = 0.05
ROTATION = 0.05
# Each takes a tenth of the error: 2e-5 of the strain rate is left.
ITERATIONS = 4
# Order has set in everywhere and the flow has reached its strength.
START = 4.0
SNAPSHOT = 0.16
# Steps between snapshots at 64 points: |u| k_max dt stays below 2, which ETDRK4 bears.
STEPS = 8


class ActiveFluid:
    """Concentration and order on a Fourier grid; all trajectories share the parameters.

    Args:
        shape: points along both axes, even.
        length: L, side of the box.
        zeta: strength of alignment.
        alpha: strength of the active stress, < 0 for pushers.
        dt: step of ETDRK4.
    """

    def __init__(
        self, shape: Sequence[int], length: float, zeta: float, alpha: float, dt: float
    ) -> None:
        self.grid = FourierGrid(shape, (length, length))
        self.zeta, self.alpha = zeta, alpha
        kx, ky, k2 = self.grid.kx, self.grid.ky, self.grid.k2
        # The highest mode of an even grid has no derivative.
        self.kept = torch.ones_like(k2)
        self.kept[shape[0] // 2] = 0
        self.kept[:, shape[1] // 2] = 0
        self.gradient = 1j * torch.stack([kx * self.kept, ky * self.kept])
        # Stress (1, 2) to stream function psi, k^4 psi = rot div sigma; psi to strain rate (1, 2),
        # velocity.
        self.stream = (
            torch.stack([2 * kx * ky, ky**2 - kx**2]) * self.grid.inverse_k2**2 * self.kept
        )
        self.shear = torch.stack([-kx * ky, (kx**2 - ky**2) / 2]) * self.kept
        # And to (u, v, omega).
        self.flow_of = torch.stack([self.gradient[1], -self.gradient[0], k2 * self.kept])
        decay = torch.tensor([0.0, 4 * ROTATION, 4 * ROTATION], dtype=torch.float64)[:, None, None]
        self.stepper = ETDRK4(-TRANSLATION * k2 - decay, dt, self._tendency)

    def modes(self, c: Tensor, q: Tensor) -> Tensor:
        """(B, H, W) and (B, 2, H, W) -> modes of (c, Q_1, Q_2), (B, 3, H, W // 2 + 1)."""
        modes: Tensor = self.grid.forward(torch.cat([c[:, None], q], 1)) * self.kept
        return modes

    def fields(self, modes: Tensor) -> tuple[Tensor, Tensor]:
        """c (B, H, W) and Q (B, 2, H, W)."""
        fields = self.grid.backward(modes)
        return fields[:, 0], fields[:, 1:]

    def flow(self, c: Tensor, q: Tensor, iterations: int = ITERATIONS) -> tuple[Tensor, Tensor]:
        """The velocity and the strain rate (E_11, E_12) of Stokes' equation, (B, 2, H, W) both."""
        aligning = _aligning(c, fourth_moment(c, q))
        psi, strain = self._stokes(c, q, aligning, _product(aligning, q), iterations)
        return self.grid.backward(self.flow_of[:2] * psi), strain

    def _stokes(
        self, c: Tensor, q: Tensor, aligning: Tensor, torque: Tensor, iterations: int
    ) -> tuple[Tensor, Tensor]:
        """Modes of the stream function (B, 1, H, W // 2 + 1) and the strain rate (B, 2, H, W).

        The rods' part of the stress lies between 0 and (beta / 2) c e. Half of that at c = 1 goes
        to the viscosity on the left, and the rest is a contraction by (beta / 8) / (1 + beta / 8) =
        1 / 11.
        """
        viscosity = 1 + BETA / 8
        given = (self.alpha / 2) * q - (BETA * self.zeta / 4) * torque
        # c e + e' R = 2 c e - (c e - e' R), less what went to the left.
        rods = (-BETA / 4) * aligning
        rods.diagonal(dim1=1, dim2=2).add_(((BETA / 4) * (2 * c - 1))[..., None])
        stress = given
        for iteration in range(iterations):
            psi = (self.stream * self.grid.forward(stress)).sum(1, keepdim=True) / viscosity
            strain = self.grid.backward(self.shear * psi)
            if iteration < iterations - 1:
                stress = given + _product(rods, strain)
        return psi, strain

    def _tendency(self, modes: Tensor) -> Tensor:
        """All but diffusion in space and angle."""
        fields = self.grid.backward(modes)
        c, q = fields[:, 0], fields[:, 1:]
        aligning = _aligning(c, fourth_moment(c, q))
        torque = _product(aligning, q)
        psi, strain = self._stokes(c, q, aligning, torque, ITERATIONS)
        u, v, omega = self.grid.backward(self.flow_of * psi).unbind(1)
        flux = self.grid.forward(torch.cat([u[:, None] * fields, v[:, None] * fields], 1))
        tendency: Tensor = -(self.gradient[:, None] * flux.unflatten(1, (2, 3))).sum(1)
        turned = _product(aligning, strain) + self.zeta * torque
        turned[:, 0] -= omega * q[:, 1]
        turned[:, 1] += omega * q[:, 0]
        tendency[:, 1:] += self.grid.forward(turned) * self.kept
        return tendency


def _aligning(c: Tensor, r: Tensor) -> Tensor:
    """The matrices (B, 2, 2, H, W) that take complex x, as (B, 2, H, W), to c x - x' R."""
    x, y = r.unbind(1)
    matrices: Tensor = torch.stack([c - x, -y, -y, c + x], 1).unflatten(1, (2, 2))
    return matrices


def _product(matrices: Tensor, vectors: Tensor) -> Tensor:
    return matrices[:, :, 0] * vectors[:, None, 0] + matrices[:, :, 1] * vectors[:, None, 1]


def defect_charges(q: Tensor) -> Tensor:
    """Turns of Q around each cell, (B, 2, H, W) -> (B, H, W): 1 and -1 are defects of charge 1/2
    and -1/2.
    """
    phase = torch.atan2(q[:, 1], q[:, 0])

    def turn(axis: int) -> Tensor:
        difference = phase.roll(-1, axis) - phase
        return torch.remainder(difference + math.pi, 2 * math.pi) - math.pi

    x, y = turn(1), turn(2)
    return ((x + y.roll(-1, 1) - x.roll(-1, 2) - y) / (2 * math.pi)).round()


def initial_state(shape: Sequence[int], rng: np.random.Generator) -> tuple[Array, Array]:
    """Random concentration c, (H, W), of mean 1 in [0.4, 1.6], and a weak order Q, (2, H, W).

    Sums of plane waves with Gaussian spectra: c of one to four waves a box, Q of up to a dozen, of
    rms 0.1.
    """

    def waves(reach: float) -> Array:
        kx, ky = (np.fft.fftfreq(n, 1 / n) for n in shape)
        spectrum = np.exp(-(kx[:, None] ** 2 + ky[None] ** 2) / reach**2)
        spectrum[0, 0] = 0
        field: Array = np.fft.ifft2(np.fft.fft2(rng.standard_normal(tuple(shape))) * spectrum).real
        return field

    c = waves(2)
    q = np.stack([waves(6), waves(6)])
    return 1 + 0.6 * c / np.abs(c).max(), 0.1 * q / q.std()


def simulate(
    shape: tuple[int, ...],
    times: Array,
    parameters: Mapping[str, float],
    rngs: Sequence[np.random.Generator],
) -> Trajectories:
    """Solve one random start per generator; the record begins when order and flow are developed."""
    starts = [initial_state(shape, rng) for rng in rngs]
    dt = SNAPSHOT / math.ceil(STEPS * shape[0] / 64)
    fluid = ActiveFluid(shape, parameters["L"], parameters["zeta"], parameters["alpha"], dt)
    modes = fluid.modes(*(torch.from_numpy(np.stack(parts)) for parts in zip(*starts, strict=True)))
    record: dict[str, list[Tensor]] = {"concentration": [], "velocity": [], "D": [], "E": []}
    done = 0
    for time in times:
        steps = round(float(time) / dt)
        for _ in range(steps - done):
            modes = fluid.stepper.step(modes)
        done = steps
        if not bool(modes.isfinite().all()):
            raise SolverDivergedError(done)
        c, q = fluid.fields(modes)
        velocity, strain = fluid.flow(c, q)
        record["concentration"].append(c.float())
        record["velocity"].append(velocity.movedim(1, -1).float())
        record["D"].append(_tensor(c / 2, q / 2).float())
        record["E"].append(_tensor(torch.zeros_like(c), strain).float())
    return Trajectories({name: torch.stack(items, 1).numpy() for name, items in record.items()})


def _tensor(half_trace: Tensor, deviator: Tensor) -> Tensor:
    """(B, H, W) and (B, 2, H, W) -> symmetric (B, H, W, 2, 2)."""
    x, y = deviator.unbind(1)
    tensor: Tensor = torch.stack([half_trace + x, y, y, half_trace - x], -1).unflatten(-1, (2, 2))
    return tensor


def coordinates(shape: tuple[int, ...]) -> Mapping[str, Array]:
    """Points in units of the box, whose side L is a parameter."""
    return {axis: np.arange(n) / n for axis, n in zip("xy", shape, strict=True)}


def snapshot_times(shape: tuple[int, ...], n_snapshots: int) -> Array:
    return START + np.arange(n_snapshots) * SNAPSHOT


SYSTEM = System(
    name="active_matter",
    version=1,
    shapes={"tiny": (48, 48), "small": (64, 64), "large": (64, 64), "double": (128, 128)},
    boundary_conditions=(("periodic", "periodic"), ("periodic", "periodic")),
    # The first four are resolved by the grid of size tiny as well.
    parameters=(
        {"L": 10.0, "zeta": 1.0, "alpha": -3.0},
        {"L": 8.0, "zeta": 3.0, "alpha": -4.0},
        {"L": 10.0, "zeta": 1.0, "alpha": -5.0},
        {"L": 10.0, "zeta": 3.0, "alpha": -1.0},
        {"L": 10.0, "zeta": 3.0, "alpha": -5.0},
        {"L": 8.0, "zeta": 5.0, "alpha": -3.0},
        {"L": 10.0, "zeta": 3.0, "alpha": -3.0},
        {"L": 10.0, "zeta": 1.0, "alpha": -2.0},
    ),
    batch=3,
    coordinates=coordinates,
    times=snapshot_times,
    simulate=simulate,
)
