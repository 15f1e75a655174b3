"""Every kind of damage is found, a sound dataset is not accused, and a summary says what is
there.
"""

import shutil

import h5py
import numpy as np
import pytest
import yaml

from conftest import numpy_statistics, write_file
from conftest import write_dataset as write_synthetic
from wavelit.cli.program import main
from wavelit.data import pieces
from wavelit.data.checking.check import check_dataset
from wavelit.data.datamodule import WellDataModule
from wavelit.data.writing.write import write_dataset, write_well
from wavelit.errors import WavelitError


def findings(folder, **options):
    return [
        (f.severity, f.file.rsplit("/", 1)[-1], f.message)
        for f in check_dataset(str(folder), **options)
    ]


def only(folder, severity, file, part, **options):
    found = findings(folder, **options)
    assert len(found) == 1, found
    assert found[0][:2] == (severity, file)
    assert part in found[0][2]


def change(folder, field, index, value, split="valid", name="one"):
    with h5py.File(folder / "data" / split / f"{name}.hdf5", "r+") as file:
        file[field][index] = value


def test_a_sound_dataset_is_clean(shared_well_folder):
    assert findings(shared_well_folder) == []


def test_every_problem_of_the_layout_is_listed(well_folder):
    with h5py.File(well_folder / "data" / "valid" / "one.hdf5", "r+") as file:
        del file["t1_fields/velocity"].attrs["dim_varying"]
        del file["scalars/nu"].attrs["time_varying"]
        del file["boundary_conditions/y_wall/mask"]
    found = findings(well_folder)
    assert [(severity, file) for severity, file, _ in found] == [("error", "one.hdf5")] * 3
    for part in (
        "'dim_varying' of '/t1_fields/velocity'",
        "'/scalars/nu'",
        "'mask' of boundary condition 'y_wall'",
    ):
        assert any(part in message for _, _, message in found)


def test_a_missing_split_and_a_bad_file(well_folder):
    shutil.rmtree(well_folder / "data" / "valid")
    (well_folder / "data" / "test" / "one.hdf5").write_text("no")
    found = findings(well_folder)
    assert [file for _, file, _ in found] == ["valid", "one.hdf5"]
    assert "no such folder" in found[0][2]
    assert "not an HDF5 file" in found[1][2]


@pytest.mark.parametrize("field", ["t1_fields/velocity", "t2_fields/stress"])
def test_not_finite(well_folder, field):
    change(well_folder, field, (1, slice(3, None), 0, 2), np.nan)
    name = field.rsplit("/", 1)[-1]
    only(
        well_folder,
        "error",
        "one.hdf5",
        f"field '{name}' of trajectory 1 is not finite from step 3 on",
    )


def test_not_finite_on_excluded_cells(well_folder):
    change(well_folder, "t1_fields/velocity", (1, slice(3, None), 0, 2), np.nan)
    (well_folder / "stats.yaml").unlink()
    from wavelit.data.statistics import write_statistics

    write_statistics(str(well_folder), mask_field="mask")
    only(
        well_folder,
        "warning",
        "one.hdf5",
        "'velocity' has 8 non-finite values on excluded",
        mask_field="mask",
    )


def test_density_must_be_positive(well_folder):
    change(well_folder, "t0_fields/density", (1, 2, 3, 3), -0.5)
    # Of a dataset of one's own only the name says that it is one.
    only(well_folder, "warning", "one.hdf5", "field 'density' of trajectory 1 falls to -0.5")
    for path in (well_folder / "data").rglob("*.hdf5"):
        with h5py.File(path, "r+") as file:
            file.attrs["dataset_name"] = "euler_multi_quadrants_periodicBC"
    only(well_folder, "error", "one.hdf5", "field 'density' of trajectory 1 falls to -0.5")


