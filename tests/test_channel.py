"""The Fourier-Chebyshev channel: exact derivatives and products, order in time, laminar flow,
instability.
"""

import math

import numpy as np
import pytest
import scipy.linalg
import torch

from wavelit.data.pocketwell.channel import EXPLICIT, GAMMA, IMPLICIT, Channel, Integrator, lobatto

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def channel():
    return Channel((16, 14), 3.0, -0.5, 1.5)


def grid(channel):
    """x (1, nx) and z (Z, 1)."""
    x = torch.arange(channel.nx, dtype=torch.float64) * channel.length / channel.nx
    return x[None], torch.from_numpy(channel.z)[:, None]


def test_derivatives_and_integrals_of_polynomials_are_exact(channel):
    a = 2 * math.pi / channel.length
    x, z = grid(channel)
    modes = channel.modes(torch.sin(3 * a * x) * z**13)
    assert torch.allclose(channel.values(modes), torch.sin(3 * a * x) * z**13, atol=1e-12)
    slope = channel.values(channel.slope(modes))
    assert torch.allclose(slope, 13 * torch.sin(3 * a * x) * z**12, atol=1e-9)
    laplacian = torch.sin(3 * a * x) * (156 * z**11 - 9 * a**2 * z**13)
    assert torch.allclose(channel.values(channel.laplacian(modes)), laplacian, atol=1e-7)
    powers = channel.integral @ channel.z**13
    assert np.allclose(powers, (channel.z**14 - 0.5**14) / 14, atol=1e-12)
    assert float(channel.average @ torch.from_numpy(channel.z**2)) == pytest.approx(
        (1.5**3 + 0.5**3) / 6
    )
    points = np.array([-0.5, 0.123, 1.5])
    assert np.allclose(channel.at(points).numpy() @ channel.z**13, points**13, atol=1e-12)


def test_products_of_kept_modes_are_free_of_aliases(channel):
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 14, 8, dtype=torch.complex128, generator=generator)
    a[:, 0], b[:, 0] = a[:, 0].real + 0j, b[:, 0].real + 0j
    product = channel.from_fine(channel.to_fine(a) * channel.to_fine(b))
    # The same on a grid that holds the whole product, cut down afterwards.
    large = Channel((32, 28), 3.0, -0.5, 1.5)
    wide = [
        large.values(
            torch.nn.functional.pad(
                channel.at(large.z).to(m.dtype) @ m, (0, large.n_modes - channel.n_modes)
            )
        )
        for m in (a, b)
    ]
    whole = large.modes(wide[0] * wide[1])[:, :8]
    s, small = (large.z - 0.5), channel.z - 0.5
    coefficients = np.linalg.inv(np.polynomial.chebyshev.chebvander(s, 27)) @ whole.numpy()
    exact = np.polynomial.chebyshev.chebvander(small, 13) @ coefficients[:14]
    assert np.abs(product.numpy() - exact).max() < 1e-12
    value, along, across = channel.gradient_to_fine(a)
    assert torch.allclose(value, channel.to_fine(a))
    assert torch.allclose(along, channel.to_fine(channel.ik * a), atol=1e-11)
    assert torch.allclose(across, channel.to_fine(channel.slope(a)), atol=1e-10)


def test_the_tableau_meets_the_conditions_of_order_three():
    # Stage j is an explicit one for j = 0 and is solved afterwards; the last one is the step.
    a, h = np.zeros((5, 5)), np.zeros((5, 5))
    for i in range(4):
        a[i + 1, : i + 1] = EXPLICIT[i]
        h[i + 1, 1 : i + 1] = IMPLICIT[i]
        h[i + 1, i + 1] = GAMMA
    c = a.sum(1)
    assert np.allclose(h.sum(1), c)
    for weights in (a[4], h[4]):
        assert weights.sum() == pytest.approx(1)
        assert weights @ c == pytest.approx(1 / 2)
        assert weights @ c**2 == pytest.approx(1 / 3)
        for matrix in (a, h):
            assert weights @ matrix @ c == pytest.approx(1 / 6)


def test_third_order_in_time():
    # x' = -x^2 + L x with L implicit, exact by Bernoulli's substitution.
    rates = torch.tensor([-1.0, -8.0], dtype=torch.float64)
    start = torch.tensor([0.8, 2.0], dtype=torch.float64)
    exact = rates / ((rates / start - 1) * torch.exp(-rates) + 1)
    errors = []
    for steps in (40, 80, 160):
        dt = 1 / steps
        stepper = Integrator(lambda x: -(x**2), lambda r, dt=dt: r / (1 - GAMMA * dt * rates), dt)
        x = start
        for _ in range(steps):
            x = stepper.step(x)
        errors.append((x - exact).abs().numpy())
    orders = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    assert ((orders > 2.8) & (orders < 3.4)).all()


def flow_stepper(channel, viscosity, force, dt):
    """Navier-Stokes under a constant force along x."""
    stokes = channel.stokes(viscosity, GAMMA * dt)

    def explicit(x):
        value, along, across = channel.gradient_to_fine(x)
        change = channel.from_fine(-value[0] * along - value[1] * across)
        change[0, :, 0] += force
        return change

    return Integrator(explicit, lambda right: channel.solve_flow(stokes, right), dt)


