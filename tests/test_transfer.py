"""A trained model on other data: kept by name, right in physical units either way."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

import wavelit
from wavelit.cli.program import main
from wavelit.data.joint import JointDataModule
from wavelit.errors import WavelitError
from wavelit.model.mixers import GatedConv
from wavelit.model.wavelit import WaveLiT
from wavelit.training.config import TrainConfig
from wavelit.training.fine_tune import for_dataset
from wavelit.training.joint_run import build_joint
from wavelit.training.prepare import prepare, sign
from wavelit.training.transfer import adapt, fits

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("undrawn")]

SMALL = {"embed_dim": 16, "num_heads": 2, "depth": 2, "levels": 1, "num_scales": 1}
KEPT = {"detail_dim": 4}


def waves(name: str, n: int = 6, steps: int = 9) -> np.ndarray:
    """A field for every letter, of another size and speed each, (n, steps, 8, 16)."""
    k = 1 + (ord(name[0]) - ord("a")) % 26
    x, y = 2 * np.pi * np.arange(8)[:, None] / 8, 2 * np.pi * np.arange(16) / 16
    phase = np.random.default_rng(k).uniform(0, 6, (n, 1, 1, 1))
    t = 0.1 * k * np.arange(steps)[:, None, None]
    return k * np.sin(x + phase - t) * np.cos(y - phase + t) + 0.3 * k


def write(folder, fields: str, scalars: str = "", constants: str = "", walls: bool = False, **more):
    spread = np.linspace(1, 2, 6)
    return wavelit.write_dataset(
        folder,
        {name: waves(name) for name in fields},
        splits={"train": 4, "valid": 1, "test": 1},
        name=folder.name,
        boundary_conditions=["wall" if walls else "periodic", "periodic"],
        scalars={name: spread ** (i + 1) for i, name in enumerate(scalars)},
        constant_fields={name: waves(name)[:, 0] for name in constants},
        **more,
    )


def random_weights(model: WaveLiT) -> WaveLiT:
    """All of them, those that begin at zero too; then it is as if it had been trained."""
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data += 0.1 * noise
    model.trained = True
    return model.eval()


@pytest.fixture(scope="module", name="first")
def first_model(tmp_path_factory):
    folder = write(tmp_path_factory.mktemp("first") / "first", "abc", "PQ", "KL", walls=True)
    data = wavelit.WellDataModule(folder, n_steps_input=3, batch_size=4)
    return data, random_weights(wavelit.build_model(data, "nano", **SMALL, **KEPT))


def batch_of(data):
    dataset = data.train_dataset
    return dataset.collate(dataset.__getitems__([0, 5]))


def call(model, batch):
    """In float64, so that what differs is no rounding."""
    parts = (batch.fields, batch.constants, batch.scalars)
    return model.double()(*(None if part is None else part.double() for part in parts))


def permuted(model, data, tmp_path, fields, scalars, constants, keep=True):
    other = write(tmp_path / "other", fields, scalars, constants, walls=True)
    other = wavelit.WellDataModule(other, n_steps_input=3, batch_size=4)
    new = prepare(model, other, 0, keep)
    sign(new, other, 0, keep)
    return other, new


@pytest.mark.filterwarnings("ignore:the model keeps")
def test_another_order_gives_the_permuted_prediction(first, tmp_path):
    data, model = first
    other, new = permuted(model, data, tmp_path, "cab", "QP", "LK")
    assert other.field_names == ["c", "a", "b"]
    before, after = call(model, batch_of(data)), call(new, batch_of(other))
    torch.testing.assert_close(after, before[:, [2, 0, 1]], rtol=1e-12, atol=1e-12)
    model.float()


@pytest.mark.filterwarnings("ignore:the model keeps")
def test_what_is_new_leaves_the_others_as_they_were(first, tmp_path):
    """New fields, constants and scalars begin without a say in the prediction of the others."""
    data, model = first
    other, new = permuted(model, data, tmp_path, "dbac", "RQP", "KML")
    before, after = call(model, batch_of(data)), call(new, batch_of(other))
    torch.testing.assert_close(after[:, 1:], before[:, [1, 0, 2]], rtol=1e-12, atol=1e-12)
    model.float()
    moved = after[:, 0] - batch_of(other).fields[:, -1, 0]
    torch.testing.assert_close(moved, torch.zeros_like(moved), rtol=0, atol=1e-6)


def test_dropped_fields_are_missing_and_new_ones_learn(first, tmp_path, capsys):
    data, model = first
    other, new = permuted(model, data, tmp_path, "ad", "P", "", keep=False)
    assert capsys.readouterr().out.splitlines() == [
        "fields: taken a; new d; dropped b, c",
        "constants: dropped K, L",
        "scalars: taken P; dropped Q",
    ]
    new.train()
    batch = batch_of(other)
    new.increment(batch.fields, None, batch.scalars).square().sum().backward()
    slow = [name for name, p in new.named_parameters() if p.grad is None or not p.grad.any()]
    assert not slow
    q = new.tokenizer.n_coefficients
    torch.testing.assert_close(new.head.weight[:q], model.head.weight[:q], rtol=0, atol=0)
    assert not new.head.weight[q:].any()


def test_statistics_are_those_of_the_new_data_unless_asked(first, tmp_path):
    data, model = first
    other, new = permuted(model, data, tmp_path, "cab", "QP", "LK", keep=False)
    due = torch.tensor(other.statistics.delta_std)
    torch.testing.assert_close(new.normalizer.delta_std, due)
    fresh = wavelit.build_model(other, "nano", **SMALL, **KEPT)
    for name in ("input_scale", "output_scale", "conserved"):
        torch.testing.assert_close(getattr(new, name), getattr(fresh, name), rtol=0, atol=0)
    other, kept = permuted(model, data, tmp_path / "again", "cab", "QP", "LK")
    torch.testing.assert_close(kept.normalizer.std, model.normalizer.std[[2, 0, 1]])


def test_other_units_are_other_statistics(first, tmp_path):
    """With the new data's statistics a prediction scales with the data; with the old ones not."""
    folder = tmp_path / "scaled"
    factor = 1000.0
    plain = write(tmp_path / "plain", "ab")
    wavelit.write_dataset(
        folder,
        {name: factor * waves(name) for name in "ba"},
        splits={"train": 4, "valid": 1, "test": 1},
        name="scaled",
        boundary_conditions=["periodic", "periodic"],
    )
    one, two = (wavelit.WellDataModule(path, n_steps_input=2) for path in (plain, folder))
    model = random_weights(wavelit.build_model(one, "nano", **SMALL))
    new = prepare(model, two, 0, keep_statistics=False)
    before, after = call(model, batch_of(one)), call(new, batch_of(two))
    torch.testing.assert_close(after[:, [1, 0]], factor * before, rtol=1e-4, atol=1e-2)
    with pytest.warns(UserWarning, match="keeps the statistics"):
        sign(prepare(model, two, 0, keep_statistics=True), two, 0, keep=True)


