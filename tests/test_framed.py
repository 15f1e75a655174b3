"""A network in WaveLiT's frame: what of a WaveLiT is left, and that it trains and goes on."""

import pytest
import torch
from torch import nn

from systems import write_system
from wavelit.benchmarks import framed
from wavelit.benchmarks.entries import FIRST, IN_FRAME, build
from wavelit.benchmarks.second import fingerprint
from wavelit.data.datamodule import WellDataModule
from wavelit.errors import WavelitError
from wavelit.training.config import TrainConfig, TrainerConfig
from wavelit.training.module import EmulatorModule
from wavelit.training.run import build_model, fit, resume

pytestmark = pytest.mark.usefixtures("undrawn")

NAME = "FNO-0.5M in the frame"


@pytest.fixture
def seen(monkeypatch):
    """What the network was built with."""
    found = []

    def small(name, dim_in, dim_out, shape):
        found.append((name, dim_in, dim_out, tuple(shape)))
        return nn.Conv2d(dim_in, dim_out, 3, padding=1, padding_mode="circular")

    monkeypatch.setattr(framed, "rival", small)
    return found


def some(data):
    return next(iter(data.train_dataloader()))


@pytest.fixture(params=["waves", "flow", "heat"])
def data(request, tmp_path):
    """Periodic; a scalar and walls; a constant field, open sides and walls."""
    folder = write_system(tmp_path / "data", request.param, (4, 2, 2), n_steps=20)
    return WellDataModule(str(folder), batch_size=2)


def test_without_its_network_it_is_a_wavelit_without_tokens_and_blocks(data, seen):
    model = build(NAME, data, 0)
    whole = build_model(data, FIRST, 0, **IN_FRAME[NAME].model)
    config = whole.config
    n_sides = sum(kind != "periodic" for pair in config.boundary_conditions for kind in pair)
    n_in = config.n_steps_input * config.n_fields + config.n_constant_fields + config.n_scalars
    shape = tuple(data.metadata.spatial_resolution)
    assert seen == [("FNO-0.5M", n_in + 2 * n_sides, config.n_fields, shape)]
    # As after some training.
    torch.manual_seed(1)
    for own, its in ((model.frame.skip, whole.skip), (model.frame.detail, whole.detail)):
        for one, other in zip(own.parameters(), its.parameters(), strict=True):
            one.data.copy_(0.1 * torch.randn_like(one))
            other.data.copy_(one.data)
    batch = next(iter(data.train_dataloader()))
    given = (batch.fields, *batch.beside())
    torch.testing.assert_close(model.increment(*given), whole.increment(*given))
    torch.testing.assert_close(model(*given), whole(*given))
    assert torch.equal(model.kept, whole.kept)
    # The network is heard once its head is not zero.
    before = model.increment(*given)
    nn.init.ones_(model.head.weight)
    assert not torch.allclose(model.increment(*given), before)


def test_it_is_trained_and_goes_on_bit_for_bit(data, seen, tmp_path, monkeypatch):
    config = TrainConfig(steps=4, validate_every=4, checkpoint_every=2)
    trainer = TrainerConfig(accelerator="cpu", threads=1)
    start = build(NAME, data, 0).state_dict()
    whole = fit(tmp_path / "whole", data, build(NAME, data, 0), config, trainer).state_dict()
    assert not torch.equal(start["network.weight"], whole["network.weight"])
    step = EmulatorModule.training_step

    def cut(self, batch, batch_idx):
        if self.global_step == 3:
            raise KeyboardInterrupt
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(EmulatorModule, "training_step", cut)
        with pytest.raises(WavelitError, match="continue from step 2"):
            fit(tmp_path / "cut", data, build(NAME, data, 0), config, trainer)
    resumed = resume(tmp_path / "cut", model=build(NAME, data, 0)).state_dict()
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name


def test_hashes_tell_frames_and_networks_apart():
    hashes = {fingerprint(name, system) for name in IN_FRAME for system in ("", "shear_flow")}
    assert len(hashes) == 2 * len(IN_FRAME)
