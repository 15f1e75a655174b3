"""Descriptors: values by hand, data of every kind, and what `wavelit diagnose` says of them."""

import dataclasses
import json
import math
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import pywt
import torch

from wavelit.cli.program import main
from wavelit.data.checking.describe import describe_dataset
from wavelit.data.pocketwell import SYSTEMS, generate
from wavelit.data.writing.write import write_dataset
from wavelit.errors import WavelitError
from wavelit.evaluation import diagnosis
from wavelit.evaluation.descriptors import Descriptors, measure_descriptors
from wavelit.evaluation.diagnosis import diagnose, distances, expectation, known_systems
from wavelit.evaluation.increments import inner_cells
from wavelit.evaluation.snapshots import anomaly, haar_shares, shell_energies, spectral_slope

pytestmark = pytest.mark.long

ROOT = Path(__file__).parent.parent
WRAP = ["periodic", "periodic"]


def write(folder, fields, boundary_conditions=WRAP, **options):
    n = len(next(iter(fields.values())))
    splits = {"train": n - 2, "valid": 1, "test": 1}
    return write_dataset(
        folder,
        fields,
        splits=splits,
        name="made",
        boundary_conditions=boundary_conditions,
        **options,
    )


def carried(speeds, spacing=(0.1, 0.1), n=5, side=24, n_steps=6, dt=0.02):
    """Smooth fields that move with constant velocities, (N, T, side, side)."""
    rng = np.random.default_rng(0)
    lengths = [side * step for step in spacing]
    t = dt * np.arange(n_steps)[:, None, None]
    x, y = (step * np.arange(side) for step in spacing)
    u = np.zeros((n, n_steps, side, side))
    for each in u:
        for k in ((1, 0), (0, 1), (1, 1), (2, -1)):
            phase = rng.uniform(0, 2 * np.pi)
            along = k[0] * (x[:, None] - speeds[0] * t) / lengths[0]
            each += np.cos(2 * np.pi * (along + k[1] * (y - speeds[1] * t) / lengths[1]) + phase)
    return u


# ------------------------------------------------------------------ states


def test_a_power_law_has_its_slope():
    n = torch.arange(33, dtype=torch.float64)
    assert spectral_slope(n**-3.0, (64, 64)) == pytest.approx(-3)
    assert spectral_slope(n**-3.0, (8, 64)) is None
    # Shells 2 to 4 of an axis of 16 cells, the others do not matter.
    energies = torch.tensor([9.0, 9.0, 1 / 4, 1 / 9, 1 / 16, 9.0, 9.0, 9.0, 9.0])
    assert spectral_slope(energies, (16, 16)) == pytest.approx(-2)
    # What float32 rounds off is no slope.
    nothing = torch.zeros(33, dtype=torch.float64)
    assert spectral_slope(nothing, (64,)) == pytest.approx(0, abs=1e-9)


def test_the_slope_of_a_field_and_that_of_a_ramp():
    x = torch.arange(64, dtype=torch.float64) / 64
    phase = torch.arange(32, dtype=torch.float64) ** 2
    u = sum(n**-1.5 * torch.cos(2 * torch.pi * n * x + phase[n]) for n in range(1, 32))
    periodic = shell_energies(anomaly(u[None]), (True,))[0]
    assert spectral_slope(periodic, (64,)) == pytest.approx(-3, abs=1e-6)
    # A ramp jumps where it wraps, energy 1 / n^2; taken to be no jump, it falls faster.
    ramp = anomaly(x[None])
    assert spectral_slope(shell_energies(ramp, (True,))[0], (64,)) == pytest.approx(-2, abs=0.2)
    assert spectral_slope(shell_energies(ramp, (False,))[0], (64,)) < -4


