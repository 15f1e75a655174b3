"""Schedule, noise, pushforward and failure of a training step; a golden run; one batch learnt by
heart.
"""

import dataclasses
import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch._dynamo.backends.debugging import aot_eager

from golden_answers import compare, made_in_float64
from wavelit.data.batch import Batch
from wavelit.data.datamodule import WellDataModule
from wavelit.errors import WavelitError
from wavelit.model.wavelit import WaveLiT
from wavelit.training.config import TrainConfig
from wavelit.training.finite import FiniteValues
from wavelit.training.module import (
    EMA,
    EmulatorModule,
    judged_by,
    parameter_groups,
    window_inputs,
    window_loss,
)
from wavelit.training.run import build_model
from wavelit.training.schedule import learning_rate_factor
from waves import write_waves

SMALL = {"embed_dim": 16, "num_heads": 2, "depth": 2, "levels": 1, "num_scales": 2}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> WellDataModule:
    return WellDataModule(
        write_waves(tmp_path_factory.mktemp("waves") / "plane_waves"),
        n_steps_output=3,
        batch_size=4,
    )


def module_for(data: WellDataModule, **changes) -> EmulatorModule:
    config = TrainConfig(**{"steps": 10, **changes})
    module = EmulatorModule(
        build_model(data, **SMALL), config, seed=1, batch_size=4, field_names=data.field_names
    )
    # What Lightning's trainer tells a module that stands alone.
    module._fabric = None
    module.log = lambda *args, **kwargs: None
    return module


def batch_of(data: WellDataModule):
    dataset = data.train_dataset
    return dataset.collate(dataset.__getitems__([0, 5, 11, 17]))


def at_step(module: EmulatorModule, step: int) -> EmulatorModule:
    module._trainer = SimpleNamespace(global_step=step, global_rank=0)
    return module


@pytest.mark.parametrize("schedule", ["cosine", "wsd"])
def test_schedule_rises_stays_and_ends_at_zero(schedule):
    config = TrainConfig(steps=100, schedule=schedule, warmup=0.1)
    rates = [learning_rate_factor(p / 100, config) for p in range(101)]
    assert rates[0] == 0
    assert rates[5] == pytest.approx(0.5)
    assert rates[10] == pytest.approx(1)
    assert rates[100] == pytest.approx(0, abs=1e-12)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))
    assert rates[55] == pytest.approx(0.5 if schedule == "cosine" else 1)


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({}, "none of them"),
        ({"steps": 1, "minutes": 1.0}, "steps and minutes"),
        ({"samples": 0}, "samples must be positive"),
        ({"steps": 1, "pushforward": 0}, "pushforward"),
        ({"steps": 1, "unroll": 3}, "unroll must be a power of two, not 3"),
        ({"steps": 1, "unroll": 0}, "unroll must be at least 1"),
        ({"steps": 1, "unroll": 2, "pushforward": 2}, "leave one of them at 1"),
        ({"steps": 1.5}, "steps must be a whole number, not 1.5"),
        ({"steps": float("inf")}, "steps must be a whole number, not inf"),
        ({"steps": 1, "lr": "fast"}, "lr must be a number, not 'fast'"),
        ({"steps": 1, "noise": float("nan")}, "noise must be a number, not nan"),
    ],
)
def test_budgets_are_checked(budget, message):
    with pytest.raises(WavelitError, match=message):
        TrainConfig(**budget)


def test_whole_numbers_of_any_type_are_written_as_such():
    recipe = TrainConfig(samples=np.int64(12), validate_every=1e2, lr=np.float32(0.01), noise=0)
    values = (recipe.samples, recipe.validate_every, recipe.lr, recipe.noise)
    assert [type(value) for value in values] == [int, int, float, float]


def test_samples_make_whole_steps():
    assert TrainConfig(samples=100).total_steps(8) == 13
    assert TrainConfig(steps=7).total_steps(8) == 7
    assert TrainConfig(minutes=1.0).total_steps(8) is None


def test_only_matrices_and_kernels_decay(data):
    model = build_model(data, **SMALL)
    decay, keep = parameter_groups(model, 0.1)
    names = {id(p): name for name, p in model.named_parameters()}
    decayed = {names[id(p)].rsplit(".", 1)[-1] for p in decay["params"]}
    assert decayed == {"weight"}
    assert len(decay["params"]) + len(keep["params"]) == len(names)
    assert keep["weight_decay"] == 0


