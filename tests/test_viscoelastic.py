"""FENE-P: closed forms against matrices, laminar flow, start-up of shear, positivity, waves,
order in time.
"""

import h5py
import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
import torch
from the_well.data import WellDataset

from wavelit.data.pocketwell import generate
from wavelit.data.pocketwell.channel import Channel
from wavelit.data.pocketwell.system import SolverDivergedError
from wavelit.data.pocketwell.viscoelastic_instability import (
    SYSTEM,
    Fluid,
    Viscoelastic,
    initial_state,
    laminar_flow,
    simulate,
    waves,
)

pytestmark = pytest.mark.long


def matrix(psi):
    m, p, q = (float(v) for v in psi[:3])
    return np.array([[m + p, q], [q, m - p]])


def rate_of_c(c, zz, gradient, fluid):
    """C . grad u + (grad u)^T . C - T and its zz component, by matrices; gradient[i, j] = d u_i
    / d x_j.
    """
    spring = 1 / (1 - (np.trace(c) + zz - 3) / fluid.extension**2)
    stretching = gradient @ c + c @ gradient.T
    return stretching - (spring * c - np.eye(2)) / fluid.weissenberg, (
        1 - spring * zz
    ) / fluid.weissenberg


@pytest.mark.parametrize("size", [2.0, 0.5, 0.011, 0.009, 1e-5])
def test_the_closed_form_is_the_equation_of_c(size):
    fluid = Fluid(1000.0, 3.0)
    flow = Viscoelastic((4, 4), fluid)
    rng = np.random.default_rng(0)
    for _ in range(5):
        psi = torch.from_numpy(size * rng.standard_normal(4))
        ux, uy, vx = torch.from_numpy(rng.standard_normal(3))
        found = flow.reaction(psi, ux, uy, vx)
        c, zz = scipy.linalg.expm(matrix(psi)), float(torch.exp(psi[3]))
        xx, xy, yy, c_zz = (float(v) for v in flow.conformation(psi))
        assert np.allclose([[xx, xy], [xy, yy]], c, rtol=1e-12)
        assert float(flow.trace(psi)) == pytest.approx(np.trace(c) + zz)
        gradient = np.array([[float(ux), float(uy)], [float(vx), -float(ux)]])
        due, due_zz = rate_of_c(c, zz, gradient, fluid)
        rate = scipy.linalg.expm_frechet(matrix(psi), matrix(found), compute_expm=False)
        assert np.abs(rate - due).max() < 1e-11 * np.abs(due).max()
        assert c_zz * float(found[3]) == pytest.approx(due_zz)
        spring = 1 / (1 - (np.trace(c) + zz - 3) / fluid.extension**2)
        stress = [float(v) for v in flow.stress(psi)]
        assert np.allclose(
            stress, [(spring * a - b) / 3 for a, b in ((xx, 1), (xy, 0), (yy, 1))], atol=1e-12
        )


def test_start_up_of_shear_against_an_ode_solver():
    # In a uniform shear of the whole channel log C stays uniform: momentum is left out.
    fluid, shear, dt = Fluid(1000.0, 5.0, extension=15.0), 2.0, 0.02
    flow = Viscoelastic((4, 4), fluid)
    psi = torch.zeros(4, dtype=torch.float64)
    zero, rate = torch.zeros((), dtype=torch.float64), torch.tensor(shear, dtype=torch.float64)

    def slope(_, c):
        full = np.array([[c[0], c[1]], [c[1], c[2]]])
        due, zz = rate_of_c(full, c[3], np.array([[0.0, shear], [0.0, 0.0]]), fluid)
        return [due[0, 0], due[0, 1], due[1, 1], zz]

    for _ in range(round(12 / dt)):
        # Classical Runge-Kutta.
        a = flow.reaction(psi, zero, rate, zero)
        b = flow.reaction(psi + dt / 2 * a, zero, rate, zero)
        c = flow.reaction(psi + dt / 2 * b, zero, rate, zero)
        d = flow.reaction(psi + dt * c, zero, rate, zero)
        psi = psi + dt / 6 * (a + 2 * b + 2 * c + d)
    exact = scipy.integrate.solve_ivp(
        slope, (0, 12), [1.0, 0.0, 1.0, 1.0], rtol=1e-11, atol=1e-11
    ).y[:, -1]
    assert np.allclose(flow.conformation(psi), exact, rtol=1e-6)
    # Spring and stretching have met: the extension is felt.
    assert float(flow.spring(psi)) > 1.4


def test_laminar_flow_is_steady():
    channel = Channel((4, 40), 2 * np.pi, -1.0, 1.0)
    fluid = Fluid(100.0, 1.0, epsilon=0.0)
    flow = Viscoelastic((4, 40), fluid)
    start = laminar_flow(channel, fluid)
    x = start
    stepper = flow.integrator(0.05)
    for _ in range(40):
        x = stepper.step(x)
    assert float((x - start).abs().max()) < 1e-6
    # Shear-thinning: faster than the Newtonian fluid, and nothing else than it without stretching.
    parabola = 1 - torch.from_numpy(channel.z) ** 2
    faster = (start[0, :, 0].real - parabola)[1:-1]
    assert float(faster.min()) > 0
    assert 1e-5 < float(faster.max()) < 0.01
    newtonian = laminar_flow(channel, Fluid(100.0, 1e-6))
    assert torch.allclose(newtonian[0, :, 0].real, parabola, atol=1e-9)
    assert float(newtonian[2:].abs().max()) < 1e-4
    # The stress of the wall holds the mean pressure gradient.
    shear = channel.slope(start[0, :, :1])[0, 0].real
    c = flow.conformation(start[2:, 0, 0].real)
    spring = float(flow.spring(start[2:, 0, 0].real))
    assert float(0.9 * shear + 0.1 * spring * c[1]) == pytest.approx(2, abs=1e-8)


