"""ETDRK4 and the shear flow solver: order, exact decay, conserved quantities, resolved spectra."""

import math

import numpy as np
import pytest
import torch

from wavelit.data.pocketwell.shear_flow import (
    LENGTHS,
    SYSTEM,
    ShearFlow,
    coordinates,
    initial_state,
    simulate,
)
from wavelit.data.pocketwell.spectral import ETDRK4, FourierGrid
from wavelit.data.pocketwell.system import SolverDivergedError

SHAPE = (32, 64)


def test_without_a_linear_part_the_step_is_runge_kutta():
    stepper = ETDRK4(torch.zeros(1, dtype=torch.float64), 0.3, torch.sin)
    for weight, expected in (
        (stepper.first, 0.05),
        (stepper.middle, 0.1),
        (stepper.last, 0.05),
        (stepper.stage, 0.15),
    ):
        assert float(weight) == pytest.approx(expected, rel=1e-13)


def test_fourth_order_in_time():
    # v' = a v + v^2, exact: v = a / ((a / v0 + 1) exp(-a t) - 1).
    a = torch.tensor([-1.0, -20.0, 0.5], dtype=torch.float64)
    v0 = torch.tensor([0.5, 4.0, 0.2], dtype=torch.float64)
    exact = a / ((a / v0 + 1) * torch.exp(-a) - 1)
    errors = []
    for steps in (40, 80, 160):
        stepper = ETDRK4(a, 1 / steps, torch.square)
        v = v0
        for _ in range(steps):
            v = stepper.step(v)
        errors.append(((v - exact) / exact).abs().numpy())
    orders = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    assert (orders > 3.7).all()
    assert (orders < 4.5).all()


def test_derivatives_and_kept_modes():
    grid = FourierGrid(SHAPE, LENGTHS)
    x, y = (torch.from_numpy(a) for a in coordinates(SHAPE).values())
    field = torch.sin(4 * math.pi * x[:, None]) * torch.cos(3 * math.pi * y[None])
    slope = grid.backward(1j * grid.ky * grid.forward(field))
    exact = -3 * math.pi * torch.sin(4 * math.pi * x[:, None]) * torch.sin(3 * math.pi * y[None])
    assert torch.allclose(slope, exact, atol=1e-12)
    # Two thirds of the 16 and 32 wave numbers: a product of two kept modes does not alias onto a
    # kept one.
    assert int(grid.kept[:, 0].sum()) == 2 * 10 + 1
    assert int(grid.kept[0].sum()) == 21 + 1


def vortices():
    """Taylor-Green's vortices on the box: velocity, stream function and |k|^2."""
    x, y = (torch.from_numpy(a) for a in coordinates(SHAPE).values())
    x, y = x[:, None], y[None]
    a, b = 2 * math.pi / LENGTHS[0], 4 * math.pi / LENGTHS[1]
    stream = torch.sin(a * x) * torch.sin(b * y)
    velocity = (
        torch.stack(
            [b * torch.sin(a * x) * torch.cos(b * y), -a * torch.cos(a * x) * torch.sin(b * y)]
        )
        / 10
    )
    return velocity, stream / 10, a**2 + b**2


def test_taylor_green_vortices_decay_exactly():
    velocity, stream, k2 = vortices()
    nu, diffusivity, time = 0.01, 0.02, 0.5
    flow = ShearFlow(SHAPE, nu, diffusivity, torch.zeros(1, 2, dtype=torch.float64), time / 25)
    modes = flow.modes(velocity[None], stream[None])
    for _ in range(25):
        modes = flow.stepper.step(modes)
    decay = math.exp(-nu * k2 * time)
    after = flow.velocity(modes)
    assert float((after[0] - decay * velocity).abs().max()) < 1e-8
    # The tracer follows the stream function, so that advection leaves it alone as well.
    assert (
        float((flow.tracer(modes)[0] - math.exp(-diffusivity * k2 * time) * stream).abs().max())
        < 1e-8
    )
    pressure = -0.5 * (velocity**2).sum(0) - 0.5 * k2 * stream**2
    pressure = decay**2 * (pressure - pressure.mean())
    assert float((flow.pressure(after)[0] - pressure).abs().max()) < 1e-8


