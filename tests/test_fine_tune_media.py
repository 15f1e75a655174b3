"""A trained joint model on other constant fields and narrower grids: what it knows of a medium and
of neighbouring tokens is kept as far as it holds.
"""

import shutil

import h5py
import pytest
import torch

import wavelit
from systems import SMALL, randomised
from wavelit.data.datamodule import WellDataModule
from wavelit.data.joint import JointDataModule
from wavelit.data.statistics import write_statistics
from wavelit.training.fine_tune import for_dataset
from wavelit.training.joint_run import build_joint
from waves import plane_waves

pytestmark = pytest.mark.long


def test_a_kernel_that_is_wider_than_the_grid_is_cut(three_systems, tmp_path):
    """Shared or a system's own, its middle is kept."""
    data = JointDataModule({"waves": three_systems["waves"]})
    narrow = wavelit.write_dataset(
        tmp_path / "narrow",
        {"pressure": plane_waves(5, 8)[..., :12]},
        splits={"train": 3, "valid": 1, "test": 1},
        name="narrow",
        boundary_conditions=["periodic", "wall"],
    )
    for own in ((), ("stencils",)):
        model = randomised(build_joint(data, **SMALL, own=own))
        with pytest.warns(UserWarning, match=r"mixers=conv:7x5 is taken .* middle of each kernel"):
            fine = for_dataset(model, narrow)
        ours, theirs = (joint[name] for joint, name in ((model, "waves"), (fine, "narrow")))
        before = ours.pyramid.towers[0][0].attention.local.weight
        after = theirs.pyramid.towers[0][0].attention.local.weight
        assert after.shape[2:] == (7, 5)
        torch.testing.assert_close(after, before[..., 1:-1], rtol=0, atol=0)


def test_constants_are_seen_as_the_system_saw_them(three_systems, tmp_path):
    heat = three_systems["heat"]
    data = JointDataModule({"heat": heat})
    model = randomised(build_joint(data, **SMALL))
    ours = model["heat"].normalizer
    for factor, kept in ((0.9, True), (100.0, False)):
        folder = shutil.copytree(heat, tmp_path / f"{factor:g}")
        for path in folder.rglob("*.hdf5"):
            with h5py.File(path, "r+") as file:
                file["t0_fields/conductivity"][...] *= factor
        write_statistics(folder)
        other = WellDataModule(folder)
        found = for_dataset(model, other)["heat"].normalizer
        due = ours.constant_std.tolist() if kept else other.statistics.constant_std
        assert found.constant_std.tolist() == pytest.approx(due, rel=1e-6)


def test_constants_that_are_not_the_same_are_told(three_systems, tmp_path, capsys):
    heat = three_systems["heat"]
    data = JointDataModule({"heat": WellDataModule(heat, log_constants=["conductivity"])})
    model = randomised(build_joint(data, **SMALL))
    for_dataset(model, WellDataModule(heat))
    assert capsys.readouterr().out == (
        "heat starts from heat: fields taken temperature; constants new conductivity, dropped log "
        "conductivity\n"
    )
