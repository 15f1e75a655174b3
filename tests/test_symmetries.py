"""Symmetries as data: vectors and matrices go with the axes, as derivatives do; a draw follows from
the seed and the step; what a dataset does not have is refused.
"""

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

import wavelit
from runs import ONE_THREAD, SMALL
from wavelit.data.datamodule import WellDataModule
from wavelit.data.joint import JointDataModule
from wavelit.errors import WavelitError
from wavelit.evaluation.symmetry import describe_ratios, symmetry_ratios
from wavelit.training.config import TrainConfig
from wavelit.training.joint import JointTrainConfig
from wavelit.training.joint_configuration import joint_configuration
from wavelit.training.joint_run import build_joint, fit_joint
from wavelit.training.run import build_model, fit
from wavelit.training.symmetries import Symmetry, read_symmetries, symmetries_of

pytestmark = pytest.mark.usefixtures("undrawn")

N = 12
PERIODIC = (("periodic", "periodic"), ("periodic", "periodic"))
WALLS = (("periodic", "periodic"), ("wall", "wall"))
OPEN = (("periodic", "periodic"), ("wall", "open"))


def write(folder, sides=PERIODIC, shape=(N, N), constants=None, **more):
    draw = np.random.default_rng(0).standard_normal
    return wavelit.write_dataset(
        folder,
        {
            "density": draw((6, 9, *shape)),
            "velocity": draw((6, 9, *shape, 2)),
            "stress": draw((6, 9, *shape, 2, 2)),
        },
        splits={"train": 2, "valid": 2, "test": 2},
        name="random",
        boundary_conditions=sides,
        constant_fields=constants or {"depth": draw((6, *shape)), "wind": draw((6, *shape, 2))},
        coordinates={"x": np.arange(shape[0]) * 0.5, "y": np.arange(shape[1]) * 0.5},
        **more,
    )


@pytest.fixture(scope="module", name="data")
def periodic_data(tmp_path_factory):
    return WellDataModule(write(tmp_path_factory.mktemp("data") / "periodic"), batch_size=3)


def derivative(u, axis):
    """d/dx of periodic fields (..., x, y)."""
    return (u.roll(-1, axis - 2) - u.roll(1, axis - 2)) / 2


def operators(batch):
    """What physics is made of, each with its law: scalars, then vectors."""
    rho, vx, vy, sxx, sxy, syx, syy = batch.fields.unbind(2)
    wx, wy = batch.constants[:, 1:].unbind(1)
    scalars = {
        "div v": derivative(vx, 0) + derivative(vy, 1),
        "v . grad rho": vx * derivative(rho, 0) + vy * derivative(rho, 1),
        "S : grad v": sxx * derivative(vx, 0)
        + sxy * derivative(vx, 1)
        + syx * derivative(vy, 0)
        + syy * derivative(vy, 1),
        "wind . v": wx[:, None] * vx + wy[:, None] * vy,
        "depth": batch.constants[:, 0],
    }
    vectors = {
        "div S": (
            derivative(sxx, 0) + derivative(sxy, 1),
            derivative(syx, 0) + derivative(syy, 1),
        ),
        "S wind": (
            sxx * wx[:, None] + sxy * wy[:, None],
            syx * wx[:, None] + syy * wy[:, None],
        ),
    }
    return scalars, vectors


@pytest.mark.parametrize("text", ["flip:x", "flip:y", "swap:xy"])
def test_what_is_computed_of_moved_fields_is_what_was_computed_moved(text, data):
    batch = next(iter(data.train_dataloader()))
    moved = symmetries_of(text, data).moved(batch, *read_symmetries(text))
    dim = {"flip:x": (-2,), "flip:y": (-1,)}.get(text)
    of_scalars, of_vectors = operators(batch)
    scalars, vectors = operators(moved)

    def cells(x):
        return x.transpose(-1, -2) if dim is None else x.flip(dim)

    for name, value in of_scalars.items():
        torch.testing.assert_close(scalars[name], cells(value), msg=name)
    for name, (x, y) in of_vectors.items():
        x, y = cells(x), cells(y)
        due = {"flip:x": (-x, y), "flip:y": (x, -y), "swap:xy": (y, x)}[text]
        for found, wanted in zip(vectors[name], due, strict=True):
            torch.testing.assert_close(found, wanted, msg=name)
    # The target goes with the history.
    again = moved._replace(fields=moved.target, target=moved.fields)
    other = batch._replace(fields=batch.target, target=batch.fields)
    other = symmetries_of(text, data).moved(other, *read_symmetries(text))
    torch.testing.assert_close(again.fields, other.fields)


