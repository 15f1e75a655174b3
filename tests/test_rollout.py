"""Rollout: exact steppers, single steps repeated, any callable."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from wavelit.errors import WavelitError
from wavelit.evaluation.rollout import inference, persistence, rollout


def shift(fields, constants, scalars):
    """Exact linear advection by one cell a step."""
    return fields[:, -1].roll(1, dims=-1)


def turn(fields, constants, scalars):
    """Exact rotation of two channels by 2 pi / 50 a step."""
    c, s = math.cos(2 * math.pi / 50), math.sin(2 * math.pi / 50)
    re, im = fields[:, -1, 0], fields[:, -1, 1]
    return torch.stack([c * re + s * im, c * im - s * re], dim=1)


class Extrapolate(nn.Module):
    """Uses the whole history, the constants and the scalars; dropout shows the mode it runs in."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.9, dtype=torch.float64))
        self.dropout = nn.Dropout(0.5)
        self.frozen = nn.Dropout(0.5).eval()

    def forward(self, fields, constants, scalars):
        following = 2 * fields[:, -1] - fields[:, -2] + 0.1 * fields[:, 0]
        return self.frozen(
            self.dropout(self.gain * following + constants * scalars[:, :, None, None])
        )


def sample(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("grid", [(12,), (5, 12), (3, 4, 12)])
def test_advection_is_exact(grid):
    history = sample(2, 3, 1, *grid)
    states = rollout(shift, history, 30)
    assert states.shape == (2, 30, 1, *grid)
    for n in range(30):
        assert torch.equal(states[:, n], history[:, -1].roll(n + 1, dims=-1))


def test_rotation_returns_to_its_start_up_to_rounding():
    history = sample(2, 1, 2, 6, 5)
    states = rollout(turn, history, 50)
    torch.testing.assert_close(states[:, -1], history[:, -1], rtol=0, atol=1e-13)
    torch.testing.assert_close(states[:, 24], -history[:, -1], rtol=0, atol=1e-13)


def test_step_n_equals_n_single_steps():
    model, history = Extrapolate().eval(), sample(2, 3, 2, 6, 5)
    constants, scalars = sample(2, 2, 6, 5), sample(2, 2)
    states = rollout(model, history, 6, constants, scalars)
    window = list(history.unbind(1))
    for n in range(6):
        with torch.no_grad():
            window.append(model(torch.stack(window[-3:], dim=1), constants, scalars))
        assert torch.equal(states[:, n], window[-1])


def test_a_module_runs_in_evaluation_mode_and_comes_back():
    model, history = Extrapolate(), sample(2, 3, 2, 6, 5)
    constants, scalars = sample(2, 2, 6, 5), sample(2, 2)
    first = rollout(model, history, 4, constants, scalars)
    assert torch.equal(first, rollout(model, history, 4, constants, scalars))
    assert not first.requires_grad
    assert model.training
    assert model.dropout.training
    assert not model.frozen.training
    with pytest.raises(RuntimeError, match="stop"), inference(model):
        raise RuntimeError("stop")
    assert model.training


def test_history_is_left_alone():
    history = sample(2, 3, 1, 12)
    before = history.clone()
    rollout(shift, history, 5)
    assert torch.equal(history, before)


def test_excluded_cells_are_zero_after_every_step():
    history = sample(2, 2, 2, 6, 5)
    valid = torch.rand(2, 1, 6, 5, generator=torch.Generator().manual_seed(1)) > 0.4
    seen = []

    def step(fields, constants, scalars):
        seen.append(fields[:, -1].clone())
        return fields[:, -1] + 1

    states = rollout(step, history, 3, valid=valid)
    outside = ~valid.expand(2, 2, 6, 5)
    assert all(bool((states[:, n][outside] == 0).all()) for n in range(3))
    assert torch.equal(seen[2], states[:, 1])
    inside = valid.expand(2, 2, 6, 5)
    torch.testing.assert_close(states[:, 2][inside], history[:, -1][inside] + 3)


def test_persistence():
    history = sample(2, 3, 2, 6)
    assert torch.equal(persistence(history, None, None), history[:, -1])
    assert torch.equal(rollout(persistence, history, 4), history[:, -1:].expand(2, 4, 2, 6))


def test_values_that_are_not_finite_are_passed_on():
    states = rollout(
        lambda fields, constants, scalars: fields[:, -1] * 1e200, sample(1, 1, 1, 4), 3
    )
    assert bool(states[:, -1].isinf().all())


def test_errors_are_named():
    history = sample(2, 3, 2, 6)
    with pytest.raises(WavelitError, match="n_steps"):
        rollout(persistence, history, 0)
    with pytest.raises(WavelitError, match="next state"):
        rollout(lambda fields, constants, scalars: fields[:, -1:], history, 2)


def test_numpy_gives_numpy_in_the_type_of_the_weights():
    model, history = Extrapolate(), sample(2, 3, 2, 6, 5)
    constants, scalars = sample(2, 2, 6, 5), sample(2, 2)
    due = rollout(model, history, 4, constants, scalars).numpy()
    given = [x.numpy() for x in (history, constants, scalars)]
    assert np.array_equal(rollout(model, given[0], 4, *given[1:]), due)
    single = Extrapolate().float()
    states = rollout(single, given[0], 4, *(x.astype(">f8") for x in given[1:]))
    assert states.dtype == np.float32
    np.testing.assert_allclose(states, due, rtol=1e-4, atol=1e-5)
    # A function is given what came.
    assert rollout(shift, given[0].astype(">f8"), 2).dtype == np.float64
