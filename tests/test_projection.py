"""The divergence-free part of vector fields: against a definition of its own, and as a model keeps
it.
"""

import h5py
import numpy as np
import pytest
import torch

import wavelit
from runs import ONE_THREAD, SMALL
from systems import SMALL as JOINT_SMALL
from wavelit.data.datamodule import WellDataModule
from wavelit.data.joint import JointDataModule
from wavelit.errors import WavelitError
from wavelit.model.config import WaveLiTConfig
from wavelit.model.export import export_model
from wavelit.model.wavelit import WaveLiT
from wavelit.ops.projection import divergence_free
from wavelit.training.config import TrainConfig
from wavelit.training.fine_tune import for_dataset
from wavelit.training.joint import JointTrainConfig
from wavelit.training.joint_run import build_joint, fit_joint
from wavelit.training.prepare import prepare, sign
from wavelit.training.run import build_model, fit

PERIODIC = (("periodic", "periodic"), ("periodic", "periodic"))


def band_limited(shape, components, seed=0):
    """Periodic fields of the lowest modes, (B, components, *shape)."""
    random = np.random.default_rng(seed)
    grids = np.meshgrid(*(2 * np.pi * np.arange(n) / n for n in shape), indexing="ij")
    fields = np.zeros((2, components, *shape))
    for field in fields.reshape(-1, *shape):
        for _ in range(6):
            modes = random.integers(-3, 4, len(shape))
            phase = sum(k * x for k, x in zip(modes, grids, strict=True))
            field += random.normal() * np.cos(phase + random.uniform(0, 2 * np.pi))
    return torch.from_numpy(fields)


def derivative(u, axis, cell):
    """Spectral, of a field (..., *S) along one of its axes."""
    dim = axis - len(cell)
    n = u.shape[dim]
    k = 2j * np.pi * torch.fft.fftfreq(n, cell[axis], dtype=torch.float64)
    shape = [1] * u.ndim
    shape[dim] = n
    return torch.fft.ifft(torch.fft.fft(u, dim=dim) * k.view(shape), dim=dim).real


@pytest.mark.parametrize(
    ("shape", "cell"), [((16, 24), (0.5, 0.25)), ((15, 9), (1.0, 1.0)), ((8, 10, 12), (1, 2, 0.5))]
)
def test_what_is_left_has_no_divergence_and_what_goes_is_a_gradient(shape, cell):
    d = len(shape)
    v = band_limited(shape, d)
    part = divergence_free(v, cell)
    divergence = sum(derivative(part[:, axis], axis, cell) for axis in range(d))
    assert divergence.abs().max() < 1e-10
    rest = v - part
    for a in range(d):
        for b in range(a):
            curl = derivative(rest[:, a], b, cell) - derivative(rest[:, b], a, cell)
            assert curl.abs().max() < 1e-10
    # The mean stays, twice is once, and the two parts are orthogonal.
    torch.testing.assert_close(part.flatten(2).mean(2), v.flatten(2).mean(2))
    torch.testing.assert_close(divergence_free(part, cell), part)
    assert abs(float((part * rest).sum())) < 1e-8
    single = divergence_free(v.float(), cell)
    torch.testing.assert_close(single, part.float(), atol=1e-5, rtol=1e-5)


def test_a_gradient_goes_whole_and_a_curl_stays():
    cell = (0.5, 0.25)
    psi = band_limited((16, 24), 1)[:, 0]
    slope = torch.stack([derivative(psi, axis, cell) for axis in (0, 1)], 1)
    turned = torch.stack([-slope[:, 1], slope[:, 0]], 1)
    assert divergence_free(slope, cell).abs().max() < 1e-10
    torch.testing.assert_close(divergence_free(turned, cell), turned)


def test_the_nyquist_mode_counts_as_constant_along_its_axis():
    v = torch.zeros(1, 2, 8, 8, dtype=torch.float64)
    v[:, 0] = (-1.0) ** torch.arange(8)[:, None]
    torch.testing.assert_close(divergence_free(v, (1, 1)), v)


def flow(folder, sides=PERIODIC, gradient=0.0):
    """A drifting stream function, with a passive field; of a share of gradient not free."""
    cell, steps = (0.5, 0.25), []
    psi = band_limited((16, 24), 1)[:, 0]
    for step in range(10):
        moved = psi.roll(step, -1)
        u, w = derivative(moved, 0, cell), derivative(moved, 1, cell)
        steps.append(torch.stack([-w + gradient * u, u + gradient * w], -1))
    velocity = torch.stack(steps, 1).repeat(3, 1, 1, 1, 1).float().numpy()
    dye = np.random.default_rng(0).standard_normal(velocity.shape[:-1])
    return wavelit.write_dataset(
        folder,
        {"dye": dye, "velocity": velocity},
        splits={"train": 2, "valid": 2, "test": 2},
        name="flow",
        boundary_conditions=sides,
        coordinates={"x": np.arange(16) * cell[0], "y": np.arange(24) * cell[1]},
    )


