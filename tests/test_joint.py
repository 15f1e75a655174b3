"""Joint training: the shares of systems, the balance of their losses, what a step takes of each,
and what is refused.
"""

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from systems import SMALL, joint_data, write_system
from wavelit.data.datamodule import WellDataModule
from wavelit.data.joint import JointDataModule
from wavelit.errors import WavelitError
from wavelit.training.joint import (
    JointModule,
    JointTrainConfig,
    RunningLoss,
    excess_weights,
)
from wavelit.training.joint_run import build_joint

pytestmark = pytest.mark.slow

SHARES = {"heat": 0.5}


@pytest.fixture(scope="module", name="unequal")
def unequal_systems(tmp_path_factory) -> dict[str, Path]:
    """96, 24 and 4 trajectories for training."""
    root = tmp_path_factory.mktemp("unequal")
    counts = {"waves": 96, "flow": 24, "heat": 4}
    return {
        name: write_system(root / name, name, (n, 1, 1), n_steps=7) for name, n in counts.items()
    }


# ------------------------------------------------------------------------------------- the data


@pytest.mark.parametrize("shares", [{}, {"waves": 0.25, "flow": 0.4}])
def test_each_system_has_the_share_that_was_asked_for_whatever_its_size(unequal, shares):
    sampler = joint_data(unequal, shares).train_sampler
    steps = 200
    seen = {name: [] for name in unequal}
    for step in range(steps):
        for name, indices in sampler.indices(step).items():
            assert len(indices) == 4
            seen[name] += indices
    for name in unequal:
        share = shares.get(name, 1.0)
        assert len(seen[name]) == pytest.approx(4 * share * steps, abs=4)
        # All windows of a small set come as often as one another.
        counts = np.bincount(seen["heat"])
        assert counts.max() - counts.min() <= 1
    assert set(sampler.names(0)) <= set(unequal)


def test_a_step_follows_from_seed_and_number_alone(three_systems):
    """Neither the order in which the systems are given, nor who else is there, nor where the stream
    begins matters.
    """
    data = joint_data(three_systems, SHARES)
    turned = joint_data(dict(reversed(three_systems.items())), SHARES)
    pair = joint_data({name: three_systems[name] for name in ("waves", "heat")}, SHARES)
    other = JointDataModule(three_systems, SHARES, seed=1)
    whole = [data.train_sampler.indices(step) for step in range(9)]
    assert whole == [turned.train_sampler.indices(step) for step in range(9)]
    for step, indices in enumerate(whole):
        rest = {name: chosen for name, chosen in indices.items() if name != "flow"}
        assert pair.train_sampler.indices(step) == rest
    assert other.train_sampler.indices(0) != whole[0]
    data.train_sampler.first_step, data.train_sampler.n_steps = 4, 9
    batches = list(data.train_dataloader())
    assert [list(batch) for batch in batches] == [list(indices) for indices in whole[4:]]
    for batch, indices in zip(batches, whole[4:], strict=True):
        for name, windows in batch.items():
            assert windows.indices.tolist() == indices[name]


def test_validation_goes_through_all_windows_of_all_systems(three_systems):
    loader = joint_data(three_systems).val_dataloader()
    batches = list(loader)
    assert len(batches) == len(loader)
    counted = dict.fromkeys(three_systems, 0)
    for batch in batches:
        ((name, windows),) = batch.items()
        counted[name] += len(windows.fields)
    assert counted == dict.fromkeys(three_systems, 2 * 6)


# --------------------------------------------------------------------------------- the training


def module_for(systems, **changes) -> tuple[JointModule, JointDataModule]:
    data = joint_data(systems)
    names = {name: system.field_names for name, system in data.systems.items()}
    config = JointTrainConfig(**{"steps": 10, "noise": 0.0, **changes})
    module = JointModule(build_joint(data, **SMALL), config, 0, 12, names)
    module._fabric = None
    module.logged = {}
    module.log = lambda name, value, **_: module.logged.__setitem__(name, float(value))
    strategy = SimpleNamespace(reduce=lambda value, reduce_op: value)
    module._trainer = SimpleNamespace(
        global_step=0, global_rank=0, world_size=1, strategy=strategy, lightning_module=module
    )
    return module, data


def first_batch(data: JointDataModule):
    return next(iter(data.train_dataloader()))


def test_losses_are_divided_by_their_running_means_within_bounds(three_systems):
    module, data = module_for(three_systems)
    losses = {"flow": 0.5, "heat": 1e-6, "waves": 100.0}
    for name, value in losses.items():
        module.running[name] = RunningLoss(value, 1000)
    assert module.weights(["flow", "heat", "waves"]) == pytest.approx([1 / 0.5, 5 / 0.5, 1 / 2.5])
    module, data = module_for(three_systems)
    total = module.training_step(first_batch(data), 0)
    # At the first step every running mean is the loss itself.
    assert total.item() == pytest.approx(1.0, rel=1e-5)
    each = [module.logged[f"train_loss/{name}"] for name in three_systems]
    assert module.logged["train_loss"] == pytest.approx(math.prod(each) ** (1 / 3), rel=1e-5)
    plain, data = module_for(three_systems, balance="sum")
    total = plain.training_step(first_batch(data), 0)
    each = [plain.logged[f"train_loss/{name}"] for name in three_systems]
    assert total.item() == pytest.approx(sum(each) / 3, rel=1e-5)