def test_noise_moves_inputs_and_follows_from_seed_and_step(data):
    module, batch = module_for(data, noise=0.5, noise_end=1.0), batch_of(data)
    once, again, later = (at_step(module, step)._inputs(batch).fields for step in (3, 3, 4))
    torch.testing.assert_close(once, again, rtol=0, atol=0)
    assert not torch.allclose(once, later)
    assert at_step(module, 3)._inputs(batch).batch is batch, "the target stays clean"
    sigma = float(module.model.normalizer.delta_std)
    noises = [at_step(module, step)._inputs(batch).fields - batch.fields for step in range(50)]
    sizes = torch.cat([noise.flatten(1).std(1) for noise in noises]) / sigma
    assert float(sizes.max()) <= 0.55, (
        "no sample has more than the largest, up to the spread of a finite draw"
    )
    assert float(sizes.mean()) == pytest.approx(0.25, abs=0.03)
    assert float(sizes.std()) == pytest.approx(0.5 / 12**0.5, abs=0.03), (
        "every sample has a size of its own"
    )


def test_noise_falls_late_in_training(data):
    recipe = TrainConfig(steps=60, noise=0.4, noise_end=0.25)
    sizes = [recipe.noise_at(progress) for progress in (0.0, 0.5, 2 / 3, 5 / 6, 1.0)]
    assert sizes == pytest.approx([0.4, 0.4, 0.4, 0.25, 0.1])
    module, batch = module_for(data, noise=0.4, noise_end=0.25), batch_of(data)
    still = module_for(data, noise=0.4, noise_end=1.0)
    module.total_steps = still.total_steps = 60
    moved = [at_step(each, 59)._inputs(batch).fields - batch.fields for each in (module, still)]
    share = recipe.noise_at(59 / 60) / 0.4
    torch.testing.assert_close(moved[0], share * moved[1], atol=1e-5, rtol=1e-3)
    with pytest.raises(WavelitError, match="noise_end must be at least 0 and at most 1"):
        TrainConfig(steps=1, noise_end=2)


def test_late_training_predicts_more_steps_in_a_row():
    config = TrainConfig(steps=1, unroll=8, unroll_from=0.4)
    lengths = [config.unroll_at(progress / 10 + 0.01) for progress in range(10)]
    assert lengths == [1, 1, 1, 1, 2, 2, 4, 4, 8, 8]
    assert {TrainConfig(steps=1).unroll_at(progress) for progress in (0.0, 0.9, 1.0)} == {1}
    assert TrainConfig(steps=1, unroll=2, unroll_from=1.0).unroll_at(1.0) == 2


def test_an_unroll_has_gradients_through_all_its_steps(data):
    config = TrainConfig(steps=1, noise=0.0, unroll=4, unroll_from=0.0, field_loss="mse")
    torch.manual_seed(0)
    module = module_for(data)
    model, batch = module.model, batch_of(data)
    torch.nn.init.normal_(model.head.weight, std=0.1)
    more = batch.target.repeat(1, 4, *(1,) * (batch.target.ndim - 2))[:, :4]
    batch = batch._replace(target=more + 0.1 * torch.randn_like(more))
    inputs = window_inputs(model, batch, config, np.random.default_rng(0), 0.7)
    assert (inputs.first, inputs.steps, len(inputs.fields)) == (0, 4, 1)
    judged = judged_by(model, config)
    loss = window_loss(model, judged, inputs)
    # The definition, with the model's own next state.
    one, fields, due = batch.first(1), batch.fields[:1], []
    for step in range(4):
        state, beside = fields[:, -1], one.beside(step)
        true = model.normalizer.increment(one.target[:, step] - state)
        due.append(model.loss(model.increment(fields, *beside), true, 1.0))
        fields = torch.cat([fields[:, 1:], model(fields, *beside)[:, None]], 1)
    torch.testing.assert_close(loss, sum(due) / 4)
    whole = torch.autograd.grad(loss, model.skip.weight, retain_graph=True)[0]
    wanted = torch.autograd.grad(sum(due) / 4, model.skip.weight)[0]
    torch.testing.assert_close(whole, wanted)
    fields = batch.fields[:1].clone().requires_grad_()
    last = window_loss(model, judged, inputs._replace(fields=fields))
    assert torch.autograd.grad(last, fields)[0].abs().sum() > 0


# Half a minute by itself: ran well on 0610d9e.
@pytest.mark.slow
def test_a_compiled_step_has_its_loss_in_one_graph(data, monkeypatch):
    """Increment and loss are one graph, whatever the batch, with the loss and gradients of eager
    execution.
    """
    graphs = []

    def counted(graph, examples):
        graphs.append(graph)
        return aot_eager(graph, examples)

    def compile_counted(function, dynamic):
        return plain(function, dynamic=dynamic, fullgraph=True, backend=counted)

    plain = torch.compile
    monkeypatch.setattr(torch, "compile", compile_counted)
    torch.compiler.reset()
    model = module_for(data).model
    torch.nn.init.normal_(model.head.weight, std=0.1)
    config = TrainConfig(steps=1, noise=0.0)
    eager, compiled = (
        judged_by(model, dataclasses.replace(config, compile=on)) for on in (False, True)
    )
    whole = batch_of(data)
    for size in range(2, 12):
        batch = Batch(*(None if x is None else x[:1].repeat_interleave(size, 0) for x in whole))
        inputs = window_inputs(model, batch, config, np.random.default_rng(0), 0.0)
        found = []
        for judged in (eager, compiled):
            loss = window_loss(model, judged, inputs)
            found.append((loss, torch.autograd.grad(loss, model.skip.weight)[0]))
        torch.testing.assert_close(found[1], found[0], atol=1e-5, rtol=1e-4)
    # One for the first size, and one for all others.
    assert len(graphs) == 2


