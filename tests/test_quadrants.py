"""The Euler quadrants: random blocks, conserved sums, the format."""

import numpy as np
import pytest
from the_well.data import WellDataset

from wavelit.data.pocketwell.euler_multi_quadrants_periodicBC import (
    SYSTEM,
    quadrants,
    simulate,
    snapshot_times,
)
from wavelit.data.writing.write import write_well


def test_blocks_are_constant_and_follow_their_law():
    counts, values = set(), []
    for seed in range(40):
        w = quadrants((64, 64), np.random.default_rng(seed))
        assert w.shape == (4, 64, 64)
        states = np.unique(w.reshape(4, -1), axis=1)
        counts.add(states.shape[1])
        values.append(states)
        # The blocks wrap around: as many edges on the torus as cuts, at least an eighth of the side
        # apart.
        for axis in (1, 2):
            edges = np.flatnonzero((w != np.roll(w, 1, axis)).any((0, 3 - axis)))
            assert len(edges) in (2, 3)
            assert np.diff(edges, append=edges[0] + 64).min() >= 8
    assert counts == {4, 6, 9}
    rho, u, v, p = np.concatenate(values, 1)
    for positive in (rho, p):
        assert 0.2 <= positive.min() < 0.25
        assert 1.8 < positive.max() <= 2.0
    assert max(np.abs(u).max(), np.abs(v).max()) <= 0.8
    assert min(np.abs(u).max(), np.abs(v).max()) > 0.7


def test_sums_are_conserved_and_energy_is_that_of_the_gas():
    gamma = 1.22
    times = snapshot_times((32, 32), 4)
    rngs = [np.random.default_rng(seed) for seed in (0, 1)]
    fields = simulate((32, 32), times, {"gamma": gamma}, rngs).fields
    rho, energy, p, m = (
        fields[name].astype(float) for name in ("density", "energy", "pressure", "momentum")
    )
    assert np.allclose(energy, p / (gamma - 1) + 0.5 * (m**2).sum(-1) / rho, rtol=1e-5)
    for conserved in (rho, energy, m[..., 0], m[..., 1]):
        total = conserved.mean((2, 3))
        assert np.abs(total - total[:, :1]).max() < 1e-6 * np.abs(conserved).mean()
    assert rho.min() > 0.02
    assert p.min() > 0.02


def test_a_trajectory_does_not_depend_on_its_companions():
    def run(seeds):
        rngs = [np.random.default_rng(seed) for seed in seeds]
        return simulate((32, 32), np.array([0.1, 0.2]), {"gamma": 1.4}, rngs).fields

    together, alone = run([3, 4, 5]), run([4])
    for name, field in alone.items():
        assert np.array_equal(field[0], together[name][1])


def test_the_wells_reader_reads_it(tmp_path):
    shape, times, parameters = (32, 32), snapshot_times((32, 32), 6), {"gamma": 1.4}
    rngs = [np.random.default_rng(seed) for seed in (0, 1)]
    solved = simulate(shape, times, parameters, rngs)
    path = tmp_path / "data" / "train" / f"{SYSTEM.name}.hdf5"
    write_well(
        path,
        solved.fields,
        name=SYSTEM.name,
        boundary_conditions=SYSTEM.boundary_conditions,
        constant_fields=solved.constant_fields,
        scalars=parameters,
        coordinates=SYSTEM.coordinates(shape),
        time=times,
    )
    data = WellDataset(path=str(tmp_path), well_split_name="train", n_steps_input=4)
    assert data.metadata.field_names == {
        0: ["energy", "density", "pressure"],
        1: ["momentum_x", "momentum_y"],
        2: [],
    }
    assert data.metadata.constant_scalar_names == ["gamma"]
    sample = data[0]
    assert sample["input_fields"].shape == (4, 32, 32, 5)
    assert sample["boundary_conditions"].tolist() == [[2, 2], [2, 2]]
    assert float(sample["input_fields"][..., :3].min()) > 0


def test_an_unseen_family_with_the_wells_ten_gases():
    assert SYSTEM.unseen
    gammas = sorted(p["gamma"] for p in SYSTEM.parameters)
    assert gammas == [1.13, 1.22, 1.3, 1.33, 1.365, 1.4, 1.404, 1.453, 1.597, 1.76]
    assert SYSTEM.times((64, 64), 60)[0] == pytest.approx(0.015)