def test_haar_share_by_hand():
    # Differences 2, 2 over sqrt 2 and 8 over 2: energies 2, 2 and 16; one coefficient is kept.
    about = torch.tensor([[3.0, 1.0, -1.0, -3.0]], dtype=torch.float64)
    assert haar_shares(about)[0, 0] == pytest.approx(16 / 20)
    assert haar_shares(about, (0.5,))[0, 0] == pytest.approx(18 / 20)
    assert haar_shares(torch.zeros(1, 4, dtype=torch.float64)).isnan().all()
    assert haar_shares(about[:, :1])[0, 0] == 1  # one cell


@pytest.mark.parametrize("grid", [(32,), (16, 32), (8, 16, 8), (12, 20)])
def test_haar_share_is_that_of_pywavelets(grid):
    u = np.random.default_rng(0).normal(size=grid).cumsum(0)
    level = int(np.log2(min(grid)))
    even = all(n % 2**level == 0 for n in grid)
    about = anomaly(torch.from_numpy(u)[None])
    share = float(haar_shares(about, (0.05,)))
    if not even:
        assert 0 < share < 1
        return
    flat, _ = pywt.coeffs_to_array(pywt.wavedecn(u - u.mean(), "haar", "periodization", level))
    energy = np.sort(flat.ravel() ** 2)[::-1]
    kept = energy[: max(1, round(0.05 * energy.size))].sum()
    assert share == pytest.approx(kept / energy.sum(), rel=1e-9)


def test_a_uniform_state_with_rounding_is_uniform():
    state = torch.full((1, 8, 8), 1e5) + 1e-2 * torch.rand(1, 8, 8)
    assert not anomaly(state).any()
    assert anomaly(torch.rand(1, 8, 8)).any()


def test_cells_beside_a_mask_or_a_wall_have_no_gradient():
    valid = torch.ones(6, 5, dtype=torch.bool)
    valid[3, 2] = False
    inner = inner_cells(valid, (6, 5), (True, False))
    assert not inner[:, [0, 4]].any()
    assert inner[0, 1]
    assert not any(inner[place] for place in ((3, 2), (2, 2), (4, 2), (3, 1), (3, 3)))
    assert int(inner.sum()) == 6 * 3 - 5


# ------------------------------------------------------------------ datasets


def test_increments_of_what_is_carried_are_transport(tmp_path):
    speeds, spacing = (1.0, -2.0), (0.1, 0.3)
    u = carried(speeds, spacing)
    velocity = np.broadcast_to(np.array(speeds), (*u.shape, 2)).copy()
    velocity += 1e-3 * np.random.default_rng(0).normal(size=(u.shape[1], 1, 1, 2))
    places = {name: step * np.arange(24) for name, step in zip("xy", spacing, strict=True)}
    folder = write(
        tmp_path / "a", {"tracer": u, "velocity": velocity, "other": velocity}, coordinates=places
    )
    assert measure_descriptors(folder).advection > 0.99
    # With unit spacing for both axes the directions are wrong.
    folder = write(tmp_path / "b", {"tracer": u, "velocity": velocity})
    assert measure_descriptors(folder).advection < 0.9


def test_which_field_carries(tmp_path):
    u = carried((1.0, 0.0))
    wind = np.broadcast_to([1.0, 0.0], (5, 24, 24, 2)).copy()
    across = np.broadcast_to([0.0, 1.0], (*u.shape, 2)) + 0.1 * u[..., None]
    # A constant one will do, and the only one whatever its name.
    for name in ("velocity", "wind"):
        folder = write(tmp_path / name, {"a": u}, constant_fields={name: wind})
        assert measure_descriptors(folder).advection > 0.99
    folder = write(tmp_path / "both", {"a": u, "flux": across}, constant_fields={"velocity": wind})
    assert measure_descriptors(folder).advection > 0.99
    folder = write(tmp_path / "two", {"a": u, "flux": across}, constant_fields={"wind": wind})
    assert measure_descriptors(folder).advection is None
    folder = write(tmp_path / "none", {"a": u})
    assert measure_descriptors(folder).advection is None
    folder = write(tmp_path / "vector", {"velocity": across})
    assert measure_descriptors(folder).advection is None