def test_pushforward_feeds_the_model_its_own_states(data):
    module, batch = module_for(data, noise=0.0, pushforward=3, pushforward_from=0.5), batch_of(data)
    torch.nn.init.normal_(module.model.head.weight, std=0.1)
    fields = at_step(module, 4)._inputs(batch).fields
    torch.testing.assert_close(
        fields, batch.fields, msg="before its share of the budget nothing is unrolled"
    )
    unrolled = set()
    for step in range(5, 30):
        _, fields, n, steps, _ = at_step(module, step)._inputs(batch)
        assert steps == 1
        unrolled.add(n)
        if n:
            history = batch.fields
            with torch.no_grad():
                for _ in range(n):
                    history = torch.cat([history[:, 1:], module.model(history)[:, None]], 1)
            torch.testing.assert_close(fields, history)
            assert not fields.requires_grad
    assert unrolled == {0, 1, 2}


def test_a_loss_that_is_not_finite_names_step_and_samples(data):
    module, batch = at_step(module_for(data), 3), batch_of(data)
    torch.nn.init.constant_(module.model.head.bias, math.nan)
    with pytest.raises(WavelitError, match=r"became nan at step 3 on samples \[0, 5, 11, 17\]"):
        module.training_step(batch, 0)


def test_values_that_are_read_late_name_their_own_step(data):
    module = module_for(data)
    module.finite = FiniteValues(every=3)
    for step, value in enumerate((1.0, math.inf)):
        module.finite.note(torch.tensor(value), "gradient", step, torch.tensor([5, step]))
    message = r"the gradient became inf at step 1 on samples \[5, 1\] of the training split"
    # No checkpoint holds what came of it.
    with pytest.raises(WavelitError, match=message):
        module.on_save_checkpoint({})
    module.on_save_checkpoint({})
    for step in range(2):
        module.finite.note(torch.tensor(math.nan), "training loss", step, "of a, b")
    with pytest.raises(
        WavelitError, match=r"training loss became nan at step 0 on samples of a, b"
    ):
        module.finite.note(torch.tensor(1.0), "gradient", 2, "of a, b")


def test_the_average_forgets_its_start():
    """With the decay's warm-up the average of a ramp follows it; a fixed 0.999 would stay at the
    start.
    """
    ema = EMA(0.999)
    update = ema._kwargs["multi_avg_fn"]
    average = [torch.zeros(1)]
    for n in range(300):
        update(average, [torch.full((1,), 1.0)], torch.tensor(n))
    assert float(average[0]) == pytest.approx(1, abs=1e-3)


def train_plainly(model: WaveLiT, batches, lr: float, kind: str = "mse") -> list[float]:
    optimiser = torch.optim.AdamW(parameter_groups(model, 0.01), lr=lr)
    losses = []
    for batch in batches:
        target = model.normalizer.increment(batch.target[:, 0] - batch.fields[:, -1])
        loss = model.loss(model.increment(batch.fields), target, 0.3, kind=kind)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


def test_one_batch_is_learnt_by_heart(data):
    losses = train_plainly(build_model(data, **SMALL), [batch_of(data)] * 150, lr=1e-2)
    assert losses[-1] < 0.05 * losses[0]


def test_twenty_steps_give_the_golden_losses(data, record_property):
    """Guards every refactoring and optimisation."""
    stream, dataset = data.train_sampler, data.train_dataset
    batches = [dataset.collate(dataset.__getitems__(stream.indices(step))) for step in range(20)]
    batches = [b._replace(fields=b.fields.double(), target=b.target.double()) for b in batches]
    with made_in_float64():
        model = build_model(data, "nano-0.1", **SMALL, history="states", band_scales=True)
        # Two scales leave four tokens along an axis.
        default = build_model(data, **{**SMALL, "num_scales": 1})
    found = {
        "losses": train_plainly(model, batches, lr=4e-3),
        "nano": train_plainly(default, batches, lr=4e-3, kind="rmse"),
    }
    compare("loss_20_steps", found, record_property)
