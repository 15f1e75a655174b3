"""Constant fields by their logarithm: values, names, statistics, and what is refused."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

import wavelit
from runs import ONE_THREAD, SMALL
from wavelit.cli.program import main
from wavelit.data.checking.check import check_dataset
from wavelit.data.datamodule import WellDataModule
from wavelit.errors import WavelitError
from wavelit.training.config import TrainConfig
from wavelit.training.run import build_model, fit

pytestmark = pytest.mark.usefixtures("undrawn")

SPLITS = {"train": 3, "valid": 1, "test": 2}


def densities(n: int = 6) -> np.ndarray:
    """Over five decades, another for each trajectory."""
    exponents = np.random.default_rng(1).uniform(-1, 4, (n, 16, 12))
    return (10.0**exponents).astype(np.float32)


def write(folder: Path, density: np.ndarray | None = None, mask: np.ndarray | None = None) -> Path:
    draw = np.random.default_rng(0).standard_normal
    return wavelit.write_dataset(
        folder,
        {"pressure": draw((6, 9, 16, 12)).cumsum(1)},
        splits=SPLITS,
        name="media",
        boundary_conditions=["periodic", "wall"],
        constant_fields={
            "depth": draw((6, 16, 12)),
            "density": densities() if density is None else density,
            **({} if mask is None else {"mask": mask}),
        },
        mask_field=None if mask is None else "mask",
    )


def module(folder: Path, **options) -> WellDataModule:
    return WellDataModule(str(folder), n_steps_input=2, log_constants=["density"], **options)


@pytest.mark.parametrize("kept", [0, 2**30], ids=["from disk", "in memory"])
def test_models_see_the_logarithm_under_another_name(tmp_path, kept):
    folder = write(tmp_path / "data")
    data, plain = module(folder, cache_bytes=kept), WellDataModule(str(folder), n_steps_input=2)
    assert plain.constant_field_names == ["depth", "density"]
    assert data.constant_field_names == ["depth", "log density"]
    ours, theirs = (next(iter(each.train_dataloader())) for each in (data, plain))
    depth, density = theirs.constants.unbind(1)
    expected = torch.stack([depth, density.double().log().float()], 1)
    torch.testing.assert_close(ours.constants, expected, rtol=0, atol=0)
    torch.testing.assert_close(ours.fields, theirs.fields, rtol=0, atol=0)
    logs = np.log(densities()[:3].astype(np.float64))
    assert data.statistics.constant_mean[1] == pytest.approx(logs.mean(), rel=1e-6)
    assert data.statistics.constant_std[1] == pytest.approx(logs.std(), rel=1e-6)
    assert data.statistics.constant_mean[0] == plain.statistics.constant_mean[0]
    assert data.statistics.mean == plain.statistics.mean


def test_one_that_is_the_same_for_all_trajectories(tmp_path):
    folder = write(tmp_path / "data", densities()[0])
    batch = next(iter(module(folder).train_dataloader()))
    expected = torch.from_numpy(np.log(densities()[0].astype(np.float64)).astype(np.float32))
    for sample in batch.constants[:, 1]:
        torch.testing.assert_close(sample, expected, rtol=0, atol=0)


def test_of_a_part_the_statistics_are_of_that_part(tmp_path):
    data = module(write(tmp_path / "data"), trajectories=1)
    logs = np.log(densities()[:1].astype(np.float64))
    assert data.statistics.constant_std[1] == pytest.approx(logs.std(), rel=1e-6)


def test_masked_cells_need_none(tmp_path):
    """What they hold is in no statistic."""
    density, land = densities(), np.zeros((16, 12), np.float32)
    land[:4] = 1
    density[:, :4] = 0
    folder = write(tmp_path / "data", density, land)
    data = module(folder)
    logs = np.log(density[:3, 4:].astype(np.float64))
    place = data.constant_field_names.index("log density")
    assert data.statistics.constant_mean[place] == pytest.approx(logs.mean(), rel=1e-6)
    batch = next(iter(data.train_dataloader()))
    assert torch.isfinite(batch.constants).all()
    with pytest.raises(WavelitError, match="'mask' tells which cells count"):
        WellDataModule(str(folder), log_constants=["mask"]).train_dataset.close()


def test_a_run_knows_how_it_reads(tmp_path):
    """A run goes on and is scored as it was trained; a prediction by name says what is due."""
    data = module(write(tmp_path / "data"))
    model = fit(
        tmp_path / "run", data, build_model(data, **SMALL), TrainConfig(steps=2), ONE_THREAD
    )
    assert model.signature.constant_names == ("depth", "log density")
    assert model.signature.constants[1].unit == ""
    assert main(["evaluate", str(tmp_path / "run")]) == 0
    resumed = wavelit.resume(tmp_path / "run", steps=3)
    assert resumed.signature == model.signature
    with pytest.raises(WavelitError, match="log density"):
        model.predict({"pressure": np.zeros((2, 16, 12)), "density": densities()[0]})


def test_the_command_takes_names(tmp_path):
    folder = write(tmp_path / "data")
    words = ["train", str(folder), "--run", str(tmp_path / "run"), "--data.log_constants"]
    assert main([*words, "[density]", "--train.steps", "1", "--model.embed_dim", "16"]) == 0
    text = (tmp_path / "run" / "config.yaml").read_text()
    assert "log_constants:\n  - density\n" in text


def test_what_has_no_logarithm_is_named(tmp_path):
    folder = write(tmp_path / "data")
    for names, told in (
        (["pressure"], "log_constants names 'pressure', which is no constant scalar field"),
        (["depth"], r"constant field 'depth' is -\d.* which has no logarithm: leave it out"),
        ("density", "log_constants must be a list of names"),
    ):
        with pytest.raises(WavelitError, match=told):
            _ = WellDataModule(str(folder), log_constants=names).statistics
    with h5py.File(folder / "data" / "valid" / "media.hdf5", "r+") as file:
        file["t0_fields/density"][0, 3, 4] = -1.0
    with pytest.raises(WavelitError, match="field 'log density' is not finite in trajectory 0"):
        next(iter(module(folder).windows("valid")))


def test_the_check_recommends_it(tmp_path):
    said = [each.message for each in check_dataset(write(tmp_path / "data"))]
    told = "constant field 'density' spans more than a factor of 100: with log_constants="
    assert sum(told in message for message in said) == 1
    # Two values say as much as their logarithms.
    binary = np.where(densities() > 100, 1e6, 3.0)
    assert not any(told in each.message for each in check_dataset(write(tmp_path / "b", binary)))


def test_a_name_that_is_taken_is_refused(tmp_path):
    draw = np.random.default_rng(0).standard_normal
    for varying in (False, True):
        fields = {"pressure": draw((6, 9, 16, 12))}
        constants = {"density": densities()}
        (fields if varying else constants)["log density"] = draw(
            (6, 9, 16, 12) if varying else (6, 16, 12)
        )
        folder = wavelit.write_dataset(
            tmp_path / f"data{varying}",
            fields,
            splits=SPLITS,
            name="media",
            boundary_conditions=["periodic", "wall"],
            constant_fields=constants,
        )
        with pytest.raises(WavelitError, match="'log density' is the name of a field already"):
            _ = module(folder).statistics


def test_what_is_infinite_has_no_logarithm(tmp_path):
    folder = write(tmp_path / "data")
    with h5py.File(folder / "data" / "train" / "media.hdf5", "r+") as file:
        file["t0_fields/density"][0, 3, 4] = np.inf
    with pytest.raises(WavelitError, match="constant field 'density' is nan somewhere"):
        _ = module(folder).statistics