def test_a_conformation_tensor_is_positive_definite(tmp_path):
    rng = np.random.default_rng(0)
    root = rng.standard_normal((4, 6, 8, 6, 2, 2))
    tensor = root @ root.swapaxes(-1, -2) + 0.01 * np.eye(2)
    name, kinds = "viscoelastic_instability", ["periodic", "wall"]
    splits = {"train": 2, "valid": 1, "test": 1}
    fields = {"C": tensor, "c_zz": np.exp(rng.standard_normal((4, 6, 8, 6)))}
    sound = write_dataset(
        tmp_path / "sound", fields, splits=splits, name=name, boundary_conditions=kinds
    )
    assert findings(sound) == []
    # Both eigenvalues negative: the determinant alone is positive.
    fields["C"][2, 3, 1, 1] = [[-2.0, 0.5], [0.5, -2.0]]
    fields["c_zz"][3, 0, 0, 0] = -1.0
    bad = write_dataset(
        tmp_path / "bad", fields, splits=splits, name=name, boundary_conditions=kinds
    )
    found = findings(bad)
    assert [severity for severity, _, _ in found] == ["error"] * 2
    assert "smallest eigenvalue of field 'C' of trajectory 0 falls to -2.5" in found[0][2]
    assert "field 'c_zz' of trajectory 0 falls to -1" in found[1][2]
    # Another dataset may call what it likes C.
    other = write_dataset(
        tmp_path / "other", fields, splits=splits, name="other", boundary_conditions=kinds
    )
    assert findings(other) == []


def test_rods_are_at_most_parallel(tmp_path):
    rng = np.random.default_rng(0)
    concentration = np.exp(0.3 * rng.standard_normal((4, 6, 8, 6)))
    angle = rng.uniform(0, np.pi, (4, 6, 8, 6))
    turn = np.stack([np.cos(angle), np.sin(angle)], -1)
    # All rods parallel: |Q| = c.
    tensor = concentration[..., None, None] * turn[..., :, None] * turn[..., None, :]
    splits = {"train": 2, "valid": 1, "test": 1}
    for factor, sound in ((1.0, True), (1.009, True), (1.02, False)):
        fields = {"concentration": concentration, "D": factor * tensor}
        folder = write_dataset(
            tmp_path / str(factor),
            fields,
            splits=splits,
            name="active_matter",
            boundary_conditions=["periodic", "periodic"],
        )
        found = findings(folder)
        assert (found == []) == sound
        assert all(
            "1.01 c - |Q| of field 'D' of trajectory 0 falls to -0.0" in m for _, _, m in found
        )


def test_a_mask_that_excludes_nothing_or_everything(well_folder):
    found = findings(well_folder, mask_field="mask", mask_excludes=2.0)
    assert [severity for severity, _, _ in found] == ["warning"]
    assert "mask_field 'mask' has 2 values (0, 1), but 2 on excluded cells" in found[0][2]
    assert found[0][2].endswith("(and in 3 more files)")
    for split, name in (("train", "one"), ("train", "two"), ("valid", "one"), ("test", "one")):
        change(well_folder, "t0_fields/mask", slice(None), 1.0, split, name)
    assert "error" in [f[0] for f in findings(well_folder, mask_field="mask")]


def test_a_mask_of_each_trajectorys_own_leaves_some_cells(tmp_path):
    mask = np.zeros((3, 8, 6))
    mask[:, 0] = 1
    waves = np.random.default_rng(0).standard_normal((3, 6, 8, 6))
    splits = {"train": 1, "valid": 1, "test": 1}
    for name in ("sound", "spoilt"):
        if name == "spoilt":
            mask[1] = 1
        write_dataset(
            tmp_path / name,
            {"u": waves},
            splits=splits,
            name="waves",
            boundary_conditions=["open", "open"],
            constant_fields={"mask": mask},
        )
        found = check_dataset(str(tmp_path / name), mask_field="mask")
        errors = [finding.message for finding in found if finding.severity == "error"]
        assert errors == ["mask_field 'mask' excludes all cells of trajectory 0; leave it out"] * (
            name == "spoilt"
        )


def test_statistics_over_all_cells_serve_a_mask_too(well_folder):
    from wavelit.data.statistics import write_statistics

    # Those of the fixture count all cells, as The Well's do.
    assert findings(well_folder, mask_field="mask") == []
    write_statistics(str(well_folder), mask_field="mask")
    assert findings(well_folder, mask_field="mask") == []
    # Without its name the statistics are not called wrong: the mask is found.
    ((severity, _, message),) = findings(well_folder)
    assert severity == "error"
    assert "--mask_field mask --mask_excludes 1 here, and the same in training" in message


