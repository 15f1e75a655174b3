"""The radiative layer: its cooling against an ODE solver, its equilibria, its start, its record."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from the_well.data import WellDataset

from wavelit.data.pocketwell.euler import Euler, conserved, primitive
from wavelit.data.pocketwell.turbulent_radiative_layer_2D import (
    CONTRAST,
    GAMMA,
    PRESSURE,
    SHEAR,
    SIDES,
    SYSTEM,
    Cooling,
    initial_state,
    simulate,
)
from wavelit.data.writing.write import write_well

pytestmark = pytest.mark.long

T_COLD, T_HOT = 1 / CONTRAST, 1.0


def cooled(tcool, temperature, density, duration, steps=1, nodes=4097):
    """Temperature of gas at rest and at constant density, through the source of the solver."""
    w = torch.tensor([density, 0.0, 0.0, density * temperature], dtype=torch.float64).reshape(
        1, 4, 1, 1
    )
    q = conserved(w, GAMMA)
    cooling = Cooling(tcool, nodes)
    for _ in range(steps):
        q = cooling(q, torch.full((1, 1, 1, 1), duration / steps, dtype=torch.float64))
    rho, u, v, p = primitive(q, GAMMA).flatten().tolist()
    assert (rho, u, v) == (density, 0.0, 0.0)
    return p / rho


@pytest.mark.parametrize(
    ("temperature", "density"), [(0.5, 2.0), (0.1, 10.0), (0.03, 30.0), (0.9, 0.5)]
)
def test_isochoric_cooling_is_that_of_the_ode(temperature, density):
    cooling = Cooling(0.3)

    def rate(t, value):
        return -(GAMMA - 1) * density * cooling.rate(value)

    times = [0.01, 0.1, 1.0]
    exact = solve_ivp(rate, (0, 1), [temperature], "LSODA", times, rtol=1e-11, atol=1e-13).y[0]
    for time, value in zip(times, exact, strict=True):
        assert cooled(0.3, temperature, density, time) == pytest.approx(value, rel=2e-5)
        # However it is cut into steps.
        assert cooled(0.3, temperature, density, time, steps=7) == pytest.approx(value, rel=2e-5)


def test_the_table_converges_with_second_order():
    temperatures = np.geomspace(0.02, 0.8, 30)

    def final(nodes):
        return np.array([cooled(0.3, t, 1 / t, 0.1, nodes=nodes) for t in temperatures])

    fine = final(8193)
    errors = [np.abs(final(nodes) / fine - 1).mean() for nodes in (65, 257, 1025)]
    assert errors[-1] < 2e-5
    assert math.log(errors[0] / errors[2], 16) > 1.7


def test_tcool_is_the_shortest_cooling_time_at_the_initial_pressure():
    temperature = np.geomspace(T_COLD * 1.001, T_HOT * 0.999, 2001)
    rho = PRESSURE / temperature
    for tcool in (0.03, 3.16):
        cooling_time = PRESSURE / (GAMMA - 1) / (rho**2 * Cooling(tcool).rate(temperature))
        assert cooling_time.min() == pytest.approx(tcool, rel=1e-5)
        assert T_COLD < temperature[cooling_time.argmin()] < math.sqrt(T_COLD * T_HOT)
    # Log-normal: symmetric in ln T about its peak.
    rates = Cooling(1.0).rate(np.array([0.05, 0.2, 0.1]))
    assert rates[0] == pytest.approx(rates[1], rel=1e-12)
    assert rates[2] > rates[0]


def test_both_phases_are_in_equilibrium_and_nothing_cools_below_the_cold_one():
    for temperature in (T_COLD, T_HOT, 0.5 * T_COLD, 2 * T_HOT):
        assert Cooling(0.03).rate(np.array([temperature]))[0] < 1e-12
        assert cooled(0.03, temperature, 1 / temperature, 100.0) == pytest.approx(
            temperature, rel=1e-14
        )
    assert T_COLD <= cooled(0.03, 0.3, 3.0, 1e6) < T_COLD * 1.0001


def test_two_phases_at_rest_stay_at_rest():
    cold = np.arange(48) < 16
    w = np.zeros((4, 16, 48))
    w[0], w[3] = np.where(cold, 100.0, 1.0), 1.0
    start = conserved(torch.from_numpy(w)[None], GAMMA)
    gas = Euler(GAMMA, (1 / 16, 1 / 16), SIDES, source=Cooling(0.03), courant=0.8)
    assert float((gas.solve(start, [2.0])[:, 0] - start).abs().max()) < 1e-11


def test_cooling_lowers_energy_alone():
    rng = np.random.default_rng(0)
    w = torch.from_numpy(rng.uniform(0.05, 0.9, (2, 4, 5, 6)))
    q = conserved(w, GAMMA)
    after = Cooling(0.1)(q, torch.tensor([0.0, 0.01], dtype=torch.float64).reshape(2, 1, 1, 1))
    assert torch.equal(after[:, :3], q[:, :3])
    assert (after[1, 3] <= q[1, 3]).all()
    assert float((q[1, 3] - after[1, 3]).max()) > 1e-4
    assert torch.allclose(after[0], q[0], rtol=1e-12)
    assert float(primitive(after, GAMMA)[:, 3].min()) > 0


def test_the_start_is_two_phases_in_shear_with_noise_that_the_seed_decides():
    a, b = (initial_state((32, 96), np.random.default_rng(seed)) for seed in (0, 1))
    rho, u, v, p = a
    assert (p == PRESSURE).all()
    assert rho[:, :28] == pytest.approx(100.0, rel=1e-3)
    assert rho[:, 38:] == pytest.approx(1.0, rel=1e-3)
    assert u[:, -1] - u[:, 0] == pytest.approx(SHEAR)
    # Mean over the box: a third of cold gas.
    assert rho.mean() == pytest.approx(34.0, rel=1e-12)
    assert np.abs(v[:, :20]).max() < 1e-6
    assert 0.02 < np.abs(v).max() < 0.2
    assert np.array_equal(a[[0, 1, 3]], b[[0, 1, 3]])
    assert not np.allclose(a[2], b[2])


def test_a_trajectory_does_not_depend_on_its_companions_and_cooling_draws_hot_gas_in():
    times = np.array([0.0, 3.0, 6.0])

    def run(seeds):
        return simulate(
            (16, 48), times, {"tcool": 0.1}, [np.random.default_rng(s) for s in seeds]
        ).fields

    together, alone = run([0, 1, 2]), run([1])
    for name, field in alone.items():
        assert np.array_equal(field[0], together[name][1])
    # Hot gas flows in from the open side, and mass stays what came in: none through the balanced
    # side.
    rho, v = together["density"].astype(float), together["velocity"].astype(float)
    assert (v[:, -1, :, -8:, 1].mean((1, 2)) < -0.02).all()
    gained = rho[:, -1].mean((1, 2)) - rho[:, 0].mean((1, 2))
    assert ((gained > 0.02) & (gained < 1.0)).all()
    assert together["pressure"].min() > 0.3


def test_the_wells_reader_reads_it(tmp_path):
    shape, times, parameters = (16, 48), 0.2 + 0.2 * np.arange(6), {"tcool": 0.3}
    rngs = [np.random.default_rng(seed) for seed in (0, 1)]
    solved = simulate(shape, times, parameters, rngs)
    path = tmp_path / "data" / "train" / f"{SYSTEM.name}.hdf5"
    write_well(
        path,
        solved.fields,
        name=SYSTEM.name,
        boundary_conditions=SYSTEM.boundary_conditions,
        constant_fields=solved.constant_fields,
        scalars=parameters,
        coordinates=SYSTEM.coordinates(shape),
        time=times,
    )
    data = WellDataset(path=str(tmp_path), well_split_name="train", n_steps_input=4)
    assert data.metadata.field_names == {
        0: ["density", "pressure"],
        1: ["velocity_x", "velocity_y"],
        2: [],
    }
    assert data.metadata.constant_scalar_names == ["tcool"]
    sample = data[0]
    assert sample["input_fields"].shape == (4, 16, 48, 4)
    assert sample["boundary_conditions"].tolist() == [[2, 2], [1, 1]]
    assert float(sample["input_fields"][..., :2].min()) > 0


def test_the_nine_cooling_times_are_the_wells():
    times = sorted(p["tcool"] for p in SYSTEM.parameters)
    assert times == [0.03, 0.06, 0.1, 0.18, 0.32, 0.56, 1.0, 1.78, 3.16]