def test_a_model_keeps_a_flow_free_of_divergence(tmp_path):
    data = WellDataModule(flow(tmp_path / "flow"), batch_size=2)
    model = build_model(data, divergence_free=True, **SMALL)
    assert model.solenoidal.tolist() == [False, True, False]
    assert model.cell.tolist() == [0.5, 0.25]
    model = fit(tmp_path / "run", data, model, TrainConfig(steps=4), ONE_THREAD)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    batch = next(iter(data.trajectories("valid")))
    states = wavelit.rollout(model, batch.fields, 5)
    v = states[0, :, 1:].double()
    assert (v - divergence_free(v, (0.5, 0.25))).abs().max() < 1e-4 * v.abs().max()
    # The passive field is what it is without the projection, and so is what the loss compares.
    plain = WaveLiT(WaveLiTConfig(**{**vars(model.config), "divergence_free": False}))
    state = {k: v for k, v in model.state_dict().items() if k not in ("solenoidal", "cell")}
    plain.load_state_dict(state)
    with torch.no_grad():
        torch.testing.assert_close(plain(batch.fields)[:, 0], model.eval()(batch.fields)[:, 0])
        torch.testing.assert_close(plain.increment(batch.fields), model.increment(batch.fields))
        assert not torch.allclose(plain(batch.fields)[:, 1:], model(batch.fields)[:, 1:])
    # It is in the weights.
    model.save_pretrained(tmp_path / "saved")
    again = wavelit.load(tmp_path / "saved")
    with torch.no_grad():
        torch.testing.assert_close(again(batch.fields), model(batch.fields), rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["pt2", "onnx"])
def test_it_is_exported(suffix, tmp_path):
    data = WellDataModule(flow(tmp_path / "flow"), batch_size=2)
    model = build_model(data, divergence_free=True, **SMALL)
    assert export_model(model, tmp_path / f"m.{suffix}", (16, 24)).difference < 1e-5


def test_where_it_cannot_be_is_refused(tmp_path):
    data = WellDataModule(flow(tmp_path / "compressible", gradient=0.1), batch_size=2)
    with pytest.raises(WavelitError, match=r"no vector field .* velocity 0\.\d+; leave it out"):
        build_model(data, divergence_free=True, **SMALL)
    walls = (("periodic", "periodic"), ("wall", "wall"))
    closed = WellDataModule(flow(tmp_path / "closed", walls), batch_size=2)
    with pytest.raises(WavelitError, match="divergence_free needs two or three axes"):
        build_model(closed, divergence_free=True, **SMALL)


def test_fine_tuning_leaves_it_out_where_it_cannot_be(tmp_path):
    """And keeps it on another flow that has no divergence."""
    data = WellDataModule(flow(tmp_path / "flow"), batch_size=2)
    model = build_model(data, divergence_free=True, **SMALL)
    model.trained = True
    for name, sides, gradient in (
        ("compressible", PERIODIC, 0.1),
        ("closed", (("periodic", "periodic"), ("wall", "wall")), 0.0),
    ):
        other = WellDataModule(flow(tmp_path / name, sides, gradient), batch_size=2)
        with pytest.warns(UserWarning, match=r"no vector field of .* divergence_free is left out"):
            tuned = prepare(model, other, 0, False)
        assert not tuned.config.divergence_free
        assert tuned.solenoidal is None
        torch.testing.assert_close(tuned.embed.weight, model.embed.weight, rtol=0, atol=0)
    again = prepare(model, WellDataModule(flow(tmp_path / "again"), batch_size=2), 0, False)
    assert again.solenoidal.tolist() == [False, True, False]


def test_a_system_of_a_joint_model_has_it_alone(tmp_path):
    free, bound = flow(tmp_path / "free"), flow(tmp_path / "bound", gradient=0.1)
    data = JointDataModule({"free": free, "bound": bound}, batch_size=2)
    own = {"free": {"divergence_free": True}}
    joint = build_joint(data, by_system=own, **JOINT_SMALL)
    recipe = JointTrainConfig(steps=2, validate_every=2)
    joint = fit_joint(tmp_path / "run", data, joint, recipe, ONE_THREAD)
    assert joint["free"].solenoidal.tolist() == [False, True, False]
    assert joint["bound"].solenoidal is None
    batch = next(iter(data.systems["free"].trajectories("valid")))
    v = wavelit.rollout(joint["free"], batch.fields, 3)[0, :, 1:].double()
    assert (v - divergence_free(v, (0.5, 0.25))).abs().max() < 1e-4 * v.abs().max()
    # A compressible flow that starts from it goes without, and so does its run.
    data = WellDataModule(flow(tmp_path / "other", gradient=0.1), batch_size=2)
    with pytest.warns(UserWarning, match="divergence_free is left out"):
        tuned = for_dataset(joint, data, "free")
    assert tuned["flow"].solenoidal is None


def test_where_points_lie_is_no_statistic(tmp_path):
    """Statistics that are kept leave the distance between points to the data, with the same
    channels and with others.
    """
    data = WellDataModule(flow(tmp_path / "flow"), batch_size=2)
    model = build_model(data, divergence_free=True, **SMALL)
    model.trained = True
    wide = tmp_path / "wide"
    moved = flow(wide)
    for path in wide.rglob("*.hdf5"):
        with h5py.File(path, "r+") as file:
            # Twice as wide, with twice the velocity along it, is as free of divergence.
            file["dimensions/x"][...] *= 2
            file["t1_fields/velocity"][..., 0] *= 2
    for options in ({}, {"fields": ["velocity"]}):
        other = WellDataModule(moved, batch_size=2, **options)
        tuned = prepare(model, other, 0, True)
        sign(tuned, other, 0, True)
        assert tuned.cell.tolist() == [1.0, 0.25]
        assert tuned._vectors == [other.field_names.index("velocity_x")]