def test_poiseuille_flow_is_exact_and_is_reached_from_rest():
    channel = Channel((8, 24), 2 * math.pi, -1.0, 1.0)
    viscosity, dt = 0.1, 0.05
    z = torch.from_numpy(channel.z)
    laminar = torch.zeros(2, 24, 4, dtype=torch.complex128)
    laminar[0, :, 0] = 1 - z**2
    stepper = flow_stepper(channel, viscosity, 2 * viscosity, dt)
    x, rest = laminar, torch.zeros_like(laminar)
    for _ in range(40):
        x, rest = stepper.step(x), stepper.step(rest)
    assert float((x - laminar).abs().max()) < 1e-13
    # Start-up from rest after t = 2: the laminar profile less its decaying cosines.
    exact = 1 - z**2
    for j in range(60):
        b = (j + 0.5) * math.pi
        exact = exact - 4 * (-1) ** j / b**3 * torch.cos(b * z) * math.exp(-viscosity * b**2 * 2)
    assert float((rest[0, :, 0] - exact).abs().max()) < 1e-5
    assert float(rest[1].abs().max()) < 1e-14


def test_any_forcing_gives_a_flow_free_of_divergence_and_at_rest_on_the_walls(channel):
    generator = torch.Generator().manual_seed(1)
    force = torch.randn(2, 14, 8, dtype=torch.complex128, generator=generator)
    stokes = channel.stokes(0.02, 0.1)
    flow = channel.solve_flow(stokes, force)
    assert float(flow.abs().max()) > 0.1
    divergence = channel.ik * flow[0] + channel.slope(flow[1])
    assert float(divergence[1:-1].abs().max()) < 1e-12
    assert float(flow[:, [0, -1]].abs().max()) == 0
    assert float(flow[1, :, 0].abs().max()) == 0
    # What viscosity and inertia leave of the force is a gradient.
    rest = (force - flow + 0.1 * 0.02 * channel.laplacian(flow))[:, 1:-1, 1:]
    pressure = channel.solve(stokes.pressure, torch.cat([-1j * force[0], force[1]]))
    assert float((rest[0] - (channel.ik * pressure)[1:-1, 1:]).abs().max()) < 1e-11
    assert float((rest[1] - channel.slope(pressure)[1:-1, 1:]).abs().max()) < 1e-11


def test_pressure_of_a_known_split():
    channel = Channel((16, 28), 3.0, -0.5, 1.5)
    a, b = 2 * math.pi / channel.length, math.pi / 2
    x, z = grid(channel)
    # u = curl of a stream function that is zero on the walls, and the gradient of q.
    q = torch.cos(a * x) * torch.exp(z) + z**3
    force = torch.stack(
        [
            b * torch.cos(2 * a * x) * torch.cos(b * (z + 0.5))
            - a * torch.sin(a * x) * torch.exp(z),
            2 * a * torch.sin(2 * a * x) * torch.sin(b * (z + 0.5))
            + torch.cos(a * x) * torch.exp(z)
            + 3 * z**2,
        ]
    )
    found = channel.values(channel.pressure(channel.modes(force)))
    # The mean of z^3 over the height is 5 / 8.
    assert float((found - (q - 5 / 8)).abs().max()) < 1e-10


def test_the_growing_wave_of_poiseuille_flow():
    # Orr-Sommerfeld at Re = 10000, wave number 1: Orszag, J. Fluid Mech. 50, 1971: c = 0.23752649 +
    # 0.00373967 i.
    n, reynolds = 64, 1e4
    s, first = lobatto(n)
    second = first @ first
    inner = slice(1, n - 1)
    # Fourth derivative with both conditions at the walls: w = (1 - s^2) v.
    scale = np.diag(np.append(np.append(0, 1 / (1 - s[inner] ** 2)), 0))
    fourth = (
        np.diag(1 - s**2) @ second @ second - 8 * np.diag(s) @ first @ second - 12 * second
    ) @ scale
    eye = np.eye(n)
    shear = 1 - s**2
    left = (
        (fourth - 2 * second + eye) / (1j * reynolds) * -1
        + np.diag(shear) @ (second - eye)
        + 2 * eye
    )
    values, vectors = scipy.linalg.eig(left[inner, inner], (second - eye)[inner, inner])
    best = np.argmax(np.where(np.abs(values) < 2, values.imag, -np.inf))
    speed = values[best]
    assert abs(speed - (0.23752649 + 0.00373967j)) < 1e-8

    channel = Channel((4, n), 2 * math.pi, -1.0, 1.0)
    w = np.zeros(n, complex)
    w[inner] = vectors[:, best]
    wave = torch.zeros(2, n, 2, dtype=torch.complex128)
    wave[1, :, 1] = torch.from_numpy(w / np.abs(w).max()) * 1e-7
    wave[0, :, 1] = 1j * channel.slope(wave[1])[:, 1]
    x = wave.clone()
    x[0, :, 0] = torch.from_numpy(shear)
    dt, steps = 0.02, 100
    stepper = flow_stepper(channel, 1 / reynolds, 2 / reynolds, dt)
    for _ in range(steps):
        x = stepper.step(x)
    ratio = complex(
        torch.vdot(wave[1, :, 1], x[1, :, 1]) / torch.vdot(wave[1, :, 1], wave[1, :, 1])
    )
    found = 1j * np.log(ratio) / (dt * steps)
    assert abs(found - speed) < 2e-6


def test_rate_of_a_known_flow(channel):
    u = torch.full(channel.fine, 0.3, dtype=torch.float64).T
    assert channel.rate(u, 0 * u) == pytest.approx(0.3 * math.pi * 16 / 3.0)
    assert channel.rate(0 * u, u) > channel.rate(0 * u, u / 2) > 0