def test_a_declared_mask_needs_no_name(well_folder):
    from wavelit.data.statistics import write_statistics

    write_statistics(str(well_folder), mask_field="mask")
    declare(well_folder, mask_field="mask", mask_excludes=1.0)
    assert findings(well_folder) == []
    assert findings(well_folder, mask_field="mask") == []
    ((_, _, message), *_) = findings(well_folder, mask_field="mask", mask_excludes=0.0)
    assert "declares that 'mask' is 1 on excluded cells, not 0" in message


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"mask_field": "density", "mask_excludes": 1.0}, "'density', which is not a constant sc"),
        ({"mask_field": "mask"}, "'mask_excludes' is missing"),
        ({"mask_field": "mask", "mask_excludes": np.nan}, "is nan; a number is due"),
        ({"mask_field": 3, "mask_excludes": 1.0}, "text is due"),
        ({"forcings": ["mask"]}, "names 'mask', which is no field or scalar that varies in time"),
    ],
)
def test_what_a_file_declares_is_there(well_folder, attributes, message):
    declare(well_folder, **attributes)
    assert any(message in found for _, _, found in findings(well_folder))


def declare(folder, **attributes):
    for path in folder.glob("data/*/*.hdf5"):
        with h5py.File(path, "r+") as file:
            file.attrs.update(attributes)


def test_repeated_frames(well_folder):
    with h5py.File(well_folder / "data" / "valid" / "one.hdf5", "r+") as file:
        for field in ("t0_fields/density", "t0_fields/pressure", "t1_fields/velocity"):
            file[field][1, 5] = file[field][1, 4]
    assert findings(well_folder) == []
    change(well_folder, "t2_fields/stress", (1, slice(4, 6)), 1.0)
    only(
        well_folder,
        "warning",
        "one.hdf5",
        "1 frames repeat the one before, the first at step 5 of trajectory 1",
    )


def test_leak_between_splits(well_folder):
    data = well_folder / "data"
    with (
        h5py.File(data / "train" / "two.hdf5") as source,
        h5py.File(data / "test" / "one.hdf5", "r+") as target,
    ):
        for field in (
            "t0_fields/density",
            "t0_fields/pressure",
            "t1_fields/velocity",
            "t2_fields/stress",
        ):
            target[field][0] = source[field][1]
        last = target["t0_fields/pressure"][0, -1]
    only(well_folder, "error", "one.hdf5", "trajectory 0 is trajectory 1 of ")
    # The same initial state with another outcome is no leak.
    change(well_folder, "t0_fields/pressure", (0, -1), last + 1.0, split="test")
    assert findings(well_folder) == []


def test_statistics_that_do_not_fit(well_folder):
    file = well_folder / "stats.yaml"
    table = yaml.safe_load(file.read_text())
    table["std_delta"]["velocity"][1] *= 1.0005
    table["mean_delta"]["pressure"] += 1e-4 * table["std_delta"]["pressure"]
    file.write_text(yaml.safe_dump(table))
    assert findings(well_folder) == []
    table["std_delta"]["velocity"][1] *= 1.002
    file.write_text(yaml.safe_dump(table))
    only(well_folder, "error", "stats.yaml", "'std_delta' of field 'velocity' is [")
    file.unlink()
    only(well_folder, "error", "stats.yaml", "no such file; write it by `wavelit data check")


def test_constant_without_information(well_folder):
    for split, name in (("train", "one"), ("train", "two"), ("valid", "one"), ("test", "one")):
        change(well_folder, "t0_fields/mask", slice(None), 0.0, split, name)
    (well_folder / "stats.yaml").write_text(yaml.safe_dump(numpy_statistics(well_folder)))
    only(well_folder, "warning", "stats.yaml", "constant field 'mask' is the same everywhere")


def test_too_few_steps(well_folder):
    write_file(well_folder / "data" / "test" / "one.hdf5", seed=9, n_steps=4)
    found = findings(well_folder)
    assert "4 steps a trajectory" in found[0][2]
    # Its four frames cover the time of seven.
    assert [severity for severity, _, _ in found] == ["error", "warning"]
    assert "the time between frames is 0.1667 in" in found[1][2]


def test_splits_must_agree(well_folder):
    write_file(well_folder / "data" / "test" / "one.hdf5", seed=9, resolution=(8, 8))
    assert any(
        "resolution is (8, 8) but (8, 6)" in message for _, _, message in findings(well_folder)
    )
    write_file(well_folder / "data" / "test" / "one.hdf5", seed=9)
    change(well_folder, "boundary_conditions/y_wall/mask", -1, True, split="test")
    assert any("boundary conditions" in message for _, _, message in findings(well_folder))


