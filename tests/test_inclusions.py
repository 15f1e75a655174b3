"""Acoustic scattering by inclusions: the media, the rings, the format."""

import numpy as np
import pytest
import torch
from the_well.data import WellDataset

from wavelit.data.pocketwell.acoustic_scattering_inclusions import (
    BACKGROUNDS,
    SYSTEM,
    medium,
    rings,
    simulate,
)
from wavelit.data.writing.write import write_well


def test_media_have_smooth_halves_and_contrasting_ellipses():
    shares, extremes, jumps = [], [], 0
    for seed in range(40):
        density, inside = medium((64, 64), np.random.default_rng(seed))
        assert density.shape == inside.shape == (64, 64)
        assert inside.any()
        shares.append(inside.mean())
        extremes.append((density[inside].min(), density[inside].max()))
        assert density[~inside].min() > 0.2
        assert density[~inside].max() < 8
        # Away from the ellipses, one straight line at most separates two smooth media.
        sharp = [np.abs(np.diff(density, axis=axis)) > 0.5 for axis in (0, 1)]
        free = [~(inside[1:] | inside[:-1]), ~(inside[:, 1:] | inside[:, :-1])]
        lines = [
            np.unique(np.nonzero(s & f)[axis])
            for axis, (s, f) in enumerate(zip(sharp, free, strict=True))
        ]
        assert len(lines[0]) + len(lines[1]) <= 1
        jumps += len(lines[0]) + len(lines[1])
    assert jumps > 15
    assert 0.05 < np.mean(shares) < 0.6
    assert np.exp(-1) <= min(low for low, _ in extremes) < 1
    assert 5000 < max(high for _, high in extremes) <= np.exp(10)


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_backgrounds_stay_between_the_stated_densities(background):
    x, y = np.linspace(-1, 1, 64)[:, None], np.linspace(-0.9, 0.3, 40)[None]
    seen = set()
    for seed in range(20):
        density = background(x, y, np.random.default_rng(seed))
        assert density.shape == (64, 40)
        assert 0.7 < density.min() <= density.max() < 7.3
        assert np.abs(np.diff(density, axis=0)).max() < 1.0
        seen.add(round(float(density[0, 0]), 9))
    assert len(seen) == 20


def test_rings_have_the_stated_strength_and_size():
    sizes = []
    for seed in range(30):
        pressure = rings((64, 64), np.random.default_rng(seed))
        assert 0.5 < pressure.max() < 9
        assert pressure.min() > -2
        sizes.append((pressure != 0).mean())
    assert 0.02 < np.mean(sizes) < 0.3


def test_a_medium_is_solved_alone_and_sound_slows_in_dense_ellipses():
    def run(seeds):
        return simulate(
            (32, 32), np.array([0.1, 0.3]), {}, [np.random.default_rng(s) for s in seeds]
        )

    together, alone = run([0, 1]), run([1])
    for name, field in alone.fields.items():
        assert np.array_equal(field[0], together.fields[name][1])
    density, speed = (together.constant_fields[name] for name in ("density", "speed_of_sound"))
    assert np.allclose(speed**2 * density, 4.0, rtol=1e-5)


def test_the_wells_reader_reads_it(tmp_path):
    shape, times, parameters = (32, 32), SYSTEM.times((32, 32), 6), {}
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
    assert data.metadata.field_names == {0: ["pressure"], 1: ["velocity_x", "velocity_y"], 2: []}
    assert data.metadata.constant_field_names == {0: ["density", "speed_of_sound"], 1: [], 2: []}
    sample = data[0]
    assert sample["input_fields"].shape == (4, 32, 32, 3)
    assert sample["boundary_conditions"].tolist() == [[0, 0], [1, 1]]
    assert (sample["constant_fields"] > 0).all()
    assert not torch.equal(sample["constant_fields"], data[len(data) // 2]["constant_fields"])
    assert torch.isfinite(sample["input_fields"]).all()
    assert SYSTEM.unseen
