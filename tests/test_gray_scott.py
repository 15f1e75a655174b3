"""Gray-Scott: exact kinetics and diffusion, growth of waves, fourth order, bounds, patterns that
last.
"""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.linalg import expm
from the_well.data import WellDataset

from wavelit.data.pocketwell import generate, gray_scott_reaction_diffusion
from wavelit.data.pocketwell.gray_scott_reaction_diffusion import (
    DIFFUSIVITIES,
    DT,
    DT_BEFORE_START,
    SPACING,
    START,
    SYSTEM,
    GrayScott,
    coordinates,
    initial_state,
    simulate,
    snapshot_times,
    steady_state,
)
from wavelit.data.pocketwell.system import SolverDivergedError
from wavelit.errors import WavelitError

pytestmark = pytest.mark.long

SHAPE = (32, 32)
GLIDERS, BUBBLES, MAZE, WORMS, SPIRALS, SPOTS = SYSTEM.parameters


def run(fields, feed, kill, dt, steps):
    solver = GrayScott(fields.shape[-2:], feed, kill, dt)
    modes = solver.modes(fields)
    for _ in range(steps):
        modes = solver.stepper.step(modes)
    return solver.fields(modes)


def uniform(a, b):
    return torch.tensor([a, b], dtype=torch.float64)[None, :, None, None].expand(1, 2, *SHAPE)


def generators(count, seed=0):
    return [np.random.default_rng((seed, i)) for i in range(count)]


def test_uniform_states_follow_the_kinetics():
    feed, kill = 0.03, 0.05
    exact = solve_ivp(
        lambda _, y: [
            feed * (1 - y[0]) - y[0] * y[1] ** 2,
            y[0] * y[1] ** 2 - (feed + kill) * y[1],
        ],
        (0, 40),
        [0.9, 0.4],
        method="DOP853",
        rtol=1e-12,
        atol=1e-14,
    ).y[:, -1]
    after = run(uniform(0.9, 0.4), feed, kill, 0.125, 320)
    assert float(after.std((-1, -2)).max()) < 1e-14
    assert after[0, :, 0, 0].numpy() == pytest.approx(exact, abs=2e-8)


def test_waves_decay_by_diffusion_and_loss():
    # Without A the reaction is silent; without B it is as well.
    x = torch.from_numpy(coordinates(SHAPE)["x"])[:, None].expand(SHAPE)
    wave = 0.1 * torch.sin(2 * math.pi * 3 * x / (SHAPE[0] * SPACING))
    k2 = (2 * math.pi * 3 / (SHAPE[0] * SPACING)) ** 2
    feed, kill, time = 0.04, 0.06, 30.0
    for fields, channel, mean, rate in (
        (torch.stack([1 + wave, 0 * wave]), 0, 1.0, DIFFUSIVITIES[0] * k2 + feed),
        (torch.stack([0 * wave, wave]), 1, 0.0, DIFFUSIVITIES[1] * k2 + feed + kill),
    ):
        # A is fed where it is missing: it must not be, for B to stay alone.
        source = feed if channel == 0 else 0.0
        solver = GrayScott(SHAPE, feed, kill, 1.0)
        solver.feed = source
        modes = solver.modes(fields[None])
        for _ in range(30):
            modes = solver.stepper.step(modes)
        after = solver.fields(modes)[0, channel]
        assert float((after - mean - math.exp(-rate * time) * wave).abs().max()) < 1e-14


@pytest.mark.parametrize("waves", [1, 2, 6])
def test_waves_on_the_uniform_state_follow_linear_theory(waves):
    # Long waves swing (complex rates), short ones decay, slowest near ten waves in the unit box.
    feed, kill = BUBBLES["F"], BUBBLES["k"]
    a, b = steady_state(feed, kill)
    k = 2 * math.pi * waves / (SHAPE[0] * SPACING)
    jacobian = np.array([[-feed - b * b, -2 * a * b], [b * b, 2 * a * b - feed - kill]])
    propagator = expm(30 * (jacobian - np.diag(DIFFUSIVITIES) * k**2))
    x = torch.from_numpy(coordinates(SHAPE)["x"])[:, None].expand(SHAPE)
    start = np.array([1e-7, 2e-7])
    fields = uniform(a, b) + torch.from_numpy(start)[None, :, None, None] * torch.cos(k * x)
    after = run(fields, feed, kill, 0.5, 60)
    amplitude = 2 * (after[0] * torch.cos(k * x)).mean((-1, -2)).numpy()
    expected = propagator @ start
    assert np.abs(amplitude - expected).max() < 1e-5 * np.abs(expected).max()


def test_only_bubbles_have_a_uniform_state_and_it_stands_still():
    assert [steady_state(p["F"], p["k"]) is not None for p in SYSTEM.parameters] == [
        0,
        1,
        0,
        0,
        0,
        0,
    ]
    feed, kill = BUBBLES["F"], BUBBLES["k"]
    a, b = steady_state(feed, kill)
    assert feed * (1 - a) == pytest.approx(a * b * b, rel=1e-12)
    assert a * b == pytest.approx(feed + kill, rel=1e-12)
    # Of the two roots the one with more B, which the reaction leaves alone.
    assert b > 0.3
    assert float((run(uniform(a, b), feed, kill, 2.0, 100) - uniform(a, b)).abs().max()) < 1e-12


def test_without_feed_and_kill_matter_is_conserved():
    fields = torch.from_numpy(initial_state(SHAPE, 0.02, 0.05, np.random.default_rng(1)))[None]
    after = run(fields, 0.0, 0.0, 0.5, 40)
    assert float(after.sum(1).mean()) == pytest.approx(float(fields.sum(1).mean()), abs=1e-14)
    # A has turned into B meanwhile.
    assert float(after[:, 0].mean()) < 0.9 * float(fields[:, 0].mean())


