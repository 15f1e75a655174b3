"""Convection: critical Rayleigh number, order in time, heat budget, resolution, independence of
companions.
"""

import math

import h5py
import numpy as np
import pytest
import torch
from the_well.data import WellDataset

from wavelit.data.pocketwell import generate
from wavelit.data.pocketwell.rayleigh_benard import (
    SYSTEM,
    Convection,
    coordinates,
    initial_buoyancy,
    simulate,
    stored_nodes,
)
from wavelit.data.pocketwell.system import SolverDivergedError

pytestmark = pytest.mark.long


def start(flow, seed=0):
    channel = flow.channel
    x = torch.zeros(3, channel.nz, channel.n_modes, dtype=torch.complex128)
    buoyancy = initial_buoyancy(channel, np.random.default_rng(seed))
    x[0] = channel.modes(torch.from_numpy(buoyancy - 1 + channel.z[:, None]))
    return x


def run(flow, x, time, steps):
    stepper = flow.integrator(time / steps)
    for _ in range(steps):
        x = stepper.step(x)
    return x


def growth(rayleigh):
    """Growth rate of the slowest roll of wave number 3.117."""
    flow = Convection((4, 20), rayleigh, 1.0, 2 * math.pi / 3.117)
    x = torch.zeros(3, 20, 2, dtype=torch.complex128)
    x[0, :, 1] = torch.from_numpy(1e-8 * np.sin(math.pi * flow.channel.z))
    early = run(flow, x, 30.0, 200)
    late = run(flow, early, 15.0, 100)
    return math.log(float(late[2, 10, 1].abs() / early[2, 10, 1].abs())) / 15


def test_critical_rayleigh_number():
    below, above = growth(1700.0), growth(1716.0)
    assert below < 0 < above
    # Between rigid walls: 1707.762 (Chandrasekhar, Hydrodynamic and Hydromagnetic Stability, 1961).
    critical = 1700 - 16 * below / (above - below)
    assert critical == pytest.approx(1707.76, abs=0.05)


def test_order_in_time():
    flow = Convection((32, 24), 1e5, 1.0)
    x = run(flow, start(flow), 3.0, 60)
    fine = run(flow, x, 1.0, 320)
    errors = []
    for steps in (20, 80):
        end = run(flow, x, 1.0, steps)
        parts = torch.cat([end - fine, (flow.pressure(end) - flow.pressure(fine))[None]])
        errors.append(parts.abs().amax((-2, -1)).numpy())
    buoyancy, u, w, pressure = np.log2(errors[0] / errors[1]) / 2
    assert min(buoyancy, w) > 2.8
    # The walls cost the flow along them and the pressure one order, as stages know no wall of their
    # own.
    assert min(u, pressure) > 1.9
    assert (errors[0] < 2e-6).all()


def test_divergence_walls_and_heat_budget():
    flow = Convection((32, 24), 1e5, 1.0)
    channel = flow.channel
    x = run(flow, start(flow), 4.0, 100)
    assert float(channel.values(x)[1:].abs().max()) > 0.1
    divergence = channel.values(channel.ik * x[1] + channel.slope(x[2]))
    assert float(divergence[1:-1].abs().max()) < 1e-12
    assert float(x[:, [0, -1]].abs().max()) == 0
    # What enters by the walls stays in the layer.
    content, gain, dt = [], [], 0.01
    for _ in range(21):
        content.append(float(channel.average @ x[0, :, 0].real))
        slope = channel.slope(x[0])[:, 0].real
        gain.append(flow.diffusivity * float(slope[-1] - slope[0]))
        x = run(flow, x, dt, 1)
    expected = dt * (sum(gain) - (gain[0] + gain[-1]) / 2)
    assert content[-1] - content[0] == pytest.approx(expected, abs=1e-6)
    assert abs(expected) > 1e-4


def test_pressure_balances_the_column_at_rest():
    flow = Convection((8, 16), 1e5, 1.0)
    x = torch.zeros(3, 16, 4, dtype=torch.complex128)
    z = torch.from_numpy(flow.channel.z)
    # p_z = b = 1 - z, mean zero.
    assert torch.allclose(flow.pressure(x)[:, 0].real, z - z**2 / 2 - 1 / 3, atol=1e-13)


def test_steps_follow_the_velocity():
    flow = Convection((32, 24), 1e6, 1.0)
    x = start(flow)
    _, slow = flow.stepper.advance(x, 0.25)
    x[1, 1:-1, 0] = 10.0
    _, fast = flow.stepper.advance(x, 0.25)
    assert fast > 4 * slow
    with pytest.raises(SolverDivergedError):
        flow.stepper.advance(x * float("nan"), 0.25)
    with pytest.raises(SolverDivergedError):
        flow.stepper.advance(x * 1e6, 0.25)


def test_a_trajectory_does_not_depend_on_its_companions():
    times = np.array([1.0, 1.25])
    seeds = [3, 4]
    both = simulate(
        (32, 16), times, SYSTEM.parameters[0], [np.random.default_rng(s) for s in seeds]
    )
    for i, seed in enumerate(seeds):
        one = simulate((32, 16), times, SYSTEM.parameters[0], [np.random.default_rng(seed)])
        for name, field in one.fields.items():
            assert (field[0] == both.fields[name][i]).all()
    assert (both.fields["buoyancy"][0] != both.fields["buoyancy"][1]).any()


def test_the_hardest_set_is_resolved():
    flow = Convection(SYSTEM.shapes["small"], 2e6, 1.0)
    channel, x = flow.channel, start(flow)
    vander = np.polynomial.chebyshev.chebvander(2 * channel.z - 1, channel.nz - 1)
    for _ in range(36):
        x, _ = flow.stepper.advance(x, 0.25)
    # Plumes have reached the other wall.
    assert float(channel.values(x[2]).std()) > 0.1
    degrees = np.linalg.inv(vander) @ x.numpy()
    power = np.abs(degrees) ** 2
    power[..., 1:] *= 2
    # The last tenth of wave numbers and of degrees, by amplitude.
    along = np.sqrt(power[..., -6:].sum((1, 2)) / power[..., 1:].sum((1, 2)))
    across = np.sqrt(power[:, -3:].sum((1, 2)) / power.sum((1, 2)))
    assert along.max() < 0.015
    assert across.max() < 0.015


# Simulates a whole set, and solvers change seldom: ran well on f95381f.
@pytest.mark.slow
def test_the_wells_reader_reads_it(tmp_path):
    folder = generate("rayleigh_benard", "tiny", root=tmp_path, processes=1, progress=False)
    data = WellDataset(path=str(folder), well_split_name="train", n_steps_input=2)
    assert data.metadata.field_names == {
        0: ["buoyancy", "pressure"],
        1: ["velocity_x", "velocity_y"],
        2: [],
    }
    assert data.metadata.constant_scalar_names == ["Rayleigh", "Prandtl"]
    assert data[0]["boundary_conditions"].tolist() == [[2, 2], [0, 0]]
    shape = SYSTEM.shapes["tiny"]
    assert np.allclose(data[0]["space_grid"][0, :, 1], stored_nodes(shape[1]), atol=1e-6)
    assert np.allclose(coordinates(shape)["y"], stored_nodes(shape[1]))
    for file in folder.rglob("*.hdf5"):
        with h5py.File(file) as f:
            buoyancy = f["t0_fields/buoyancy"][:]
            assert buoyancy.min() > -0.2
            assert buoyancy.max() < 1.2
            assert (f["t1_fields/velocity"][:].std((2, 3)) > 0.02).all()
