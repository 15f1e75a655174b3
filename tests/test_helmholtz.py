"""The staircase's sound: exact where a formula exists, symmetric, at rest across the walls, with
the trapped waves of The Well's frequencies; and its dataset: masked, read by The Well, a fixed
rotation a step."""

import h5py
import numpy as np
import pytest
from the_well.data import WellDataset

from wavelit.data.checking.check import check_dataset
from wavelit.data.datamodule import WellDataModule
from wavelit.data.pocketwell import generate
from wavelit.data.pocketwell.helmholtz import (
    BESSEL_ORDER,
    Boundary,
    PeriodicSurface,
    contour,
    green,
)
from wavelit.data.pocketwell.helmholtz_staircase import (
    OMEGAS,
    STAIRS,
    SYSTEM,
    coordinates,
    draw_source,
    surface_height,
)
from wavelit.evaluation.evaluate import evaluate
from wavelit.evaluation.rollout import persistence

FLAT = ((-0.5, 0.0), (0.5, 0.0))
SOURCES = np.array([[0.1, 0.2], [-0.3, 0.1]])


def above(n, seed=0):
    """Points up to 3.5 over the stairs, none closer than 0.03."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-8, 8, n)
    return np.stack([x, surface_height(x) + 0.03 + rng.uniform(0, 3.4, n)], -1)


def flat_error(omega, n_kappa):
    points = above(200) + np.array([0, 0.5])
    found = PeriodicSurface(omega, Boundary(FLAT, grading=3)).solve(SOURCES, points, n_kappa)
    exact = [
        green(omega, points - source) + green(omega, points - source * [1, -1])
        for source in SOURCES
    ]
    return np.abs(found - np.stack(exact)).max()


@pytest.mark.parametrize("omega", [0.25123038, 1.36324313, 2.4331094])
def test_above_a_flat_wall_the_field_is_that_of_source_and_image(omega):
    assert flat_error(omega, 128) < 1e-8


def test_array_scanning_converges_exponentially():
    errors = [flat_error(1.36324313, n) for n in (32, 64, 96)]
    assert errors[1] < 3e-3 * errors[0]
    assert errors[2] < 3e-2 * errors[1]


def test_the_contours_weights_are_a_mean():
    kappa, weight = contour(64)
    # The mean of a phase is 0, of 1 is 1, although kappa is complex.
    np.testing.assert_allclose(
        (np.exp(1j * np.outer((0, 1, -5), kappa)) * weight).sum(1), (1, 0, 0), atol=1e-12
    )


def test_the_mesh_error_falls_faster_than_the_fourth_order():
    points = above(100, seed=1)
    reference = PeriodicSurface(2.04282969, Boundary(STAIRS, panels=10)).solve(SOURCES, points, 64)
    errors = []
    for panels in (4, 8, 16):
        surface = PeriodicSurface(2.04282969, Boundary(STAIRS, panels, order=6, grading=6))
        errors.append(np.abs(surface.solve(SOURCES, points, 64) - reference).max())
    assert errors[0] < 2e-2
    assert errors[1] < errors[0] / 16
    # Order five over both doublings; rounding moves each one by a half, from one BLAS kernel to the
    # next.
    assert errors[2] < errors[0] / 4**5


def test_reciprocity_within_and_across_cells():
    surface = PeriodicSurface(1.36324313, Boundary(STAIRS))
    a, b, cells = np.array([-0.4, -0.2]), np.array([0.25, 0.3]), np.array([[0.0, 0.0], [3.0, 0.0]])
    from_a = surface.solve(a[None], b + cells, 96)[0]
    from_b = surface.solve(b[None], a - cells, 96)[0]
    np.testing.assert_allclose(from_a, from_b, rtol=0, atol=1e-8)
    # Neither is it a symmetry of the free field.
    assert abs(from_a[0] - green(1.36324313, b - a)) > 0.1


def test_helmholtz_equation_across_the_seams():
    omega, h = 2.19133479, 0.03
    # In a groove, at a cell's side, at the height where plane waves take over, far away.
    centres = np.array([[1.45, -0.3], [0.5, 0.3], [-2.2, 0.75], [7.9, 3.0], [0.5, 0.75]])
    weights = {-2: -1 / 12, -1: 4 / 3, 0: -2.5, 1: 4 / 3, 2: -1 / 12}
    offsets = [np.array(axis) * k * h for axis in ((1, 0), (0, 1)) for k in weights]
    points = np.concatenate([centres + offset for offset in offsets])
    values = (
        PeriodicSurface(omega, Boundary(STAIRS)).solve(SOURCES[:1], points)[0].reshape(2, 5, -1)
    )
    laplacian = np.einsum("akp,k->p", values, list(weights.values())) / h**2
    residual = np.abs(laplacian + omega**2 * values[0, 2])
    assert residual.max() < 2e-4 * np.abs(values).max() * omega**2


def test_the_stairs_are_sound_hard():
    # Off the middle of a flank: along its normal and along itself.
    foot, normal = np.array([1.25, -0.25]), np.array([1.0, 1.0]) / np.sqrt(2)
    distances = np.array([0.025, 0.05, 0.075, 0.1, 0.125])
    along = np.array([-2, -1, 1, 2]) * 0.03
    points = np.concatenate(
        [
            foot + distances[:, None] * normal,
            foot + 0.025 * normal + along[:, None] * normal * [1, -1],
        ]
    )
    values = PeriodicSurface(1.88295798, Boundary(STAIRS)).solve(SOURCES[:1], points)[0]
    slope = np.polynomial.polynomial.polyfit(distances, values[:5], 4)[1]
    tangential = np.polynomial.polynomial.polyfit(along, values[5:], 2)[1]
    assert abs(slope) < 1e-3 * abs(tangential)


@pytest.mark.parametrize(("omega", "number"), [(0.81330465, 13), (1.5412579, 25), (2.5110908, 46)])
def test_trapped_waves_of_the_wells_frequencies(omega, number):
    # The Well's frequencies are those of trapped waves with whole numbers of 0.02 pi.
    surface = PeriodicSurface(omega, Boundary(STAIRS))
    source = [surface._conditions(SOURCES[:1], np.ones(1))]

    def inverse(kappa):
        return 1 / surface.bloch(kappa, source)[0][1][BESSEL_ORDER]

    expected = 0.02 * np.pi * number
    kappa = [complex(expected + 1e-3), complex(expected + 2e-3)]
    values = [inverse(k) for k in kappa]
    for _ in range(10):
        kappa.append(kappa[-1] - values[-1] * (kappa[-1] - kappa[-2]) / (values[-1] - values[-2]))
        values.append(inverse(kappa[-1]))
        if abs(kappa[-1] - kappa[-2]) < 1e-9:
            break
    assert abs(kappa[-1] - expected) < 1e-5


def test_sources_are_above_the_stairs():
    sources = np.array([draw_source(np.random.default_rng(i)) for i in range(300)])
    assert (sources[:, 1] - surface_height(sources[:, 0])).min() > 0.149
    assert np.abs(sources[:, 0]).max() < 0.4
    assert -0.2 <= sources[:, 1].min() < -0.15
    assert sources[:, 1].max() < 0.4


def test_no_point_of_a_grid_is_on_the_stairs():
    for shape in SYSTEM.shapes.values():
        x, y = np.meshgrid(*coordinates(shape).values(), indexing="ij")
        assert np.abs(y - surface_height(x)).min() > 0.49 * 4 / shape[1]


def test_a_trajectory_turns_and_does_not_depend_on_its_batch():
    times = np.arange(60) / 50
    rngs = [[np.random.default_rng(i) for i in numbers] for numbers in ((3,), (5, 3))]
    alone, together = (
        SYSTEM.simulate((64, 16), times, {"omega": 1.18207893}, some) for some in rngs
    )
    for name in ("pressure_re", "pressure_im"):
        np.testing.assert_array_equal(alone.fields[name][0], together.fields[name][1])
    re, im = alone.fields["pressure_re"][0], alone.fields["pressure_im"][0]
    wave = re + 1j * im
    turned = wave[0] * np.exp(-2j * np.pi * times)[:, None, None]
    assert np.abs(wave - turned).max() < 2e-7 * np.abs(wave).max()
    mask = alone.constant_fields["mask"][0]
    assert set(np.unique(mask)) == {0, 1}
    assert np.abs(wave[:, mask == 1]).max() == 0 < np.abs(wave[:, mask == 0]).min()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return generate(
        "helmholtz_staircase",
        "tiny",
        root=tmp_path_factory.mktemp("root"),
        processes=1,
        progress=False,
    )


def test_the_wells_reader_and_the_check(folder):
    assert check_dataset(str(folder), mask_field="mask") == []
    data = WellDataset(path=str(folder), well_split_name="train", n_steps_input=4)
    assert data.metadata.field_names == {0: ["pressure_re", "pressure_im"], 1: [], 2: []}
    assert data.metadata.constant_field_names == {0: ["mask"], 1: [], 2: []}
    assert data.metadata.constant_scalar_names == ["omega"]
    assert data[0]["boundary_conditions"].tolist() == [[1, 1], [0, 1]]
    for split, count in (("train", 4), ("valid", 2), ("test", 2)):
        files = sorted((folder / "data" / split).glob("*.hdf5"))
        assert len(files) == count
        for file in files:
            with h5py.File(file) as f:
                assert f.attrs["omega"] in OMEGAS
                # As many cells under the stairs as their area takes, to a row.
                assert 1 / 16 < f["t0_fields/mask"][0].mean() < 1 / 8


def test_the_next_frame_is_a_rotation(folder):
    data = WellDataModule(str(folder), n_steps_input=2, mask_field="mask")
    scores = evaluate(persistence, data, "test", model="held").scores
    assert scores["exact rotation"].one_step.max() < 1e-5
    assert scores["exact rotation"].rollout.max() < 1e-4
    assert scores["persistence"].one_step.mean() == pytest.approx(0.15, abs=0.05)