def test_waves_of_the_newtonian_flow():
    # Orszag, J. Fluid Mech. 50, 1971.
    channel = Channel((8, 64), 2 * np.pi, -1.0, 1.0)
    speeds, modes = waves(channel, 1e4, 1, 2)
    assert abs(speeds[0] - (0.23752649 + 0.00373967j)) < 1e-8
    assert modes.shape == (2, 64)
    # Without polymers the solver grows the wave at that rate.
    fluid = Fluid(1e4, 1e-3, beta=1.0)
    flow = Viscoelastic((8, 64), fluid)
    x = laminar_flow(flow.channel, fluid)
    x[1, :, 1] = torch.from_numpy(1e-7 * modes[0])
    x[0, :, 1] = 1j * flow.channel.slope(x[1])[:, 1]
    start = x[1, :, 1]
    x[2:] = 0
    stepper = flow.integrator(0.02)
    explicit = flow.explicit

    def frozen(state):
        change = explicit(state)
        change[2:] = 0
        return change

    stepper.explicit = frozen
    for _ in range(50):
        x = stepper.step(x)
    ratio = complex(torch.vdot(start, x[1, :, 1]) / torch.vdot(start, start))
    assert abs(1j * np.log(ratio) - speeds[0]) < 1e-5


def test_order_in_time():
    fluid = Fluid(1000.0, 2.0, epsilon=5e-3)
    flow = Viscoelastic((24, 24), fluid)
    x, _ = flow.stepper.advance(initial_state(flow, np.random.default_rng(0)), 0.5)
    ends = []
    for steps in (10, 20, 80):
        stepper, end = flow.integrator(0.4 / steps), x
        for _ in range(steps):
            end = stepper.step(end)
        ends.append(end)
    errors = [(end - ends[2]).abs().amax((-2, -1)).numpy() for end in ends[:2]]
    orders = np.log2(errors[0] / errors[1])
    assert (orders[[0, 1, 2, 4]] > 2.8).all()
    # Near the centre p and log c_zz bend sharply; they reach order 3 later.
    assert (orders > 2.4).all()
    assert errors[1].max() < 2e-6


def test_positive_bounded_and_divergence_free():
    fluid = Fluid(2000.0, 4.0)
    flow = Viscoelastic((32, 24), fluid)
    x = initial_state(flow, np.random.default_rng(1))
    for _ in range(16):
        x, _ = flow.stepper.advance(x, 0.25)
    fine = flow.channel.to_fine(x)
    xx, xy, yy, zz = flow.conformation(fine[2:])
    assert float((xx * yy - xy**2).min()) > 0.5
    assert float(zz.min()) > 0
    assert 50 < float(flow.trace(fine[2:]).max()) < fluid.extension**2
    divergence = flow.channel.values(flow.channel.ik * x[0] + flow.channel.slope(x[1]))
    assert float(divergence[1:-1].abs().max()) < 1e-12


def test_stretching_beyond_the_limit_is_noticed():
    flow = Viscoelastic((8, 16), Fluid(1000.0, 2.0, extension=3.0))
    x = laminar_flow(flow.channel, flow.fluid)
    assert np.isfinite(flow.rate(x))
    x[2, :, 0] += 3.0
    assert flow.rate(x) == np.inf
    with pytest.raises(SolverDivergedError):
        flow.stepper.advance(x, 0.25)


def test_a_trajectory_does_not_depend_on_its_companions():
    times = np.array([0.5, 0.75])
    both = simulate(
        (16, 16), times, SYSTEM.parameters[1], [np.random.default_rng(s) for s in (3, 4)]
    )
    for i, seed in enumerate((3, 4)):
        one = simulate((16, 16), times, SYSTEM.parameters[1], [np.random.default_rng(seed)])
        for name, field in one.fields.items():
            assert (field[0] == both.fields[name][i]).all()


# Simulates a whole set, and solvers change seldom: ran well on f95381f.
@pytest.mark.slow
def test_the_wells_reader_reads_it(tmp_path):
    folder = generate(
        "viscoelastic_instability", "tiny", root=tmp_path, processes=1, progress=False
    )
    data = WellDataset(path=str(folder), well_split_name="train", n_steps_input=2)
    assert data.metadata.field_names == {
        0: ["pressure", "c_zz"],
        1: ["velocity_x", "velocity_y"],
        2: ["C_xx", "C_xy", "C_yx", "C_yy"],
    }
    assert data.metadata.constant_scalar_names == ["Reynolds", "Weissenberg"]
    assert data[0]["boundary_conditions"].tolist() == [[2, 2], [0, 0]]
    for file in folder.rglob("*.hdf5"):
        with h5py.File(file) as f:
            c = f["t2_fields/C"][:].astype(float)
            assert f["t2_fields/C"].attrs["symmetric"]
            assert np.linalg.eigvalsh(c).min() > 0
            assert np.allclose(np.diff(f["dimensions/y"][:]), 2 / c.shape[3])
            assert (f["t1_fields/velocity"][:].std((2, 3)) > 0.01).all()
