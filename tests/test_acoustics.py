"""The acoustics solver against exact solutions: order, interfaces, open sides, conservation; and
the mazes it is used in."""

import math

import numpy as np
import pytest
import torch

from wavelit.data.pocketwell.acoustic_scattering_maze import maze, rings
from wavelit.data.pocketwell.acoustics import Acoustics, extend, monotonised_central
from wavelit.data.pocketwell.system import SolverDivergedError

K, RHO = 4.0, 3.0
C = math.sqrt(K / RHO)
WALLS = (("wall", "wall"), ("wall", "wall"))
PERIODIC = (("periodic", "periodic"), ("periodic", "periodic"))
OPEN = (("open", "open"), ("open", "open"))


def centres(n):
    x = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    return x[:, None], x[None, :]


def solve(n, state, time, sides, density=None):
    density = torch.full((1, n, n), RHO, dtype=torch.float64) if density is None else density
    return Acoustics(density, K, (1 / n, 1 / n), sides).solve(state[None], [time])[0, 0]


def standing_wave(n, time):
    x, y = centres(n)
    a, b = math.pi, 2 * math.pi
    omega = C * math.hypot(a, b)
    amplitude = math.sin(omega * time) / (RHO * omega)
    return torch.stack(
        [
            torch.cos(a * x) * torch.cos(b * y) * math.cos(omega * time),
            a * torch.sin(a * x) * torch.cos(b * y) * amplitude,
            b * torch.cos(a * x) * torch.sin(b * y) * amplitude,
        ]
    )


def plane_wave(n, time):
    x, y = centres(n)
    k = 2 * math.pi
    pressure = torch.sin(k * (x + y) - k * math.sqrt(2) * C * time)
    velocity = pressure / (RHO * C * math.sqrt(2))
    return torch.stack([pressure, velocity, velocity])


@pytest.mark.parametrize(("exact", "sides"), [(standing_wave, WALLS), (plane_wave, PERIODIC)])
def test_second_order(exact, sides):
    errors = []
    for n in (32, 64, 128):
        difference = solve(n, exact(n, 0.0), 0.5, sides) - exact(n, 0.5)
        errors.append(float(difference.abs().mean() / exact(n, 0.5).abs().mean()))
    orders = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    assert errors[-1] < 5e-3
    assert orders.min() > 1.7


def test_the_two_axes_are_alike():
    state = torch.zeros(3, 24, 24, dtype=torch.float64)
    state[0] = torch.from_numpy(np.random.default_rng(0).normal(size=(24, 24)))
    turned = torch.stack([state[0].T, state[2].T, state[1].T])
    density = torch.from_numpy(np.random.default_rng(1).uniform(1, 100, (1, 24, 24)))
    # Strang's order is not symmetric in the axes: the tolerance shrinks with the square of the
    # step.
    for courant, tolerance in ((0.1, 2e-2), (0.02, 1e-3)):
        a = Acoustics(density, K, (1.0, 1.0), OPEN, courant).solve(state[None], [2.0])[0, 0]
        b = Acoustics(density.mT, K, (1.0, 1.0), OPEN, courant).solve(turned[None], [2.0])[0, 0]
        assert float((a[0] - b[0].T).abs().max()) < tolerance
        assert float((a[1] - b[2].T).abs().max()) < tolerance


@pytest.mark.parametrize("axis", [0, 1])
def test_a_pulse_is_reflected_and_transmitted_as_the_impedances_say(axis):
    n = 128
    position = centres(n)[axis].expand(n, n)
    density = torch.where(position < 0.5, 1.0, 16.0).double()
    z1, z2 = math.sqrt(K), math.sqrt(16 * K)
    pulse = torch.exp(-(((position - 0.3) / 0.04) ** 2))
    state = torch.zeros(3, n, n, dtype=torch.float64)
    state[0], state[1 + axis] = pulse, pulse / z1
    # The pulse meets the face at t = 0.1: one part comes back, the other goes on at a quarter of
    # the speed.
    after = solve(n, state, 0.175, OPEN, density[None])[0]
    reflected = after[position < 0.5].sum() / pulse.sum()
    transmitted = after[position > 0.5].sum() / pulse.sum()
    assert float(reflected) == pytest.approx((z2 - z1) / (z1 + z2), rel=0.01)
    assert float(transmitted) == pytest.approx(2 * z2 / (z1 + z2) / 4, rel=0.01)