def test_a_linear_scheme_is_predictable_and_noise_is_half(tmp_path):
    rng = np.random.default_rng(0)
    u = [rng.normal(size=(9, 16, 16))]
    for _ in range(5):
        last = u[-1]
        around = sum(np.roll(last, shift, axis) for shift in (-1, 1) for axis in (1, 2))
        u.append(0.6 * last + 0.1 * around)
    heat = np.stack(u, 1)
    folder = write(tmp_path / "heat", {"heat": heat})
    (folder / "stats.yaml").unlink()  # statistics are not needed
    assert measure_descriptors(folder).predictability > 0.9999
    noise = rng.normal(size=(12, 20, 16, 16))
    found = measure_descriptors(write(tmp_path / "noise", {"noise": noise}))
    # The increment is new minus old, of which the old half is known.
    assert found.predictability == pytest.approx(0.5, abs=0.02)
    assert found.persistence == pytest.approx(math.sqrt(2), rel=0.01)
    # White in two dimensions, a shell has about 2 pi n modes.
    assert found.correlation_steps == pytest.approx(0.5, abs=0.02)


def test_one_trajectory_is_judged_on_its_end(tmp_path):
    u = carried((1.0, 0.5), n=3, n_steps=30)
    assert measure_descriptors(write(tmp_path / "one", {"a": u})).predictability > 0.99
    short = measure_descriptors(write(tmp_path / "short", {"a": u[:, :2]}))
    assert short.windows == 1
    assert short.predictability is None
    assert short.persistence is not None


def test_a_time_of_correlation_by_hand(tmp_path):
    # A plane wave turns by 2 pi / 50 a step: cos is 0.536 after 8 steps, -0.426 after 16.
    x, t = 2 * np.pi * np.arange(16) / 16, 2 * np.pi * np.arange(40)[:, None] / 50
    u = np.sin(x - t + np.arange(5)[:, None, None])
    found = measure_descriptors(write(tmp_path / "wave", {"u": u}, ["periodic"]))
    after = [math.cos(2 * math.pi * lag / 50) for lag in (8, 16)]
    assert found.correlation_steps == pytest.approx(
        8 + 8 * (after[0] - 0.5) / (after[0] - after[1]), rel=1e-4
    )
    assert found.longest_lag == 32
    slow = measure_descriptors(write(tmp_path / "slow", {"u": u[:, :6]}, ["periodic"]))
    assert slow.correlation_steps is None
    assert slow.longest_lag == 4


def test_persistence_is_that_of_the_summary(shared_well_folder, tmp_path):
    """All windows are looked at where there are few; validation takes the place of training."""
    folder = tmp_path / "turned"
    shutil.copytree(shared_well_folder, folder)
    shutil.rmtree(folder / "data" / "train")
    shutil.copytree(folder / "data" / "valid", folder / "data" / "train")
    found = measure_descriptors(folder)
    assert found.windows == 2 * 6
    persistence = describe_dataset(str(shared_well_folder)).persistence
    assert found.fields == tuple(persistence)
    assert found.persistence == pytest.approx(np.mean(list(persistence.values())), rel=1e-6)
    assert found.spectral_slope is None  # 8 x 6 cells
    assert found.values.keys() == {
        "haar_share",
        "persistence",
        "predictability",
        "advection",
    } | ({"correlation_steps"} if found.correlation_steps is not None else set())


@pytest.mark.parametrize(
    ("sides", "grid"),
    [(["wall"], (40,)), (["wall", ("wall", "open")], (20, 17)), (["open", *WRAP], (16, 16, 18))],
)
def test_all_dimensions_and_sides(sides, grid, tmp_path):
    rng = np.random.default_rng(0)
    u = rng.normal(size=(5, 4, *grid)).cumsum(1)
    velocity = rng.normal(size=(5, 4, *grid, len(grid)))
    found = measure_descriptors(write(tmp_path / "d", {"a": u, "velocity": velocity}, sides))
    assert found.grid == grid
    for name in ("spectral_slope", "haar_share", "persistence", "predictability", "advection"):
        assert math.isfinite(getattr(found, name)), name
    assert 0 <= found.advection < 0.05