@pytest.mark.parametrize("text", ["flip:x", "flip:y(density)", "swap:xy"])
def test_twice_is_once_nothing(text, data):
    batch = next(iter(data.train_dataloader()))
    moves = symmetries_of(text, data)
    (symmetry,) = read_symmetries(text)
    back = moves.moved(moves.moved(batch, symmetry), symmetry)
    for before, after in zip(batch, back, strict=True):
        if before is not None:
            torch.testing.assert_close(after, before)


def test_a_field_turns_round_about_its_mean(data):
    batch = next(iter(data.train_dataloader()))
    moved = symmetries_of("flip:y(density)", data).moved(batch, Symmetry("flip", "y", ("density",)))
    mean = data.statistics.mean[0]
    torch.testing.assert_close(moved.fields[:, :, 0] - mean, mean - batch.fields[:, :, 0].flip(-1))


def test_cells_that_do_not_count_stay_zero_where_a_field_turns_round(tmp_path):
    masked = {"depth": (np.arange(N)[:, None] < 3) * np.ones((6, N, N))}
    write(tmp_path / "d", constants=masked)
    data = wavelit.WellDataModule(tmp_path / "d", mask_field="depth", batch_size=2)
    batch = next(iter(data.train_dataloader()))
    moved = symmetries_of("flip:x(density)", data).moved(batch, Symmetry("flip", "x", ("density",)))
    assert data.statistics.mean[0] != 0
    assert not batch.valid.all()
    for states in (moved.fields, moved.target):
        assert (states[~moved.valid[:, None].expand_as(states)] == 0).all()
    torch.testing.assert_close(moved.valid, batch.valid.flip(-2))


def test_a_shift_moves_every_array_alike_along_periodic_axes_alone(tmp_path):
    mask = np.zeros((N, N))
    mask[:3] = 1
    data = WellDataModule(
        wavelit.write_dataset(
            tmp_path / "masked",
            {"u": np.random.default_rng(0).standard_normal((3, 9, N, N))},
            splits={"train": 1, "valid": 1, "test": 1},
            name="masked",
            boundary_conditions=WALLS,
            constant_fields={"land": mask},
            mask_field="land",
        )
    )
    batch = next(iter(data.train_dataloader()))
    moved = symmetries_of("shift", data).shifted(batch, [5])
    for name in ("fields", "target", "constants", "valid"):
        torch.testing.assert_close(getattr(moved, name), getattr(batch, name).roll(5, -2), msg=name)
    assert (moved.fields[~moved.valid[:, None].expand_as(moved.fields)] == 0).all()