@pytest.mark.parametrize("parameters", [SPIRALS, BUBBLES])
def test_fourth_order_before_and_after_the_start_of_the_record(parameters):
    feed, kill = parameters["F"], parameters["k"]
    fields = torch.from_numpy(initial_state((64, 64), feed, kill, np.random.default_rng(3)))[None]
    for dt, span in ((DT_BEFORE_START, START), (DT, 60.0)):
        finest = run(fields, feed, kill, dt / 4, round(4 * span / dt))
        errors = [
            float((run(fields, feed, kill, step, round(span / step)) - finest).abs().max())
            for step in (dt, dt / 2)
        ]
        # Against a quarter of the step: an exact order four gives 4.09.
        assert 3.6 < math.log2(errors[0] / errors[1]) < 4.7
        # The step in use costs less than a thousandth of the spread.
        assert errors[0] < 1e-3 * float(finest[:, 1].std())
        fields = finest


@pytest.mark.parametrize("seed", range(3))
def test_starts_lie_between_none_and_all(seed):
    for parameters in (GLIDERS, BUBBLES):
        a, b = initial_state(
            (64, 64), parameters["F"], parameters["k"], np.random.default_rng(seed)
        )
        for field in (a, b):
            assert field.min() >= 0
            assert field.max() <= 1
            assert field.std() > 0.05
            # Smooth on the grid, across the seams as well.
            spectrum = np.abs(np.fft.fft2(field))
            far = np.abs(np.fft.fftfreq(64, 1 / 64)) > 24
            assert spectrum[far].max() < 1e-3 * spectrum.flat[1:].max()


def test_bubbles_start_in_both_ways():
    a, b = steady_state(BUBBLES["F"], BUBBLES["k"])
    means = [
        initial_state((64, 64), BUBBLES["F"], BUBBLES["k"], rng).mean((1, 2))
        for rng in generators(16)
    ]
    about = [bool(np.allclose(mean, (a, b), atol=1e-12)) for mean in means]
    assert 3 <= sum(about) <= 13


def test_patterns_keep_their_bounds_and_are_resolved():
    times = snapshot_times((64, 64), 6)
    for parameters in (WORMS, SPIRALS):
        record = simulate((64, 64), times, parameters, generators(1)).fields
        a, b = (record[name] for name in "AB")
        assert b.min() > -5e-4
        assert b.max() < 1
        assert a.min() > 0.05
        assert a.max() < 1 + 1e-4
        # The shortest waves hold little of the amplitude.
        modes = np.abs(np.fft.rfft2(b[0]))
        waves = np.maximum(np.abs(np.fft.fftfreq(64))[:, None], np.fft.rfftfreq(64)[None])
        tail = np.sqrt((modes[:, waves > 0.45] ** 2).sum(-1) / (modes[:, waves > 0] ** 2).sum(-1))
        assert tail.max() < 0.02


def test_a_start_that_dies_out_is_drawn_again():
    shape = SYSTEM.shapes["tiny"]
    times = snapshot_times(shape, 8)
    rngs = generators(3)
    together = simulate(shape, times, GLIDERS, rngs).fields["B"]
    assert np.ptp(together, axis=(2, 3)).min() > GLIDERS["F"] + GLIDERS["k"]
    # At least one first draw had died: its generator was asked again.
    again = generators(3)
    for rng in again:
        initial_state(shape, GLIDERS["F"], GLIDERS["k"], rng)
    asked = [
        a.bit_generator.state != b.bit_generator.state for a, b in zip(rngs, again, strict=True)
    ]
    assert any(asked)
    # Bit by bit what each gives alone.
    for i in range(3):
        alone = simulate(shape, times, GLIDERS, [generators(3)[i]]).fields["B"]
        assert (alone[0] == together[i]).all()


def test_parameters_without_patterns_are_named(monkeypatch):
    monkeypatch.setattr(gray_scott_reaction_diffusion, "DRAWS", 3)
    with pytest.raises(
        WavelitError, match=r"no pattern outlived t = 460 in 3 draws at F = 0.001, k = 0.2"
    ):
        simulate((16, 16), snapshot_times((16, 16), 13), {"F": 0.001, "k": 0.2}, generators(1))


def test_divergence_is_noticed():
    with pytest.raises(SolverDivergedError) as caught:
        simulate(SHAPE, snapshot_times(SHAPE, 2), {"F": 0.03, "k": -3.0}, generators(1))
    assert caught.value.step > 0


def test_small_holds_every_regime_in_every_split():
    for count in SYSTEM.size("small").trajectories.values():
        assert count % len(SYSTEM.parameters) == 0
    assert dict(SYSTEM.size("small").trajectories) == {"train": 24, "valid": 6, "test": 12}
    assert dict(SYSTEM.size("tiny").trajectories) == {"train": 4, "valid": 2, "test": 2}


def test_the_wells_reader(tmp_path):
    folder = generate(SYSTEM.name, "tiny", root=tmp_path, processes=1, progress=False)
    data = WellDataset(path=str(folder), well_split_name="train", n_steps_input=4)
    assert data.metadata.field_names == {0: ["A", "B"], 1: [], 2: []}
    assert data.metadata.constant_scalar_names == ["F", "k"]
    assert len(list((folder / "data" / "train").glob("*.hdf5"))) == 4
    assert data[0]["boundary_conditions"].tolist() == [[2, 2], [2, 2]]
