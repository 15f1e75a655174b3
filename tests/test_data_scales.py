"""Which means a model keeps: those that no trajectory of the training split changes."""

import numpy as np
import pytest

from wavelit.data.datamodule import WellDataModule
from wavelit.data.writing.write import write_dataset
from wavelit.training.run import build_model


@pytest.mark.parametrize(("jumps", "kept"), [(False, True), (True, False)])
def test_a_mean_that_one_trajectory_changes_once_is_free(tmp_path, jumps, kept):
    """40 trajectories of noise about a mean that is constant but, in one of them, rises at its
    middle step: few windows show it.
    """
    change = np.random.default_rng(0).standard_normal((42, 60, 8, 8))
    u = (change - change.mean((2, 3), keepdims=True)).cumsum(1)
    if jumps:
        u[17, 30:] += 1
    write_dataset(
        tmp_path / "noise",
        {"u": u},
        splits={"train": 40, "valid": 1, "test": 1},
        name="noise",
        boundary_conditions=["periodic", "periodic"],
    )
    data = WellDataModule(str(tmp_path / "noise"))
    assert [build_model(data, levels=1, seed=seed).kept.tolist() for seed in range(3)] == [
        [kept]
    ] * 3
