"""The Euler solver against exact solutions: Sod's tube, waves and vortices; conservation,
positivity, rest.
"""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq

from wavelit.data.pocketwell.euler import Euler, conserved, half_slope, hllc, primitive
from wavelit.data.pocketwell.system import SolverDivergedError

AIR = 1.4
PERIODIC = (("periodic", "periodic"), ("periodic", "periodic"))
OPEN = (("open", "open"), ("open", "open"))
WALLS = (("wall", "wall"), ("wall", "wall"))


def tensor(w):
    """(4, H, W) primitive -> a batch of one conserved state."""
    return conserved(torch.as_tensor(np.asarray(w), dtype=torch.float64)[None], AIR)


def centres(n, length=1.0):
    c = (np.arange(n) + 0.5) * length / n
    return c[:, None], c[None, :]


def star(left, right):
    """Exact pressure and velocity between the outer waves, and the densities beside the contact."""

    def branch(p, state):
        rho, _, pk = state
        c = math.sqrt(AIR * pk / rho)
        if p > pk:
            jump = (p - pk) * math.sqrt(2 / (AIR + 1) / rho / (p + (AIR - 1) / (AIR + 1) * pk))
            r, a = p / pk, (AIR - 1) / (AIR + 1)
            return jump, rho * (r + a) / (a * r + 1)
        jump = 2 * c / (AIR - 1) * ((p / pk) ** ((AIR - 1) / (2 * AIR)) - 1)
        return jump, rho * (p / pk) ** (1 / AIR)

    p = brentq(lambda p: branch(p, left)[0] + branch(p, right)[0] + right[1] - left[1], 1e-9, 1e3)
    u = 0.5 * (left[1] + right[1] + branch(p, right)[0] - branch(p, left)[0])
    return p, u, branch(p, left)[1], branch(p, right)[1]


@pytest.mark.parametrize("axis", [0, 1])
def test_the_star_states_of_sods_tube(axis):
    n = 256
    position = np.broadcast_to(np.moveaxis(centres(n)[0], 0, axis), (n, 3) if axis == 0 else (3, n))
    w = np.zeros((4, *position.shape))
    w[0] = np.where(position < 0.5, 1.0, 0.125)
    w[3] = np.where(position < 0.5, 1.0, 0.1)
    after = primitive(Euler(AIR, (1 / n, 1 / n), OPEN).solve(tensor(w), [0.2])[:, 0], AIR)[0]
    row = after.transpose(1, 2)[:, 1] if axis == 0 else after[:, 1]
    p, u, rho_left, rho_right = star((1.0, 0.0, 1.0), (0.125, 0.0, 0.1))
    assert (round(p, 5), round(u, 5)) == (0.30313, 0.92745)
    # Between fan and contact, and between contact and shock.
    for where, rho in ((0.6, rho_left), (0.77, rho_right)):
        cell = row[:, int(where * n)]
        assert float(cell[0]) == pytest.approx(rho, rel=2e-3)
        assert float(cell[1 + axis]) == pytest.approx(u, rel=2e-3)
        assert float(cell[3]) == pytest.approx(p, rel=2e-3)
    assert (row[2 - axis] == 0).all()
    # The shock stands where it must, within two cells.
    speed = (rho_right * u) / (rho_right - 0.125)
    jump = int((row[0].diff()[int(0.75 * n) :]).argmin()) + int(0.75 * n)
    assert abs((jump + 1) / n - (0.5 + 0.2 * speed)) < 2 / n


def entropy_wave(n, time):
    x, y = centres(n)
    rho = 1 + 0.3 * np.sin(2 * np.pi * (x + y - 1.5 * time))
    return np.stack([rho, np.ones((n, n)), np.full((n, n), 0.5), np.ones((n, n))])