def test_a_draw_follows_from_its_generator_and_differs_between_samples(data):
    batch = next(iter(data.train_dataloader()))
    moves = symmetries_of("shift, flip:x, swap:xy", data)
    one, same, other = (moves.draw(batch, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(one.fields, same.fields)
    assert not torch.equal(one.fields, other.fields)
    assert torch.equal(one.indices, batch.indices)
    twins = batch._replace(
        **{name: getattr(batch, name)[:1].repeat_interleave(3, 0) for name in ("fields", "target")}
    )
    drawn = moves.draw(twins, np.random.default_rng(0)).fields
    assert not torch.equal(drawn[0], drawn[1])


def test_a_run_learns_from_them_and_can_be_repeated(data, tmp_path):
    weights = {}
    for name, text in (("a", "shift, flip:x"), ("b", "shift, flip:x"), ("none", "")):
        recipe = TrainConfig(steps=3, symmetries=text)
        fit(tmp_path / name, data, build_model(data, **SMALL), recipe, ONE_THREAD)
        weights[name] = load_file(tmp_path / name / "weights" / "model.safetensors")
    assert all(torch.equal(weights["a"][name], weights["b"][name]) for name in weights["a"])
    assert not all(torch.equal(weights["a"][name], weights["none"][name]) for name in weights["a"])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("flip", "unknown 'flip'"),
        ("shift:x", "unknown 'shift:x'"),
        ("shift(u)", "unknown"),
        ("turn:x", "unknown 'turn:x'"),
        ("flip:x, flip:x", "comes twice"),
        ("shift,", "unknown ''"),
        ("flip:z", "'z' in flip:z is not one of the axes x, y"),
        ("swap:xx", "'xx' in swap:xx is not two of the axes x, y"),
        ("flip:x(pressure)", "names 'pressure', which is none of the fields density"),
    ],
)
def test_what_is_none_is_named(text, told, data):
    with pytest.raises(WavelitError, match="symmetries: ") as caught:
        symmetries_of(text, data)
    assert told in str(caught.value)


def test_what_a_dataset_does_not_have_is_refused(tmp_path, data):
    half = WellDataModule(write(tmp_path / "half", OPEN, (N, 2 * N)))
    with pytest.raises(WavelitError, match="flip:y would exchange the boundaries of axis y"):
        symmetries_of("flip:y", half)
    with pytest.raises(WavelitError, match="swap:xy needs two axes of the same points"):
        symmetries_of("swap:xy", half)
    closed = WellDataModule(write(tmp_path / "closed", (("wall", "wall"),) * 2))
    with pytest.raises(WavelitError, match="shift needs a periodic axis"):
        symmetries_of("shift", closed)
    part = data.replaced(fields=["density", "velocity_x"])
    with pytest.raises(WavelitError, match="swap needs all components"):
        symmetries_of("swap:xy", part)
    assert symmetries_of("flip:x", part)._fields == [(), (0,)]
    forced = data.replaced(forcings=["stress"])
    with pytest.raises(WavelitError, match="has forcings"):
        symmetries_of("shift", forced)
    model, recipe = build_model(half, **SMALL), TrainConfig(steps=1, symmetries="flip:y")
    with pytest.raises(WavelitError, match="flip:y would exchange"):
        fit(tmp_path / "run", half, model, recipe, ONE_THREAD)
    assert not (tmp_path / "run").exists()


def joint_weights(folder, systems, **recipe):
    """Of every system after three steps, each with a trunk of its own."""
    data = JointDataModule({name: each.replaced() for name, each in systems.items()})
    model = build_joint(data, trunk="private", **SMALL)
    return fit_joint(folder, data, model, JointTrainConfig(steps=3, **recipe), ONE_THREAD)


def test_each_system_of_a_joint_model_has_its_own(tmp_path, data):
    systems = {"a": data, "b": data.replaced()}
    weights = {}
    for name, recipe in {
        "none": {},
        "all": {"symmetries": "shift"},
        "a alone": {"system_symmetries": {"a": "shift"}},
        "all but a": {"symmetries": "shift", "system_symmetries": {"a": ""}},
    }.items():
        joint = joint_weights(tmp_path / name, systems, **recipe)
        weights[name] = {system: joint[system].embed.weight.detach() for system in "ab"}
    for name, moved in (("all", "ab"), ("a alone", "a"), ("all but a", "b")):
        for system in "ab":
            same = torch.equal(weights[name][system], weights["none"][system])
            assert same == (system not in moved), (name, system)
    # As the run folder says.
    settings = yaml.safe_load((tmp_path / "all but a" / "config.yaml").read_text())
    assert settings["train"]["system_symmetries"] == {"a": ""}


