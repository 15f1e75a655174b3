"""Networks of the user's own: wrapped, trained, continued, loaded and scored as a WaveLiT is."""

import json

import numpy as np
import pytest
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.strategies import SingleDeviceStrategy
from safetensors.torch import load_file
from torch import nn

import wavelit
from runs import differences, wave_dataset  # noqa: F401, a fixture
from wavelit.cli.program import main
from wavelit.errors import WavelitError
from wavelit.model.emulator import IncrementEmulator
from wavelit.model.network import Channels, NetworkEmulator
from wavelit.model.normalizer import Normalizer
from wavelit.training.checkpoint_files import load_checkpoint

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("undrawn")]

RECIPE = {"checkpoint_every": 2, "lr": 1e-3}


def conv(seed: int = 0, norm: bool = True) -> nn.Module:
    torch.manual_seed(seed)
    ends = [nn.Conv2d(*ab, 3, padding=1, padding_mode="circular") for ab in ((4, 6), (6, 1))]
    return nn.Sequential(ends[0], nn.BatchNorm2d(6) if norm else nn.Identity(), nn.GELU(), ends[1])


class Spectral(nn.Module):
    """A network with complex weights, and a state that holds more than tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.1 * torch.randn(1, 4, 16, 9, dtype=torch.complex64))

    def forward(self, x):
        seen = torch.fft.rfft2(x)
        return torch.fft.irfft2((seen * self.weight).sum(1, keepdim=True), s=x.shape[-2:])

    def state_dict(self, *args, destination=None, prefix="", keep_vars=False):
        state = super().state_dict(destination=destination, prefix=prefix, keep_vars=keep_vars)
        state["_metadata"] = {"made": "with a lambda", "by": conv}
        return state


class Returns(nn.Module):
    """A network that returns what it is told to."""

    def __init__(self, change) -> None:
        super().__init__()
        self.layer, self.change = nn.Conv2d(4, 1, 1), change

    def forward(self, x):
        return self.change(self.layer(x))


class Kept(nn.Module):
    """A network that keeps its last output, a tensor with a history."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(4, 1, 1)
        self.last = self.layer.weight * 2

    def forward(self, x):
        return self.layer(x)