@pytest.mark.parametrize(
    ("values", "same"),
    [((800.0, 1100.0), True), ((1000.0, 1000.0), True), ((100.0, 5000.0), False)],
)
@pytest.mark.parametrize("joint", [False, True])
def test_a_scalar_within_what_the_model_knows_is_seen_as_it_saw_it(values, same, joint, tmp_path):
    """Its logarithm, of Reynolds numbers over decades, where the new ones are alike or one."""

    def dataset(name, fields, least, most):
        numbers = np.geomspace(least, most, 6)[[0, 5, 1, 2, 3, 4]]
        return wavelit.WellDataModule(
            wavelit.write_dataset(
                tmp_path / name,
                {each: waves(each) for each in fields},
                splits={"train": 4, "valid": 1, "test": 1},
                name=name,
                boundary_conditions=["periodic", "periodic"],
                scalars={"Re": numbers},
            ),
            n_steps_input=2,
        )

    wide, narrow = dataset("wide", "ab", 1.0, 4000.0), dataset("narrow", "ba", *values)
    if joint:
        source = build_joint(JointDataModule([wide]), **SMALL)
        source.mark_trained()
        before, after = source["wide"], for_dataset(source, narrow)["narrow"]
        torch.testing.assert_close(after.pieces[0], before.pieces[0])
    else:
        before = random_weights(wavelit.build_model(wide, "nano", **SMALL))
        after = prepare(before, narrow, 0, keep_statistics=False)
        sign(after, narrow, 0, keep=False)
    seen, known = (each.normalizer.scalars(torch.tensor([[1000.0]])) for each in (after, before))
    assert torch.equal(seen, known) == same
    (scalar,), (ours,) = after.signature.scalars, before.signature.scalars
    assert (scalar.ranges == ours.ranges) == same


@pytest.mark.parametrize(("ours", "theirs"), [(2, 1), (2, 3), (4, 1), (4, 3)])
def test_a_longer_history_begins_as_the_shorter(ours, theirs, tmp_path):
    folder = write(tmp_path / "waves", "ab")
    one = wavelit.WellDataModule(folder, n_steps_input=ours)
    two = wavelit.WellDataModule(folder, n_steps_input=theirs)
    model = random_weights(wavelit.build_model(one, "nano", **SMALL))
    new, lines = adapt(model, two, 0, keep_statistics=True)
    assert lines[-1] == f"history: {theirs} frames, {min(ours, theirs)} taken"
    fields = torch.randn(2, max(ours, theirs), 2, 8, 16, dtype=torch.float64)
    if theirs < ours:
        # An increment that is dropped had no say if it was zero.
        fields[:, : ours - theirs] = fields[:, ours - theirs, None]
    model.double(), new.double()
    torch.testing.assert_close(
        new(fields[:, -theirs:]), model(fields[:, -ours:]), rtol=1e-12, atol=1e-12
    )