def vortex(n, time):
    """Isentropic vortex of strength 3 in a stream (1, 1), in a periodic box of 10."""
    x, y = (np.mod(a - 5 - time, 10) - 5 for a in centres(n, 10.0))
    swirl = 3 / (2 * np.pi) * np.exp(0.5 * (1 - x**2 - y**2))
    temperature = 1 - (AIR - 1) / (2 * AIR) * swirl**2
    rho = temperature ** (1 / (AIR - 1))
    return np.stack([rho, 1 - y * swirl, 1 + x * swirl, rho * temperature])


@pytest.mark.parametrize(
    ("exact", "length", "sizes", "order"),
    [(entropy_wave, 1.0, (16, 32, 64), 1.6), (vortex, 10.0, (40, 80), 1.8)],
)
def test_second_order(exact, length, sizes, order):
    errors = []
    for n in sizes:
        gas = Euler(AIR, (length / n, length / n), PERIODIC)
        after = primitive(gas.solve(tensor(exact(n, 0.0)), [1.0])[:, 0], AIR)[0].numpy()
        errors.append(np.abs(after - exact(n, 1.0))[0].mean())
    orders = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    assert errors[-1] < 2e-3
    assert orders[-1] > order
    assert orders.mean() > order


def test_second_order_with_a_stiff_source():
    """Relaxation of the pressure to 1 at the rate 20, exact in time: the splitting must be
    symmetric.
    """

    def relax(q, dt):
        w = primitive(q, AIR)
        w[:, 3] = 1 + (w[:, 3] - 1) * torch.exp(-20 * dt[:, 0])
        return conserved(w, AIR)

    def run(n):
        x, y = (2 * np.pi * c for c in centres(n))
        w = np.stack(
            [2 + np.sin(x + y), 0.3 + 0 * x * y, 0.2 * np.cos(x) + 0 * y, 1 + 0.5 * np.cos(x - y)]
        )
        gas = Euler(AIR, (1 / n, 1 / n), PERIODIC, source=relax)
        return gas.solve(tensor(w), [0.2])[0, 0]

    fine = run(128)
    errors = []
    for n in (16, 32, 64):
        coarse = fine.reshape(4, n, 128 // n, n, 128 // n).mean((2, 4))
        errors.append(float((run(n) - coarse).abs().mean()))
    assert errors[-1] < 2e-3
    assert math.log(errors[0] / errors[2], 4) > 1.6


def rough(n, seed):
    """Blocks of 4 x 4 cells of random states, jumps of up to a factor of ten."""
    rng = np.random.default_rng(seed)
    blocks = rng.uniform(-1, 1, (4, n // 4, n // 4))
    blocks[0::3] = 10 ** (0.5 * blocks[0::3])
    return blocks.repeat(4, 1).repeat(4, 2)


def test_mass_momentum_and_energy_are_conserved_and_stay_positive():
    n = 32
    state = torch.cat([tensor(rough(n, seed)) for seed in (0, 1)])
    record = Euler(AIR, (1 / n, 1 / n), PERIODIC).solve(state, [0.0, 0.1, 0.4])
    total = record.sum((-2, -1))
    scale = state.abs().sum((-2, -1))
    assert float(((total - total[:, :1]).abs() / scale[:, None]).max()) < 1e-13
    assert float((record[:, 2] - record[:, 0]).abs().max()) > 0.5
    w = primitive(record.transpose(1, 2), AIR)
    assert float(w[:, ::3].min()) > 0


def test_walls_keep_mass_and_energy():
    n = 32
    state = tensor(rough(n, 2))
    after = Euler(AIR, (1 / n, 1 / n), WALLS).solve(state, [0.3])[:, 0]
    for kept in (0, 3):
        assert float(after[:, kept].sum() / state[:, kept].sum()) == pytest.approx(1, abs=1e-13)


def test_a_trajectory_does_not_depend_on_its_companions():
    n = 16
    states = [tensor(rough(n, seed)) for seed in range(3)]
    # The second is eight times as fast and takes more steps.
    states[1][:, 1:3] *= 8
    states[1][:, 3] *= 64
    gas = Euler(AIR, (1 / n, 1 / n), PERIODIC)
    together = gas.solve(torch.cat(states), [0.01, 0.1])
    for i, state in enumerate(states):
        assert torch.equal(gas.solve(state, [0.01, 0.1])[0], together[i])


def test_the_axes_are_alike():
    n = 16
    w = rough(n, 3)
    turned = w[[0, 2, 1, 3]].transpose(0, 2, 1)
    difference = []
    # The splitting begins with x: its error falls with the square of the step.
    for courant in (0.8, 0.1):
        a = Euler(AIR, (1 / n, 1 / n), OPEN, courant=courant).solve(tensor(w), [0.05])[0, 0]
        b = Euler(AIR, (1 / n, 1 / n), OPEN, courant=courant).solve(tensor(turned), [0.05])[0, 0]
        difference.append(float((a - b[[0, 2, 1, 3]].transpose(1, 2)).abs().mean()))
    assert difference[1] < 0.1 * difference[0]
    assert difference[0] < 0.05


def test_a_contact_at_rest_stays():
    n = 12
    x, _ = centres(n)
    rest = np.zeros((4, n, n))
    rest[0] = np.where(x < 0.5, 100.0, 1.0)
    rest[3] = 1.0
    for sides in (PERIODIC, WALLS, OPEN):
        after = Euler(AIR, (1 / n, 1 / n), sides).solve(tensor(rest), [5.0])[0, 0]
        assert float((after - tensor(rest)[0]).abs().max()) < 1e-12


def test_open_sides_let_a_pulse_out_and_a_balanced_side_has_no_net_flow():
    n = 48
    x, y = centres(n)
    bump = np.exp(-((x - 0.5) ** 2 + (y - 0.5) ** 2) / 0.1**2)
    w = np.stack([1 + 0.05 * bump, 0 * bump, 0 * bump, 1 + 0.07 * bump])
    left = primitive(Euler(AIR, (1 / n, 1 / n), OPEN).solve(tensor(w), [2.0])[:, 0], AIR)[0]
    assert float((left[3] - 1).abs().max()) < 0.003
    # A stream away from the low side of x is fed through it if it is open.
    w = np.stack([np.ones((n, 4)), np.full((n, 4), 0.3), np.zeros((n, 4)), np.ones((n, 4))])
    mass = {}
    for kind in ("open", "balanced"):
        sides = ((kind, "open"), PERIODIC[1])
        mass[kind] = float(
            Euler(AIR, (1 / n, 1 / n), sides).solve(tensor(w), [0.5])[0, 0, 0].mean()
        )
    assert mass["open"] == pytest.approx(1, abs=1e-12)
    assert mass["balanced"] == pytest.approx(1 - 0.5 * 0.3, abs=1e-3)


def test_the_riemann_solver_upwinds_and_is_consistent():
    w = torch.tensor([1.2, 0.3, -0.7, 0.9], dtype=torch.float64)[None, :, None]
    rho, u, v, p = w[0, :, 0].tolist()
    energy = p / (AIR - 1) + 0.5 * rho * (u * u + v * v)
    flux = [rho * u, rho * u * u + p, rho * u * v, u * (energy + p)]
    assert hllc(w, w, AIR)[0, :, 0].tolist() == pytest.approx(flux, rel=1e-14)
    fast = w.clone()
    fast[0, 1] = 5.0
    other = torch.tensor([0.4, 4.0, 0.1, 2.0], dtype=torch.float64)[None, :, None]
    assert torch.allclose(hllc(fast, other, AIR), hllc(fast, fast, AIR))


def test_limiter():
    jumps = torch.tensor([1.0, 1.0, 4.0, -2.0, -0.5])
    assert half_slope(jumps).tolist() == [0.5, 1.0, 0.0, -0.5]


def test_divergence_is_noticed():
    w = rough(16, 0)
    w[3, 3, 3] = -1.0
    with pytest.raises(SolverDivergedError) as caught:
        Euler(AIR, (1.0, 1.0), PERIODIC).solve(tensor(w), [1.0])
    assert caught.value.step == 0