def test_a_mean_flow_carries_the_vortices_with_fourth_order():
    velocity, stream, k2 = vortices()
    mean = torch.tensor([1.0, -2.0], dtype=torch.float64)
    errors = []
    for steps in (100, 200):
        flow = ShearFlow(SHAPE, 0.01, 0.01, mean[None], 1 / steps)
        modes = flow.modes((velocity + mean[:, None, None])[None], stream[None])
        for _ in range(steps):
            modes = flow.stepper.step(modes)
        # After one time unit the mean flow has crossed the box once along each axis.
        errors.append(float((flow.tracer(modes)[0] - math.exp(-0.01 * k2) * stream).abs().max()))
    assert errors[1] < 1e-5
    assert 3.7 < math.log2(errors[0] / errors[1]) < 4.3


def test_momentum_tracer_and_divergence():
    velocity, tracer = (
        torch.from_numpy(a)[None] for a in initial_state(SHAPE, np.random.default_rng(0))
    )
    velocity = velocity + 0.25
    flow = ShearFlow(SHAPE, 1e-3, 1e-3, velocity.mean((-2, -1)), 0.02)
    modes = flow.modes(velocity, tracer)
    start = flow.tracer(modes).mean()
    for _ in range(50):
        modes = flow.stepper.step(modes)
    after = flow.velocity(modes)
    assert torch.allclose(after.mean((-2, -1)), velocity.mean((-2, -1)), atol=1e-14)
    assert float(flow.tracer(modes).mean()) == pytest.approx(float(start), abs=1e-14)
    u, v = (flow.grid.forward(part) for part in after[0])
    assert float(flow.grid.backward(1j * (flow.grid.kx * u + flow.grid.ky * v)).abs().max()) < 1e-12
    assert abs(float(flow.pressure(after).mean())) < 1e-15
    # It has moved meanwhile.
    assert float((after - velocity).abs().max()) > 0.05


def test_initial_states_are_smooth_across_the_seams():
    for seed in range(4):
        velocity, tracer = initial_state((64, 128), np.random.default_rng(seed))
        assert np.abs(velocity[0]).max() <= 0.5 + 1e-9
        assert (tracer == velocity[0]).all()
        for field in velocity:
            spectrum = np.abs(np.fft.rfft2(field))
            tail = (
                np.maximum(
                    np.abs(np.fft.fftfreq(64, 1 / 64))[:, None] / 32,
                    np.fft.rfftfreq(128, 1 / 128)[None] / 64,
                )
                > 0.9
            )
            assert spectrum[tail].max() < 1e-2 * spectrum.max()


def test_the_least_viscous_flow_is_resolved():
    shape = SYSTEM.shapes["small"]
    flow = simulate(
        shape, np.arange(13) * 0.2, {"Reynolds": 2000.0, "Schmidt": 1.0}, [np.random.default_rng(0)]
    )
    for name in ("tracer", "pressure"):
        modes = np.abs(np.fft.rfft2(flow.fields[name][0]))
        x = np.abs(np.fft.fftfreq(shape[0], 1 / shape[0]))[:, None] / (shape[0] / 3)
        y = np.fft.rfftfreq(shape[1], 1 / shape[1])[None] / (shape[1] / 3)
        edge = np.maximum(x, y)
        # The last tenth before the cut-off, by amplitude.
        tail = np.sqrt(
            (modes[:, (edge > 0.9) & (edge < 1)] ** 2).sum(-1) / (modes[:, edge > 0] ** 2).sum(-1)
        )
        assert tail.max() < 0.015
    # Layers have rolled up: the velocity across them has grown from the ripple.
    across = flow.fields["velocity"][0, ..., 1].std((1, 2))
    assert across[-1] > 3 * across[0]


def test_divergence_is_noticed():
    with pytest.raises(SolverDivergedError) as caught:
        # A negative viscosity makes the shortest waves grow at once.
        simulate(
            SHAPE,
            np.arange(60) * 0.2,
            {"Reynolds": -1.0, "Schmidt": 1.0},
            [np.random.default_rng(0)],
        )
    assert caught.value.step > 0