def test_sides_are_kept_by_kind(first, tmp_path):
    data, model = first
    folder = write(tmp_path / "other", "abc", "PQ", "KL")
    other = wavelit.WellDataModule(folder, n_steps_input=3)
    new, lines = adapt(model, other, 0, keep_statistics=False)
    assert new.boundary is None
    assert lines[-1].startswith("boundaries: ")
    back, _ = adapt(new, data, 0, keep_statistics=False)
    assert not back.boundary.weight.any()


def test_what_fits_is_taken_whole_and_stays_as_it_is(first, tmp_path):
    """Three seeds from one start are three runs from it."""
    data, model = first
    assert fits(model, data)
    before = copy.deepcopy(model.state_dict())
    assert prepare(model, data, 0, keep_statistics=False) is model
    runs = [
        wavelit.fit(tmp_path / name, data, model, steps=1, ema=0.0, seed=seed)
        for name, seed in (("a", 0), ("b", 1), ("c", 0))
    ]
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    a, b, c = (run.state_dict() for run in runs)
    torch.testing.assert_close(a, c, rtol=0, atol=0)
    assert any(not torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    ("fields", "message"),
    [("xyz", "none in common"), ("1d", "the model is of 2-D fields"), ("unit", "is in Pa in")],
)
def test_what_cannot_be_taken_is_named(fields, message, first, tmp_path):
    _, model = first
    folder, keep = tmp_path / "other", fields == "unit"
    if fields == "1d":
        wavelit.write_dataset(
            folder,
            {"a": waves("a")[..., 0]},
            splits={"train": 4, "valid": 1, "test": 1},
            name="other",
            boundary_conditions=["periodic"],
        )
    else:
        write(folder, "ba" if fields == "unit" else fields)
    other = wavelit.WellDataModule(folder, n_steps_input=3)
    if fields == "unit":
        import dataclasses

        units = [dataclasses.replace(each, unit="hPa") for each in model.signature.fields]
        signature = dataclasses.replace(model.signature, fields=tuple(units))
        model = random_weights(WaveLiT(model.config))
        model.signature = signature
        other.train_dataset.layouts[0].__dict__["units"] = {"a": "Pa", "b": "Pa"}
    with pytest.raises(WavelitError, match=message) as error:
        wavelit.fit(tmp_path / "run", other, model, steps=1, keep_statistics=keep)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_names_that_are_not_known_are_not_guessed(first, tmp_path, capsys):
    """Same counts are taken in their order, and said; others are refused."""
    data, model = first
    unnamed = random_weights(WaveLiT(model.config))
    unnamed.normalizer.set_statistics(data.statistics)
    prepare(unnamed, data, 0, keep_statistics=False)
    assert "are taken in their order" in capsys.readouterr().out
    other = wavelit.WellDataModule(write(tmp_path / "other", "ab"), n_steps_input=3)
    with pytest.raises(WavelitError, match="does not know the names"):
        prepare(unnamed, other, 0, keep_statistics=False)


def test_fine_tuning_has_the_rate_of_training_anew(tmp_path, capsys):
    one = write(tmp_path / "one", "ab")
    two = write(tmp_path / "two", "cb")
    data = wavelit.WellDataModule(one, n_steps_input=2)
    small = wavelit.build_model(data, "nano", **SMALL)
    model = wavelit.fit(tmp_path / "first", data, small, steps=2)
    assert model.trained
    wavelit.fit(tmp_path / "second", two, model=wavelit.load(tmp_path / "first"), steps=2)
    said = capsys.readouterr().out
    assert "fields: taken b; new c; dropped a" in said
    assert "before any step: validation VRMSE" in said
    recorded = (tmp_path / "second" / "config.yaml").read_text()
    assert "n_steps_input: 2" in recorded
    assert f"lr: {TrainConfig.lr}" in recorded