def test_what_a_mask_excludes_does_not_count(tmp_path):
    u = carried((1.0, 0.5))
    velocity = np.broadcast_to([1.0, 0.5], (*u.shape, 2)) + 0.01 * u[..., None]
    land = np.zeros((24, 24))
    land[5:9, 10:15] = 1
    found = []
    for fill in (np.nan, 7.0, 1e6):
        fields = {
            "a": np.where(land == 1, fill, u),
            "velocity": np.where(land[..., None] == 1, fill, velocity),
        }
        if np.isnan(fill):
            folder = write(tmp_path / "declared", fields, constant_fields={"land": land},
                           mask_field="land")  # fmt: skip
            found.append(measure_descriptors(folder))
        else:
            folder = write(tmp_path / f"{fill:g}", fields, constant_fields={"land": land})
            found.append(measure_descriptors(folder, mask_field="land"))
    assert found[0] == found[1] == found[2]
    assert found[0].advection > 0.99
    assert found[0].spectral_slope is not None


def test_channels_that_do_not_change_are_left_out(tmp_path):
    u = carried((1.0, 0.5))
    still = np.repeat(u[:, :1], u.shape[1], 1)
    alone = measure_descriptors(write(tmp_path / "alone", {"a": u}))
    with_still = measure_descriptors(write(tmp_path / "beside", {"a": u, "b": still}))
    assert with_still.unchanging == ("b",)
    assert with_still.fields == ("a",)
    for name in ("spectral_slope", "haar_share", "persistence", "predictability"):
        expected = pytest.approx(getattr(alone, name), rel=1e-6)
        assert getattr(with_still, name) == expected, name
    assert with_still.correlation_steps == alone.correlation_steps
    # A field that is the same everywhere, at every time another: it has no states to speak of.
    clock = np.broadcast_to(np.arange(6.0)[:, None, None], u.shape).copy()
    found = measure_descriptors(write(tmp_path / "clock", {"clock": clock}))
    assert found.haar_share is None
    assert found.spectral_slope is None
    assert found.correlation_steps is None
    with pytest.raises(WavelitError, match=r"no field changes in \d+ windows.*\(b\); give data"):
        measure_descriptors(write(tmp_path / "still", {"b": still}))


def test_a_value_that_is_not_finite_is_refused_by_name(tmp_path, capsys):
    folder = write(tmp_path / "spoilt", {"a": carried((1.0, 0.5))})
    with h5py.File(next((folder / "data" / "train").glob("*.hdf5")), "r+") as file:
        file["t0_fields/a"][2, 3, 4, 5] = np.nan
    assert main(["diagnose", str(folder), "--json", str(tmp_path / "out.json")]) == 2
    shown = capsys.readouterr()
    assert "field 'a' is not finite in trajectory 2 at step 3" in shown.err
    assert len(shown.err.splitlines()) == 1
    assert not shown.out
    assert not (tmp_path / "out.json").exists()


def test_the_same_seed_gives_the_same_numbers(tmp_path):
    rng = np.random.default_rng(0)
    # More windows than are looked at.
    folder = write(tmp_path / "d", {"a": rng.normal(size=(8, 40, 16))}, ["periodic"])
    before = torch.random.get_rng_state()
    one, two, other = (measure_descriptors(folder, seed=seed) for seed in (3, 3, 4))
    assert one.windows == 128
    assert one == two
    assert one.persistence != other.persistence
    assert torch.equal(before, torch.random.get_rng_state())


def test_json_and_back(tmp_path):
    row = Descriptors("d", (8, 6), ("a", "b"), 12, 0, 4, haar_share=0.5, advection=0.1)
    assert Descriptors.from_dict(json.loads(json.dumps(row.to_dict()))) == row
    assert row.values == {"haar_share": 0.5, "advection": 0.1}
    for wrong in ({"haar_share": "much"}, {"grid": [0]}, {"more": 1}, {"fields": "a"}):
        with pytest.raises(WavelitError, match="row: "):
            Descriptors.from_dict(row.to_dict() | wrong, "row")