def test_uneven_time_and_missing_parameters(well_folder):
    change(well_folder, "dimensions/time", -1, 9.0)
    only(well_folder, "warning", "one.hdf5", "'time' is not evenly spaced")
    with h5py.File(well_folder / "data" / "valid" / "one.hdf5", "r+") as file:
        del file.attrs["simulation_parameters"]
    assert [severity for severity, _, _ in findings(well_folder)] == ["warning"] * 2


def test_a_warning_of_many_files_is_one(well_folder):
    for split in ("train", "valid", "test"):
        change(well_folder, "dimensions/time", -1, 9.0, split=split)
    only(well_folder, "warning", "one.hdf5", "models assume it is (and in 2 more files)")


def test_scalars(well_folder):
    change(well_folder, "scalars/a", 1, np.nan)
    only(well_folder, "error", "one.hdf5", "scalar 'a' of trajectory 1 is not finite")
    write_file(well_folder / "data" / "valid" / "one.hdf5", seed=9, vary_scalar_in_time=True)
    assert any("scalar 'b' varies in time" in message for _, _, message in findings(well_folder))


def waves(n, steps, amplitude=1.0, offset=0.0):
    phase, t = np.random.default_rng(n).uniform(0, 6, (n, 1, 1)), np.arange(steps)[:, None]
    return offset + amplitude * np.sin(np.arange(16) + phase - 0.3 * t)


def write_waves(folder, fields=None, **options):
    return write_dataset(
        folder,
        {"u": waves(4, 8)} if fields is None else fields,
        splits={"train": 2, "valid": 1, "test": 1},
        name="waves",
        boundary_conditions=["periodic"],
        **options,
    )


def test_trajectories_of_several_lengths(tmp_path):
    folder = write_waves(tmp_path / "waves")
    write_well(
        folder / "data/valid/b.hdf5",
        {"u": waves(1, 6)},
        name="waves",
        boundary_conditions=["periodic"],
    )
    only(
        folder, "warning", "b.hdf5", "trajectories of 6 to 8 steps; rollouts end with the shortest"
    )
    with pytest.warns(UserWarning, match="waves, valid: trajectories of 6 to 8 steps"):
        lengths = [
            batch.target.shape[1] for batch in WellDataModule(str(folder)).trajectories("valid")
        ]
    assert lengths == [2, 2]


def test_a_field_that_hardly_varies_over_the_grid(tmp_path):
    folder = write_waves(tmp_path / "small", {"u": waves(4, 8, 1e-4)})
    found = findings(folder)
    assert [(severity, file) for severity, file, _ in found] == [("warning", "small")]
    assert "the variance of field 'u' over the grid is 5e-09 in its median frame" in found[0][2]
    assert findings(write_waves(tmp_path / "larger", {"u": waves(4, 8, 1e-2)})) == []
    uniform = np.repeat(np.random.default_rng(0).normal(size=(4, 8, 1)), 16, 2)
    assert (
        "of field 'g' over the grid is 0 "
        in findings(write_waves(tmp_path / "uniform", {"u": waves(4, 8), "g": uniform}))[0][2]
    )


def test_a_large_offset_hides_small_increments(tmp_path):
    folder = write_waves(tmp_path / "pressure", {"u": waves(4, 8, 0.05, 101325)})
    (finding,) = findings(folder)
    assert finding[:2] == ("warning", "stats.yaml")
    assert "float32 rounds off more than a hundredth; subtract the mean" in finding[2]
    assert findings(write_waves(tmp_path / "closer", {"u": waves(4, 8, 0.05, 1)})) == []


def test_a_time_step_of_its_own(tmp_path):
    folder = write_waves(tmp_path / "waves")
    arguments = {"name": "waves", "boundary_conditions": ["periodic"]}
    write_well(
        folder / "data/valid/waves.hdf5", {"u": waves(1, 8)}, time=0.5 * np.arange(8), **arguments
    )
    only(folder, "warning", "waves.hdf5", "the time between frames is 0.5 in")
    # One that files of the same scalars share can be learned.
    folder = write_waves(tmp_path / "scalars", scalars={"At": 0.25})
    for split, atwood in (("valid", 0.5), ("test", 0.25)):
        write_well(
            folder / f"data/{split}/waves.hdf5",
            {"u": waves(4 + int(4 * atwood), 8)},
            time=atwood**-0.5 * np.arange(8) / 2,
            scalars={"At": atwood},
            **arguments,
        )
    assert findings(folder) == []
    # One that is a share of a period can be told from the frequency.
    folder = write_waves(tmp_path / "periods", scalars={"omega": 2.0})
    for split, omega in (("valid", 4.0), ("test", 1.0)):
        write_well(
            folder / f"data/{split}/waves.hdf5",
            {"u": waves(1 + int(omega), 8)},
            time=2 / omega * np.arange(8),
            scalars={"omega": omega},
            **arguments,
        )
    assert findings(folder) == []