def test_the_command_fine_tunes(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "one", "ab")
    write(tmp_path / "two", "ca")
    small = ["--embed_dim", "16", "--num_heads", "2", "--steps", "2"]
    assert main(["train", "one", "--n_steps_input", "2", "--run", "first", *small]) == 0
    capsys.readouterr()
    assert main(["train", "two", "--from", "first", "--steps", "2"]) == 0
    said = capsys.readouterr().out
    assert "fields: taken a; new c; dropped b" in said
    assert f"lr: {TrainConfig.lr}" in Path("runs/two-from-first/config.yaml").read_text()
    assert "trained: runs/two-from-first" in said
    model = wavelit.load("runs/two-from-first")
    assert model.config.embed_dim == 16
    assert model.config.n_steps_input == 2
    given = ["train", "two", "--from", "first", "--run", "x", "--steps", "1"]
    for more, message in (
        (["--depth", "4"], "the architecture is that of first"),
        (["--from", "nowhere"], "unknown model 'nowhere'"),
        (["--from", "shear_flow"], "does not know the names|none in common"),
    ):
        assert main([*given, *more]) == 2
        assert __import__("re").search(message, capsys.readouterr().err)
    assert main(["train", "two", "--keep_statistics", "--steps", "1", "--run", "x"]) == 2
    assert "is for --from" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
    assert main([*given, "--lr", "0.01", "--keep_statistics"]) == 0
    assert "lr: 0.01" in Path("x/config.yaml").read_text()


def kernels_of(model):
    """Of the mixers."""
    return [part.local.weight for part in model.modules() if isinstance(part, GatedConv)]


def test_a_kernel_that_is_wider_than_the_grid_is_cut(tmp_path):
    """Its middle is kept, which is the whole of it where the rest is zero."""
    wide = write(tmp_path / "wide", "a", walls=True)
    data = wavelit.WellDataModule(wide, n_steps_input=3, batch_size=4)
    model = random_weights(wavelit.build_model(data, mixers="conv:3x7", **SMALL, **KEPT))
    kernels = kernels_of(model)
    for kernel in kernels:
        kernel.data[..., [0, -1]] = 0
    narrow = wavelit.write_dataset(
        tmp_path / "narrow",
        {"a": waves("a")[..., :10]},
        splits={"train": 4, "valid": 1, "test": 1},
        name="narrow",
        boundary_conditions=["wall", "wall"],
    )
    other = wavelit.WellDataModule(narrow, n_steps_input=3, batch_size=4)
    with pytest.warns(UserWarning, match=r"mixers=conv:3x5 is taken .* the middle of each kernel"):
        tuned = prepare(model, other, 0, False)
    for ours, theirs in zip(kernels, kernels_of(tuned), strict=True):
        torch.testing.assert_close(theirs, ours[..., 1:-1], rtol=0, atol=0)
    assert fits(tuned, other)
    wavelit.fit(tmp_path / "run", other, tuned, steps=1)


def media(folder, low, high, more="", unit=""):
    """Waves in a medium of that range, with another field where it is named."""
    draw = np.random.default_rng(0).uniform(low, high, (6, 8, 16))
    return wavelit.WellDataModule(
        wavelit.write_dataset(
            folder,
            {name: waves(name) for name in "a" + more},
            splits={"train": 4, "valid": 1, "test": 1},
            name=folder.name,
            boundary_conditions=["periodic", "periodic"],
            constant_fields={"depth": draw},
            units={"depth": unit} if unit else None,
        ),
        n_steps_input=3,
        batch_size=4,
    )


# The second ran well on f95381f.
@pytest.mark.parametrize(
    "more",
    [
        pytest.param("", id="same fields"),
        pytest.param("b", id="another field", marks=pytest.mark.slow),
    ],
)
def test_a_constant_field_is_seen_as_the_model_saw_it(tmp_path, more):
    """Unless it varies otherwise, or is in another unit; fields are seen by the data's own."""
    data = media(tmp_path / "first", 1.0, 3.0, unit="m")
    model = random_weights(wavelit.build_model(data, **SMALL, **KEPT))
    ours = data.statistics
    for name, low, high, unit, kept in (
        ("near", 1.5, 2.5, "m", True),
        ("without a unit", 1.5, 2.5, "", True),
        ("in feet", 1.5, 2.5, "ft", False),
        ("flat", 1.99, 2.01, "m", False),
        ("wide", -20.0, 20.0, "m", False),
        ("elsewhere", 11.0, 13.0, "m", False),
    ):
        other = media(tmp_path / name, low, high, more, unit)
        tuned = wavelit.fit(tmp_path / f"run {name}", other, copy.deepcopy(model), steps=1)
        due = ours if kept else other.statistics
        found = tuned.normalizer
        assert found.constant_mean.tolist() == pytest.approx(due.constant_mean, rel=1e-6), name
        assert found.constant_std.tolist() == pytest.approx(due.constant_std, rel=1e-6), name
        assert found.mean.tolist() == pytest.approx(other.statistics.mean, rel=1e-6, abs=1e-9)