# ------------------------------------------------------------------ PocketWell's rows


def test_a_tiny_set_has_the_keys_of_the_rows_that_ship(tmp_path, load_script, monkeypatch):
    monkeypatch.chdir(ROOT)
    system = "acoustic_scattering_maze"
    folder = generate(system, "tiny", root=tmp_path, processes=1, progress=False)
    row = load_script("descriptors").row(folder, system).to_dict()
    shipped = json.loads(diagnosis.TABLE.read_text())
    assert shipped["systems"].keys() == SYSTEMS.keys()
    assert shipped["settings"]["size"] == "small"
    for name, other in shipped["systems"].items():
        assert other.keys() == row.keys(), name
        assert other["dataset"] == name
        assert other["windows"] == 128
    # Persistence by hand, over all 4 x 15 windows.
    errors = []
    for path in sorted((folder / "data" / "train").glob("*.hdf5")):
        with h5py.File(path) as file:
            u = np.concatenate(
                [file["t0_fields/pressure"][()][..., None], file["t1_fields/velocity"][()]], -1
            ).astype(np.float64)
        step = (np.diff(u, axis=1) ** 2).mean((2, 3))
        errors.append(np.sqrt(step / (u[:, 1:].var((2, 3), ddof=1) + 1e-7)).reshape(-1, 3))
    assert row["windows"] == 60
    assert row["persistence"] == pytest.approx(np.concatenate(errors).mean(), rel=1e-5)
    # Growth is known for the size that it was measured on alone.
    assert diagnose(folder, results=tmp_path / "none").descriptors.growth is None


def test_the_rows_go_into_the_package():
    assert f'"evaluation/{diagnosis.TABLE.name}"' in (ROOT / "pyproject.toml").read_text()


def test_the_rows_agree_with_pocketwell_at_a_glance():
    """Another split and other windows, but the same definitions."""
    lines = (ROOT / "results" / "pocketwell.csv").read_text().splitlines()
    for line in lines[1:]:
        glance = dict(zip(lines[0].split(","), line.split(","), strict=True))
        row = known_systems()[glance["system"]]
        assert row.haar_share == pytest.approx(float(glance["haar_energy_5_percent"]), abs=0.03)
        assert row.persistence == pytest.approx(float(glance["persistence_vrmse"]), rel=0.3)
        growth = glance["growth_per_interval"]
        assert row.growth == (float(growth) if growth else None)


# ------------------------------------------------------------------ the nearest


def made(**values):
    return Descriptors("made", (8, 8), ("a",), 1, 0, 1, **values)


def test_distances_by_hand():
    rows = {
        "low": made(haar_share=0.0, persistence=1.0, advection=0.2),
        "high": made(haar_share=1.0, persistence=math.e**2, advection=0.2, growth=5.0),
        "few": made(haar_share=0.5),
    }
    found = made(haar_share=0.5, persistence=1.0, advection=0.9, growth=1.0)
    # Advection does not vary over these systems; the spreads of the others are 0.5 and sqrt 2.
    away = distances(found, rows)
    assert not away  # fewer than three in common
    rows["low"] = dataclasses.replace(rows["low"], advection=0.0)
    away = distances(found, rows)
    spreads = (0.5, math.sqrt(2), math.sqrt(0.02))
    steps = {"low": (0.5, 0.0, 0.9), "high": (0.5, 2.0, 0.7)}
    for name, each in steps.items():
        squares = [(a / b) ** 2 for a, b in zip(each, spreads, strict=True)]
        assert away[name] == pytest.approx(math.sqrt(sum(squares) / 3))
    assert list(away) == sorted(away, key=lambda name: away[name])


def test_each_system_is_nearest_to_itself():
    rows = known_systems()
    for name, row in rows.items():
        away = distances(row, rows)
        assert next(iter(away)) == name
        assert away[name] == 0
        assert list(away.values())[1] > 0.1