def test_what_a_system_of_a_joint_model_does_not_have_is_refused(tmp_path, data):
    half = WellDataModule(write(tmp_path / "half", OPEN))
    systems = {"whole": data, "half": half}
    for recipe, told in (
        ({"symmetries": "flip:y"}, "system 'half': symmetries: flip:y would exchange"),
        ({"system_symmetries": {"half": "flip:y"}}, "system 'half': symmetries: flip:y would"),
        ({"system_symmetries": {"other": "shift"}}, "unknown system of system_symmetries 'other'"),
        ({"system_symmetries": {"half": 3}}, "symmetries of system 'half' must be text"),
        ({"system_symmetries": "shift"}, "must name each system's symmetries, not 'shift'"),
    ):
        with pytest.raises(WavelitError, match=told):
            joint_weights(tmp_path / "run", systems, **recipe)
        assert not (tmp_path / "run").exists()


def test_a_file_of_settings_names_them_beside_the_systems(tmp_path, data):
    path = str(write(tmp_path / "again"))
    content = {
        "systems": [
            {"name": "a", "path": path, "symmetries": "shift"},
            {"name": "b", "path": path, "model": {"levels": 1}},
        ],
        "train": {"steps": 1, "symmetries": "flip:x"},
    }
    asked = joint_configuration(content, "here")
    assert [asked.train.of_system(name).symmetries for name in "ab"] == ["shift", "flip:x"]
    model = asked.build()
    assert [model[name].config.levels for name in "ab"] == [2, 1]
    content["systems"][1]["model"] = {"level": 1}
    with pytest.raises(WavelitError, match="here, systems, b, model: unknown entry 'level'"):
        joint_configuration(content, "here")
    for own, told in (
        ({"c": {}}, "unknown system of by_system 'c'"),
        ({"a": 3}, "by_system, a: a mapping is due, not 3"),
        ({"a": {"boundary_conditions": ()}}, "system 'a': boundary_conditions .* leave it out"),
        ({"a": {"n_fields": 9}}, "system 'a': n_fields of the model is that of the data"),
        ({"a": {"embed_dim": 8}}, "a trunk has one; give both the same"),
        ({"a": {"mixers": "conv:3"}}, "has mixers conv:3, .* a trunk has one; give both the same"),
    ):
        with pytest.raises(WavelitError, match=told):
            build_joint(asked.data, by_system=own)


class Exact(torch.nn.Module):
    """The mean of the neighbours: it has every symmetry, but for a wind that it adds along x."""

    def __init__(self, wind):
        super().__init__()
        self.wind = wind

    def forward(self, fields, constants=None, scalars=None):
        u = fields[:, -1]
        around = sum(u.roll(n, axis) for n in (-1, 1) for axis in (-2, -1)) / 4
        return around + self.wind * (u.roll(1, -2) - u)


@pytest.mark.parametrize("wind", [0.0, 0.5])
def test_a_model_tells_which_a_system_has(wind, tmp_path):
    step = Exact(wind)
    states = [torch.from_numpy(np.random.default_rng(0).standard_normal((3, 1, N, N)))]
    for _ in range(8):
        states.append(step(states[-1][:, None]))
    u = torch.cat(states, 1).numpy()
    folder = wavelit.write_dataset(
        tmp_path / "data",
        {"u": u},
        splits={"train": 1, "valid": 1, "test": 1},
        name="waves",
        boundary_conditions=PERIODIC,
    )
    data = WellDataModule(folder)
    # Nearly right, so that there is an error to compare with.
    ratios = symmetry_ratios(Exact(wind + 0.05), data, "shift, flip:x, flip:y, swap:xy")
    assert ratios["shift"] == pytest.approx(1, abs=0.01)
    assert ratios["flip:y"] == pytest.approx(1, abs=0.3)
    for name in ("flip:x", "swap:xy"):
        assert (ratios[name] > 2) == (wind > 0), ratios
    lines = describe_ratios(ratios)
    assert ("leave it out" in lines[1]) == (wind > 0)
    assert "it holds" in lines[0]