def test_the_gradient_is_that_of_the_geometric_mean(three_systems):
    """With running means that have settled, d(mean L_i / r_i) = d(mean log L_i)."""
    module, data = module_for(three_systems, wavelet_weight=0.0)
    batch = first_batch(data)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.02 * torch.ones_like(parameter))
    module.training_step(batch, 0)
    values = {name: running.value for name, running in module.running.items()}
    module.zero_grad()
    module.training_step(batch, 0).backward()
    ours = [p.grad.clone() for p in module.parameters() if p.grad is not None]
    assert {n: r.value for n, r in module.running.items()} == pytest.approx(values)
    module.zero_grad()
    logs = []
    for name, windows in batch.items():
        model = module.model[name]
        target = model.normalizer.increment(windows.target[:, 0] - windows.fields[:, -1])
        increment = model.increment(windows.fields, *windows.beside())
        logs.append(model.loss(increment, target, 0, kind=module.config.field_loss).log())
    torch.stack(logs).mean().backward()
    theirs = [p.grad for p in module.parameters() if p.grad is not None]
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_weights_by_excess_go_with_the_last_validation():
    weights = excess_weights({"a": 0.2, "b": 0.1, "c": math.inf}, {"a": 0.1, "b": 0.1, "c": 1.0})
    assert sum(weights.values()) == pytest.approx(3)
    assert weights["a"] == pytest.approx(2 * weights["b"])
    assert weights["c"] > weights["a"]


def test_a_running_mean_forgets_its_start():
    running = RunningLoss()
    running.update(100.0)
    assert running.value == 100.0
    for _ in range(200):
        running.update(1.0)
    assert running.value == pytest.approx(1, abs=0.2)


def test_a_step_leaves_the_systems_alone_that_are_not_in_it(three_systems):
    module, data = module_for(three_systems)
    batch = {name: windows for name, windows in first_batch(data).items() if name != "heat"}
    module.training_step(batch, 0).backward()
    # Else its last loss would stand in the logs of this step too.
    assert math.isnan(module.logged["train_loss/heat"])
    assert module.running["heat"].n == 0
    assert all(
        p.grad is None for key, p in module.model["heat"].named_parameters() if "skip" in key
    )
    assert module.model["flow"].skip.weight.grad is not None


def test_a_loss_that_is_not_finite_names_the_system(three_systems):
    module, data = module_for(three_systems)
    torch.nn.init.constant_(module.model["flow"].skip.weight, math.nan)
    with pytest.raises(
        WavelitError, match=r"loss of system 'flow' became nan at step 0 on samples"
    ):
        module.training_step(first_batch(data), 0)


# ------------------------------------------------------------------------------------------ runs


# ------------------------------------------------------------------------------- what is refused


def test_options_are_of_folders(three_systems):
    opened = WellDataModule(three_systems["waves"], batch_size=2)
    with pytest.raises(WavelitError, match="options batch_size are for folders"):
        JointDataModule([opened], batch_size=64)
    both = JointDataModule([opened, three_systems["flow"]], batch_size=3)
    assert {name: each.batch_size for name, each in both.systems.items()} == {"waves": 2, "flow": 3}


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"smoke": 0.5}, "share is given for 'smoke', which is no system: they are flow, waves"),
        ({"waves": 0.0}, "system 'waves': share must be"),
        ({"waves": 1.5}, "system 'waves': share must be"),
        ({"waves": 1e-6}, "system 'waves': share 1e-06 is below"),
        ({"waves": 0.5, "flow": 0.25}, "shares are at most 0.5: one system at least"),
    ],
)
def test_shares_are_checked(three_systems, shares, message):
    systems = {name: three_systems[name] for name in ("waves", "flow")}
    with pytest.raises(WavelitError, match=message):
        JointDataModule(systems, shares)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"balance": "even"}, "unknown balance 'even'"),
        ({"balance": "excess"}, "a reference belongs to balance excess"),
        ({"reference": {"a": 1.0}}, "a reference belongs to balance excess"),
        ({"balance": "excess", "reference": {"a": 0.0}}, "the reference of system 'a'"),
        ({"balance": "excess", "reference": 3}, "reference must name each system's VRMSE"),
    ],
)
def test_balances_are_checked(entries, message):
    with pytest.raises(WavelitError, match=message):
        JointTrainConfig(steps=1, **entries)


def test_a_reference_names_all_systems(three_systems):
    with pytest.raises(WavelitError, match=r"reference is of waves; the systems are flow, heat"):
        module_for(three_systems, balance="excess", reference={"waves": 0.1})


def test_a_trunk_has_the_kernels_of_the_narrowest_grid(tmp_path):
    """Where a kernel of 7 does not fit between walls, a shorter one is that of all systems."""
    narrow = write_system(tmp_path / "flow", "flow")
    waves = write_system(tmp_path / "waves", "waves")
    with pytest.warns(UserWarning, match="narrower than a kernel"):
        joint = build_joint(JointDataModule([narrow, waves]))
    # Four tokens from wall to wall.
    assert {system.config.mixers for system in joint.values()} == {"conv:7x3"}
    with pytest.raises(WavelitError, match="system 'flow': a kernel of 7 is wider"):
        build_joint(JointDataModule([narrow, waves]), mixers="conv:7")