def test_a_scalar_without_a_logarithm(tmp_path):
    folder = write_waves(tmp_path / "waves", scalars={"Re": np.array([1.0, 100.0, 0.0, 2.0])})
    only(folder, "error", "waves", "scalar 'Re' is 0, but in the training split it is positive")
    with pytest.raises(WavelitError, match="scalar 'Re' is 0"):
        WellDataModule(str(folder)).val_dataloader()
    assert (
        findings(write_waves(tmp_path / "other", scalars={"Re": np.array([1.0, 9.0, 0.0, 2.0])}))
        == []
    )


def test_frames_that_come_one_by_one_and_a_single_one(well_folder, monkeypatch):
    monkeypatch.setattr(pieces, "CHUNK_BYTES", 1)
    assert findings(well_folder) == []
    write_file(well_folder / "data" / "test" / "one.hdf5", seed=9, n_steps=1)
    assert "1 steps a trajectory" in findings(well_folder)[0][2]


def test_a_component_that_hardly_varies_is_named(tmp_path):
    flow = np.stack([waves(4, 8), waves(5, 8, 1e-4)[:4]], -1)[:, :, :, None]
    folder = write_dataset(
        tmp_path / "flow",
        {"v": np.repeat(flow, 4, 3)},
        splits={"train": 2, "valid": 1, "test": 1},
        name="flow",
        boundary_conditions=["periodic", "periodic"],
    )
    only(folder, "warning", "flow", "the variance of component 1 of field 'v' over the grid is ")


def test_an_empty_path_is_named():
    with pytest.raises(WavelitError, match="path is '', a blank word; name a folder"):
        check_dataset("")
    with pytest.raises(WavelitError, match="path is ' ', a blank word; name a folder"):
        check_dataset(" ")


def test_statistics_of_too_many_digits_are_refused(well_folder):
    path = well_folder / "stats.yaml"
    table = yaml.safe_load(path.read_text())
    table["rms_delta"]["density"] = 10**400
    path.write_text(yaml.safe_dump(table))
    only(well_folder, "error", "stats.yaml", "a whole number of 401 digits")


def test_a_sample_is_read_of_each_file(tmp_path, capsys):
    folder = write_synthetic(tmp_path / "five", n_trajectories=5)
    change(folder, "t1_fields/velocity", (1, slice(3, None), 0, 2), np.nan)
    assert findings(folder, sample=3) == []
    only(folder, "error", "one.hdf5", "of trajectory 1 is not finite", sample=5)
    change(folder, "t0_fields/pressure", (4, slice(6, None), 0), np.inf)
    only(folder, "error", "one.hdf5", "of trajectory 4 is not finite from step 6", sample=2)
    # What comes of other numbers than these is not compared with them.
    change(folder, "t0_fields/pressure", (4, slice(6, None), 0), 5.0)
    table = yaml.safe_load((folder / "stats.yaml").read_text())
    table["std"]["pressure"] *= 2
    (folder / "stats.yaml").write_text(yaml.safe_dump(table))
    assert main(["data", "check", str(folder), "--sample", "1"]) == 0
    told = capsys.readouterr().out
    assert "of each file 1 trajectories at most were read, and stats.yaml was not compared" in told


def test_a_frame_is_repeated_only_where_it_was_read(tmp_path):
    folder = write_synthetic(tmp_path / "five", n_trajectories=5)
    with h5py.File(folder / "data" / "train" / "one.hdf5", "r+") as file:
        for order in range(3):
            for values in file[f"t{order}_fields"].values():
                if values.attrs["time_varying"]:
                    values[1, 5] = values[1, 4]
    assert findings(folder, sample=2) == []
    (told,) = [message for *_, message in findings(folder, sample=5) if "repeat" in message]
    assert "the first at step 5 of trajectory 1" in told


@pytest.mark.parametrize("sample", [0, -1, 1.5, "2", True])
def test_a_sample_is_a_number_of_trajectories(well_folder, sample):
    with pytest.raises(WavelitError, match="sample"):
        check_dataset(well_folder, sample=sample)