@pytest.fixture(scope="module", name="run")
def network_run(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks") / "run"
    model = wavelit.fit(folder, dataset, conv(), steps=6, validate_every=3, **RECIPE)
    return folder, model


def test_a_state_and_an_increment_are_the_same_function():
    """u + sigma_D y and m + s z are the next state in physical units."""
    torch.manual_seed(0)
    fields = 3 + torch.randn(2, 2, 2, 8, dtype=torch.float64)
    found = {}
    for predicts in ("increment", "state"):
        model = NetworkEmulator(nn.Conv1d(4, 2, 1).double(), predicts)
        nn.init.zeros_(model.network.weight)
        model.network.bias.data = torch.tensor([1.0, -2.0], dtype=torch.float64)
        model.bind(Channels(2, 0, 0, 2, 1))
        model.double()
        model.normalizer.mean.copy_(torch.tensor([3.0, 4.0]))
        model.normalizer.std.copy_(torch.tensor([2.0, 5.0]))
        model.normalizer.delta_std.copy_(torch.tensor([0.1, 0.2]))
        found[predicts] = model(fields)
    last = fields[:, -1]
    step = torch.tensor([0.1, -0.4], dtype=torch.float64).view(2, 1)
    torch.testing.assert_close(found["increment"], last + step)
    due = torch.tensor([5.0, -6.0], dtype=torch.float64).view(2, 1).expand_as(last)
    torch.testing.assert_close(found["state"], due)


def test_channels_are_history_constants_scalars():
    seen = {}

    class Look(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(torch.ones(()))

        def forward(self, *given):
            seen["given"] = given
            return self.gain * torch.zeros(2, 2, 5)

    for takes in ("channels", "fields"):
        model = NetworkEmulator(Look(), takes=takes)
        model.bind(Channels(2, 1, 2, 3, 1))
        fields, constants = torch.randn(2, 3, 2, 5), torch.randn(2, 1, 5)
        scalars = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        model(fields, constants, scalars)
        if takes == "channels":
            (x,) = seen["given"]
            parts = [fields.flatten(1, 2), constants, scalars[:, :, None].expand(2, 2, 5)]
            torch.testing.assert_close(x, torch.cat(parts, 1))
        else:
            for one, due in zip(seen["given"], (fields, constants, scalars), strict=True):
                torch.testing.assert_close(one, due)


def test_a_run_is_like_that_of_a_wavelit(run, dataset, capsys):
    folder, model = run
    record = json.loads((folder / "model.json").read_text())
    assert record == {
        "network": "torch.nn.modules.container.Sequential",
        "predicts": "increment",
        "takes": "channels",
    }
    loaded = wavelit.load(folder, model=conv(1))
    assert not differences(model.state_dict(), loaded.state_dict())
    best = wavelit.load(folder, "best", model=conv(1))
    assert best.network[0].weight.shape == (6, 4, 3, 3)
    scores = wavelit.evaluate(folder, model=conv(2))
    again = wavelit.evaluate(loaded, wavelit.WellDataModule(dataset))
    theirs, ours = (next(iter(each.scores.values())).one_step for each in (scores, again))
    np.testing.assert_allclose(ours, theirs)
    assert next(iter(scores.scores)).startswith("Sequential 0.00M")
    assert "Sequential" in (folder / "report-valid.html").read_text()
    assert loaded.signature.field_names == ("height",)
    paths = wavelit.record_rollout(folder, model=conv(3))
    assert {path.suffix for path in paths} >= {".hdf5", ".png", ".gif"}


def test_buffers_are_kept_beside_the_averaged_weights(run):
    """Averages of a batch normalisation are the network's own, counted once a step."""
    folder, model = run
    norm = model.network[1]
    assert int(norm.num_batches_tracked) == 6
    assert float(norm.running_mean.abs().max()) > 0
    state = load_checkpoint(folder / "checkpoints" / "last.ckpt")
    current = state["current_model_state"]["model.network.1.running_mean"]
    torch.testing.assert_close(norm.running_mean, current, rtol=0, atol=0)
    averaged, last = (
        state[key]["model.network.0.weight"] for key in ("state_dict", "current_model_state")
    )
    assert not torch.equal(averaged, last)


class Stop(Callback):
    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == 4:
            raise KeyboardInterrupt


def test_what_is_frozen_in_a_network_stays_so(dataset, tmp_path):
    """A part in evaluation mode keeps it, in training too; a network that is all in it does not."""
    network = conv()
    network[1].eval()
    network[1].running_mean += 1
    model = wavelit.fit(tmp_path / "run", dataset, network, steps=2, **RECIPE)
    assert (model.network[1].running_mean == 1).all()
    network = conv().eval()
    model = wavelit.fit(tmp_path / "other", dataset, network, steps=2, **RECIPE)
    assert not (model.network[1].running_mean == 0).any()


@pytest.mark.parametrize("make", [conv, Spectral])
def test_resume_is_bit_for_bit(make, dataset, tmp_path):
    torch.manual_seed(3)
    whole = wavelit.fit(tmp_path / "whole", dataset, make(), steps=6, **RECIPE)
    torch.manual_seed(3)
    with pytest.raises((WavelitError, KeyboardInterrupt)):
        wavelit.fit(tmp_path / "cut", dataset, make(), steps=6, callbacks=[Stop()], **RECIPE)
    rest = wavelit.resume(tmp_path / "cut", make())
    assert not differences(whole.state_dict(), rest.state_dict())


def test_complex_weights_are_trained_clipped_averaged_and_stored(dataset, tmp_path):
    torch.manual_seed(0)
    network = Spectral()
    before = network.weight.detach().clone()
    folder = tmp_path / "run"
    model = wavelit.fit(folder, dataset, network, steps=5, clip=0.01, **RECIPE)
    weight = model.network.weight.detach()
    assert weight.is_complex()
    assert (weight - before).imag.abs().max() > 0
    stored = load_file(folder / "weights" / "model.safetensors")["network.weight"]
    assert stored.shape == (*weight.shape, 2)
    loaded = wavelit.load(folder, model=Spectral())
    torch.testing.assert_close(loaded.network.weight.detach(), weight, rtol=0, atol=0)


def test_a_run_without_its_network_says_so(run, tmp_path, capsys):
    folder, _ = run
    for call in (wavelit.load, wavelit.evaluate):
        with pytest.raises(WavelitError, match="give it in Python, as model=network") as error:
            call(folder)
        assert "\n" not in str(error.value)
    for words in (["evaluate", str(folder)], ["rollout", str(folder)]):
        assert main(words) == 2
        assert "network of its user's own" in capsys.readouterr().err
    with pytest.raises(WavelitError, match="network of its user's own"):
        wavelit.load(folder / "weights")


def test_a_run_folder_is_data(run, tmp_path):
    """Whatever it names is not imported."""
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(run[0], folder)
    record = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(record | {"network": "antigravity.Net"}))
    with pytest.raises(WavelitError, match=r"antigravity\.Net"):
        wavelit.load(folder)
    assert "antigravity" not in __import__("sys").modules
    wavelit.load(folder, model=conv())
    for damage in ({"predicts": 3}, {"takes": None}):
        (folder / "model.json").write_text(json.dumps(record | damage))
        with pytest.raises(WavelitError, match="damaged"):
            wavelit.load(folder, model=conv())


def test_another_network_than_the_run_s(run):
    folder, _ = run
    with pytest.raises(WavelitError, match="has shape"):
        wavelit.load(folder, model=conv(norm=False))
    with pytest.raises(WavelitError, match=r"predicts the increment .* predicts the state"):
        wavelit.load(folder, model=wavelit.wrap(conv(), predicts="state"))
    with pytest.raises(WavelitError, match="trained to the end"):
        wavelit.resume(folder, conv())


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: Returns(lambda y: y.detach().numpy()), "numpy array has no gradient"),
        (lambda: Returns(lambda y: (y, y)), "a tuple of 2; one torch tensor"),
        (lambda: Returns(lambda y: {"out": y}), "a dict of 1"),
        (lambda: Returns(lambda y: y[:, :, 1:]), r"real numbers \(B, C, \*S\) = \(2, 1, 16, 16\)"),
        (lambda: Returns(lambda y: y + 0j), "complex64"),
        (lambda: nn.Conv2d(3, 1, 1), "seen as 4 channels, T C"),
        (lambda: nn.Conv2d(4, 1, 1).double(), "fails on fields"),
        (lambda: nn.GELU(), "no parameters to train"),
        (lambda: Kept(), "cannot be copied, which averaged weights need"),
        (lambda: wavelit.wrap(conv(), "states"), "predicts 'states'"),
        (lambda: wavelit.wrap(conv(), takes="all"), "takes 'all'"),
        (lambda: wavelit.wrap(3), "network must be a Module"),
        (lambda: wavelit.wrap(NetworkEmulator(conv())), "emulator already"),
        (lambda: lambda x: x, "preset"),
        (lambda: IncrementEmulatorWithout(), "must set normalizer"),
    ],
)
def test_what_cannot_be_trained_is_named_and_nothing_written(model, message, dataset, tmp_path):
    with pytest.raises(WavelitError, match=message) as error:
        wavelit.fit(tmp_path / "run", dataset, model(), steps=2)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