def test_an_open_side_lets_a_pulse_out():
    n = 64
    x, y = centres(n)
    state = torch.zeros(3, n, n, dtype=torch.float64)
    state[0] = torch.exp(-(((x - 0.4) ** 2 + (y - 0.6) ** 2) / 0.08**2))

    def energy(q):
        return float((q[0] ** 2 / (2 * K) + RHO * (q[1] ** 2 + q[2] ** 2) / 2).sum())

    kept = solve(n, state, 1.5, WALLS)
    left = solve(n, state, 1.5, OPEN)
    assert energy(kept) > 0.8 * energy(state)
    assert energy(left) < 0.02 * energy(state)


@pytest.mark.parametrize("sides", [WALLS, PERIODIC])
def test_mean_pressure_is_conserved_in_a_maze(sides):
    rng = np.random.default_rng(3)
    paths = maze(32, rng)
    state = torch.zeros(3, 32, 32, dtype=torch.float64)
    state[0] = torch.from_numpy(rings(paths, rng))
    density = torch.from_numpy(np.where(paths, 3.0, 1e6))[None]
    after = solve(32, state, 0.5, sides, density)
    assert float(after[0].mean()) == pytest.approx(float(state[0].mean()), rel=1e-12)
    assert float((after[0] - state[0]).abs().max()) > 0.1


def test_divergence_is_noticed():
    state = torch.full((1, 3, 8, 8), 1e308, dtype=torch.float64)
    state[:, :, 4] = -1e308
    solver = Acoustics(torch.ones(1, 8, 8, dtype=torch.float64), K, (1.0, 1.0), WALLS)
    with pytest.raises(SolverDivergedError) as caught:
        solver.solve(state, [0.0, 1.0])
    assert caught.value.step >= 1


def test_ghost_cells():
    row = torch.tensor([[1.0, 2.0, 3.0]])
    assert extend(row, ("periodic", "periodic"), -1.0).tolist() == [[2, 3, 1, 2, 3, 1, 2]]
    assert extend(row, ("wall", "open"), -1.0).tolist() == [[-2, -1, 1, 2, 3, 3, 3]]
    assert extend(row, ("open", "wall"), 1.0).tolist() == [[1, 1, 1, 2, 3, 3, 2]]


def test_limiter():
    wave = torch.tensor([1.0, 1.0, 1.0, -2.0, 1.0])
    upwind = torch.tensor([1.0, 0.25, 9.0, -1.0, -1.0])
    assert monotonised_central(wave, upwind).tolist() == [1.0, 0.5, 2.0, -1.5, 0.0]


@pytest.mark.parametrize("n", [32, 64])
def test_mazes_are_connected_and_open_to_both_sides(n):
    scipy_ndimage = pytest.importorskip("scipy.ndimage")
    seen = set()
    for seed in range(20):
        paths = maze(n, np.random.default_rng(seed))
        assert paths.shape == (n, n)
        assert scipy_ndimage.label(paths)[1] == 1
        assert paths[:, 0].any()
        assert paths[:, -1].any()
        # No corridor is thinner than four cells: an opening by a 4 x 4 square loses uneven edges
        # alone.
        assert scipy_ndimage.binary_opening(paths, np.ones((4, 4))).sum() >= 0.9 * paths.sum()
        assert 0.3 < paths.mean() < 0.8
        seen.add(paths.tobytes())
    assert len(seen) == 20


def test_rings_stay_in_corridors_and_have_the_stated_strength():
    for seed in range(10):
        rng = np.random.default_rng(seed)
        paths = maze(64, rng)
        pressure = rings(paths, rng)
        assert (pressure[~paths] == 0).all()
        assert 2.5 < pressure.max() < 30