def cell(source, target, ratio, trajectories=4):
    arms = {"scratch": {"holdout": 1.0, "valid": {"one_step": 0.1}},
            "free": {"holdout": 0.5, "valid": {"one_step": 0.1 * ratio}}}  # fmt: skip
    return {
        "kind": "pair",
        "source": source,
        "target": target,
        "seed": 0,
        "trajectories": trajectories,
        "minutes": 1.0,
        "chosen": "free",
        "arms": arms,
    }


def test_what_to_expect_is_what_was_measured():
    assert expectation("a", []) == ["nothing was measured yet of such starts"]
    cells = [cell("a", "b", 0.5), cell("a", "c", 2.0), cell("a", "a", 0.1), cell("b", "a", 0.9)]
    said = expectation("a", cells)
    assert len(said) == 1
    assert said[0].startswith("4 trajectories, 1 core-minutes: one-step error 1.00 times")
    assert "0.50 to 2.00 on 2 other systems. This rests on 3 simulated systems" in said[0]
    other = expectation("c", cells)[0]
    assert "starts from c were not measured; from others the one-step error is 0.97" in other
    assert len(expectation("a", [*cells, cell("a", "b", 0.7, trajectories=1)])) == 2
    assert "no pair of two systems" in expectation("a", [cell("a", "a", 0.5)])[0]
    # Of the start, also where the cell takes training from scratch.
    worse = [{**cell("a", "b", 1.5), "chosen": "scratch"}]
    assert "error 1.50 times" in expectation("a", worse)[0]


def test_the_command_says_what_to_start_from(three_systems, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = str(three_systems["flow"])
    assert main(["diagnose", folder, "--json", "row.json"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("flow: 16x16 cells, 3 channel(s) that change")
    for title, *_ in diagnosis.WORDS.values():
        assert title in shown
    assert "VRMSE of predicting no change over a step of" in shown
    start = next(line for line in shown.splitlines() if line.startswith("start from")).split()[-1]
    assert start.startswith("pocketwell/")
    assert start.removeprefix("pocketwell/") in [n for n in SYSTEMS if not SYSTEMS[n].unseen]
    assert "nothing was measured yet" in shown
    row = Descriptors.from_dict(json.loads(Path("row.json").read_text()))
    assert f"{row.persistence:.3g}" in shown
    results = Path("results/transfer/pairs")
    results.mkdir(parents=True)
    source = start.removeprefix("pocketwell/")
    (results / "one.json").write_text(json.dumps(cell(source, "elsewhere", 0.625)))
    (results / "other.json").write_text('{"kind": "bespoke"}')
    assert main(["diagnose", folder]) == 0
    shown = capsys.readouterr().out
    assert "one-step error 0.62 times that of training from scratch, 0.62 to 0.62 on 1 " in shown
    (results / "one.json").write_text('{"kind": "pair"}')
    assert main(["diagnose", folder]) == 2
    assert "one.json: a cell of a pair without 'source'" in capsys.readouterr().err
    (results / "one.json").unlink()
    assert main(["diagnose", "nowhere"]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_other_dimensions_have_no_model_to_start_from(tmp_path):
    u = np.random.default_rng(0).normal(size=(4, 6, 32)).cumsum(1)
    found = diagnose(write(tmp_path / "line", {"a": u}, ["periodic"]), results=tmp_path / "none")
    assert found.model is None
    assert "nothing: no model has as many axes" in str(found)
    assert "more than" in str(found)


def test_a_grid_that_no_model_takes_has_none(tmp_path):
    u = np.random.default_rng(0).normal(size=(4, 6, 13, 7)).cumsum(1)
    sides = ["periodic", "periodic"]
    found = diagnose(write(tmp_path / "odd", {"a": u}, sides), results=tmp_path / "none")
    assert found.model is None
    assert "nothing: axis 0 is periodic with 13 points" in str(found)
    assert "--from" not in str(found)