class IncrementEmulatorWithout(IncrementEmulator):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)


class Own(IncrementEmulator):
    """The protocol itself: a subclass that defines `increment`."""

    spatial = 2

    def __init__(self) -> None:
        super().__init__()
        self.normalizer, self.layer = Normalizer(1), nn.Conv2d(1, 1, 3, padding=1)

    def increment(self, fields, constants=None, scalars=None):
        return self.layer(self.normalizer.fields(fields)[:, -1])


def test_a_subclass_is_taken_as_it_is(dataset, tmp_path, capsys):
    model = wavelit.fit(tmp_path / "run", dataset, Own(), steps=3, **RECIPE)
    assert isinstance(model, Own)
    assert model.normalizer.is_set
    assert "Own defines no wavelet loss: trained with wavelet_weight=0" in capsys.readouterr().out
    loaded = wavelit.load(tmp_path / "run", model=Own())
    assert not differences(model.state_dict(), loaded.state_dict())
    recorded = json.loads((tmp_path / "run" / "model.json").read_text())
    assert recorded == {"network": f"{__name__}.Own"}


def test_the_protocol_is_named_where_it_is_not_followed(dataset):
    model = NetworkEmulator(conv())
    with pytest.raises(WavelitError, match="met no dataset"):
        model(torch.zeros(1, 4, 1, 16, 16))


def test_what_is_lightning_s_is_passed_through(dataset, tmp_path):
    seen = []

    class Count(Callback):
        def on_train_batch_end(self, trainer, *_):
            seen.append((trainer.global_step, type(trainer.strategy).__name__))

    logger = CSVLogger(tmp_path, name="mine", version="")
    wavelit.fit(
        tmp_path / "run",
        dataset,
        conv(),
        steps=2,
        callbacks=[Count()],
        logger=logger,
        strategy=SingleDeviceStrategy("cpu"),
        num_nodes=1,
    )
    assert seen == [(1, "SingleDeviceStrategy"), (2, "SingleDeviceStrategy")]
    assert (tmp_path / "mine" / "metrics.csv").exists()
    assert (tmp_path / "run" / "logs" / "metrics.csv").exists()
    for given, message in (
        ({"callbacks": [3]}, "callbacks must be a Callback"),
        ({"logger": "csv"}, "logger must be a Logger"),
        ({"strategy": 3}, "strategy must be"),
        ({"strategy": "fast"}, "strategy='fast'"),
        ({"num_nodes": 0}, "num_nodes"),
    ):
        with pytest.raises(WavelitError, match=message):
            wavelit.fit(tmp_path / "other", dataset, conv(), steps=2, **given)
    assert not (tmp_path / "other").exists()
