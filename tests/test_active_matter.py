"""Active matter: the closure against quadrature, Stokes' equation, growth rates, order, bounds,
turbulence.
"""

import math

import numpy as np
import pytest
import torch
from the_well.data import WellDataset

from wavelit.data.pocketwell.active_matter import (
    BETA,
    ROTATION,
    SNAPSHOT,
    STEPS,
    SYSTEM,
    TRANSLATION,
    ActiveFluid,
    _aligning,
    _product,
    defect_charges,
    initial_state,
    simulate,
    snapshot_times,
)
from wavelit.data.pocketwell.bingham import fourth_moment
from wavelit.data.pocketwell.system import SolverDivergedError
from wavelit.data.writing.write import write_well

pytestmark = pytest.mark.long

SHAPE = (32, 32)
LENGTH = 10.0
ANGLES = np.arange(4096) * (2 * math.pi / 4096)
RODS = np.stack([np.cos(ANGLES), np.sin(ANGLES)])


def grid_points(shape=SHAPE, length=LENGTH):
    axes = [torch.arange(n, dtype=torch.float64) * (length / n) for n in shape]
    return torch.meshgrid(*axes, indexing="ij")


def state(seed=0, shape=SHAPE):
    """A smooth random state of moderate order, as (1, H, W) and (1, 2, H, W)."""
    c, q = initial_state(shape, np.random.default_rng(seed))
    return torch.from_numpy(c)[None], 2 * torch.from_numpy(q)[None]


def bingham(b, direction):
    """Weights over ANGLES, summing to one; b up to 1000 keeps the peak 100 points wide."""
    weights = np.exp(b * (np.cos(2 * (ANGLES - direction)) - 1))
    return weights / weights.sum()


def test_closure_is_the_quadrature_over_angles():
    for b in np.concatenate([[0.0, 1e-4, 1e-2], np.geomspace(0.05, 1000, 60)]):
        weights = 1.7 * bingham(b, 0.3)
        q, r = ((weights * np.exp(1j * m * ANGLES)).sum() for m in (2, 4))
        closed = fourth_moment(
            torch.tensor([[[1.7]]], dtype=torch.float64),
            torch.tensor([q.real, q.imag], dtype=torch.float64)[None, :, None, None],
        )
        assert complex(*closed.flatten().tolist()) == pytest.approx(r, abs=2e-9)


def test_closure_beyond_perfect_order_stays_perfect():
    q = torch.tensor([1.005, 0.0], dtype=torch.float64)[None, :, None, None]
    r = fourth_moment(torch.ones(1, 1, 1, dtype=torch.float64), q)
    assert r.flatten().tolist() == pytest.approx([1.005**2, 0.0], abs=1e-9)


def test_complex_form_is_the_tensor_equation():
    """The right-hand side at a point against moments over angles and matrices."""
    b, c, zeta = 2.3, 1.4, 3.0
    weights = c * bingham(b, 0.4)
    tensor = np.einsum("a,ia,ja->ij", weights, RODS, RODS)
    fourth = np.einsum("a,ia,ja,ka,la->ijkl", weights, RODS, RODS, RODS, RODS)
    strain = np.array([[0.3, -0.7], [-0.7, -0.3]])

    def column(matrix):
        return (
            torch.tensor([matrix[0, 0] - matrix[1, 1], 2 * matrix[0, 1]])[None, :, None, None] / 2
        )

    q = 2 * column(tensor)
    c_field = torch.full((1, 1, 1), c, dtype=torch.float64)
    r = fourth_moment(c_field, q)
    aligning = _aligning(c_field, r)
    contracted = np.einsum("ijkl,kl->ij", fourth, tensor)
    # 4 zeta (D D - S:D) turns D, that is Q / 2.
    torque = 4 * zeta * (tensor @ tensor - contracted)
    assert torch.allclose(zeta * _product(aligning, q) / 2, column(torque), atol=1e-8)
    # The steric stress, 2 zeta beta (D D - S:D).
    assert torch.allclose(
        (BETA * zeta / 4) * _product(aligning, q), column(BETA * torque / 2), atol=1e-8
    )
    # E D + D E - 2 S:E stretches D, and beta S:E resists.
    held = np.einsum("ijkl,kl->ij", fourth, strain)
    e = column(strain)
    stretched = strain @ tensor + tensor @ strain - 2 * held
    assert torch.allclose(_product(aligning, e) / 2, column(stretched), atol=1e-8)
    assert torch.allclose(c * e / 2 - _product(aligning, e) / 4, column(held), atol=1e-8)


def test_stokes_equation_holds():
    c, q = state()
    fluid = ActiveFluid(SHAPE, LENGTH, 3.0, -4.0, 0.02)
    c, q = fluid.fields(fluid.modes(c, q))
    u, strain = fluid.flow(c, q, iterations=40)
    few = fluid.flow(c, q)[1]
    assert float((few - strain).norm() / strain.norm()) < 1e-4
    # The force balance by spectral derivatives of the full stress; its curl must vanish.
    r = fourth_moment(c, q)
    q_c, e_c, r_c = (torch.complex(a[:, 0], a[:, 1]) for a in (q, strain, r))
    sigma = fluid.alpha / 2 * q_c + BETA / 4 * (c * e_c + e_c.conj() * r_c)
    sigma -= BETA * fluid.zeta / 4 * (c * q_c - q_c.conj() * r_c)

    def d(field, axis):
        return fluid.grid.backward(fluid.gradient[axis] * fluid.grid.forward(field))

    total = sigma + 2 * e_c
    force = (
        d(total.real, 0) + d(total.imag, 1),
        d(total.imag, 0) - d(total.real, 1),
    )
    curl = d(force[1], 0) - d(force[0], 1)
    assert float(curl.abs().max()) < 1e-9 * float(d(force[1], 0).abs().max())
    assert float((d(u[:, 0], 0) + d(u[:, 1], 1)).abs().max()) < 1e-13
    assert torch.allclose(strain[:, 0], d(u[:, 0], 0), atol=1e-12)
    assert torch.allclose(strain[:, 1], (d(u[:, 0], 1) + d(u[:, 1], 0)) / 2, atol=1e-12)


@pytest.mark.parametrize("direction", ["along", "across"])
def test_the_isotropic_state_grows_as_linear_theory_says(direction):
    zeta, alpha, waves, time = 1.0, -3.0, 2, 0.5
    k = 2 * math.pi * waves / LENGTH
    wave = torch.cos(k * grid_points()[0])[None]
    # Along or across the wave Q makes no flow; at 45 degrees it shears.
    q = 1e-6 * torch.stack([wave, 0 * wave] if direction == "along" else [0 * wave, wave], 1)
    rate = zeta - 4 * ROTATION - TRANSLATION * k**2
    if direction == "across":
        rate += (zeta * BETA - 2 * alpha) / (8 + BETA)
    fluid = ActiveFluid(SHAPE, LENGTH, zeta, alpha, time / 50)
    modes = fluid.modes(torch.ones_like(wave), q)
    for _ in range(50):
        modes = fluid.stepper.step(modes)
    grown = float((fluid.fields(modes)[1] * q).sum() / (q * q).sum())
    assert math.log(grown) / time == pytest.approx(rate, rel=1e-5)


def test_uniform_order_settles_where_alignment_balances_diffusion():
    # theta' = -zeta |Q| sin 2 theta against d_R: Bingham's b = zeta |Q| / (2 d_R), solved by
    # quadrature.
    zeta = 1.0
    s = 0.9
    for _ in range(200):
        s = float((bingham(zeta * s / (2 * ROTATION), 0.0) * np.cos(2 * ANGLES)).sum())
    fluid = ActiveFluid((8, 8), LENGTH, zeta, -3.0, 0.1)
    q = torch.zeros(1, 2, 8, 8, dtype=torch.float64)
    q[:, 0] = 0.3
    modes = fluid.modes(torch.ones(1, 8, 8, dtype=torch.float64), q)
    for _ in range(200):
        modes = fluid.stepper.step(modes)
    assert fluid.fields(modes)[1][0, 0].numpy() == pytest.approx(s, abs=1e-7)


def test_concentration_diffuses_and_is_conserved():
    x, _ = grid_points()
    c = (1 + 0.3 * torch.cos(2 * math.pi * 3 * x / LENGTH))[None]
    fluid = ActiveFluid(SHAPE, LENGTH, 1.0, -3.0, 0.1)
    modes = fluid.modes(c, torch.zeros(1, 2, *SHAPE, dtype=torch.float64))
    for _ in range(20):
        modes = fluid.stepper.step(modes)
    # Without order there is no flow.
    decay = math.exp(-2 * TRANSLATION * (2 * math.pi * 3 / LENGTH) ** 2)
    assert torch.allclose(fluid.fields(modes)[0], 1 + decay * (c - 1), atol=1e-13)
    modes = fluid.modes(*state())
    before = fluid.fields(modes)[0]
    for _ in range(20):
        modes = fluid.stepper.step(modes)
    after = fluid.fields(modes)[0]
    assert float(after.mean()) == pytest.approx(float(before.mean()), abs=1e-14)
    assert float((after - before).abs().max()) > 0.05


def test_fourth_order_in_time():
    c, q = state(seed=2)
    fields = []
    for steps in (10, 20, 80):
        fluid = ActiveFluid(SHAPE, LENGTH, 1.0, -3.0, 0.8 / steps)
        modes = fluid.modes(c, q)
        for _ in range(steps):
            modes = fluid.stepper.step(modes)
        fields.append(torch.cat([fluid.fields(modes)[0][:, None], fluid.fields(modes)[1]], 1))
    errors = [float((field - fields[-1]).norm() / fields[-1].norm()) for field in fields[:2]]
    assert 3.6 < math.log2(errors[0] / errors[1]) < 4.4
    assert errors[1] < 1e-5


def test_defects_are_counted():
    x, y = grid_points()
    box = 2 * math.pi / LENGTH
    # Zeros of a product of sines: two of either sign in each direction.
    q = torch.stack([torch.sin(box * x + 0.1), torch.sin(box * y + 0.2)])[None]
    charges = defect_charges(q)
    assert float(charges.sum()) == 0
    assert sorted(charges.flatten().tolist())[:2] == [-1, -1]
    assert float(charges.abs().sum()) == 4
    assert float(defect_charges(torch.ones(1, 2, 8, 8)).abs().sum()) == 0


@pytest.fixture(scope="module")
def turbulence():
    """Of the first parameters, a snapshot in six of the whole record of size small."""
    times = snapshot_times((64, 64), 60)[::6]
    return simulate((64, 64), times, SYSTEM.parameters[0], [np.random.default_rng(0)]).fields


@pytest.mark.long
@pytest.mark.slow
def test_turbulence_lasts(turbulence):
    speed = np.sqrt((turbulence["velocity"] ** 2).sum(-1).mean((2, 3)))
    assert speed.min() > 0.6 * speed[:, 0]
    assert speed.min() > 0.4
    tensor = torch.from_numpy(turbulence["D"]).double().flatten(0, 1)
    q = torch.stack([tensor[..., 0, 0] - tensor[..., 1, 1], 2 * tensor[..., 0, 1]], 1)
    charges = defect_charges(q).unflatten(0, turbulence["D"].shape[:2])
    assert (charges.sum((2, 3)) == 0).all()
    assert float(charges.abs().sum((2, 3)).min()) >= 4


def test_bounds_hold_at_every_snapshot(turbulence):
    c, tensor, strain = (turbulence[name].astype(float) for name in ("concentration", "D", "E"))
    assert c.mean((2, 3)) == pytest.approx(1, abs=1e-7)
    assert c.min() > 0.2
    assert c.var((2, 3)).min() > 1e-4
    assert np.trace(tensor, axis1=-2, axis2=-1) == pytest.approx(c, abs=1e-6)
    order = np.hypot(tensor[..., 0, 0] - tensor[..., 1, 1], 2 * tensor[..., 0, 1])
    assert (order <= 1.01 * c).all()
    assert order.max() > 0.8
    assert np.abs(np.trace(strain, axis1=-2, axis2=-1)).max() == 0
    for matrix in (tensor, strain):
        assert (matrix[..., 0, 1] == matrix[..., 1, 0]).all()
    # E is the symmetric gradient of the velocity, indices (component, axis).
    k = np.fft.fftfreq(64, 1 / 64) * 2 * math.pi / LENGTH
    u = np.fft.fft2(turbulence["velocity"].astype(float), axes=(2, 3))
    slope = np.fft.ifft2(1j * k[:, None, None] * u, axes=(2, 3)).real
    assert slope[..., 0] == pytest.approx(strain[..., 0, 0], abs=1e-4)


def test_a_trajectory_does_not_depend_on_its_batch():
    times = snapshot_times(SHAPE, 2)
    together = simulate(
        SHAPE, times, SYSTEM.parameters[0], [np.random.default_rng(i) for i in range(3)]
    )
    alone = simulate(SHAPE, times, SYSTEM.parameters[0], [np.random.default_rng(1)])
    for name, field in together.fields.items():
        assert (field[1] == alone.fields[name][0]).all()


def test_steps_and_snapshots_fit():
    for shape in set(SYSTEM.shapes.values()):
        dt = SNAPSHOT / math.ceil(STEPS * shape[0] / 64)
        steps = snapshot_times(shape, 60) / dt
        assert np.abs(steps - steps.round()).max() < 1e-9


def test_divergence_is_noticed():
    with pytest.raises(SolverDivergedError) as caught:
        simulate(
            SHAPE,
            snapshot_times(SHAPE, 2),
            {"L": LENGTH, "zeta": 1.0, "alpha": -4000.0},
            [np.random.default_rng(0)],
        )
    assert caught.value.step > 0


def test_the_wells_reader(tmp_path):
    parameters = SYSTEM.parameters[0]
    record = simulate(SHAPE, np.arange(1, 7) * SNAPSHOT, parameters, [np.random.default_rng(0)])
    write_well(
        tmp_path / "data" / "train" / "a.hdf5",
        record.fields,
        name=SYSTEM.name,
        boundary_conditions=SYSTEM.boundary_conditions,
        scalars=parameters,
    )
    data = WellDataset(path=str(tmp_path), well_split_name="train", n_steps_input=4)
    assert data.metadata.field_names == {
        0: ["concentration"],
        1: ["velocity_x", "velocity_y"],
        2: ["D_xx", "D_xy", "D_yx", "D_yy", "E_xx", "E_xy", "E_yx", "E_yy"],
    }
    assert data.metadata.constant_scalar_names == ["L", "zeta", "alpha"]
    sample = data[1]
    assert sample["constant_scalars"].tolist() == list(parameters.values())
    read = sample["input_fields"][0].numpy()
    assert read.shape == (*SHAPE, 11)
    names = ("concentration", "velocity", "D", "E")
    written = [record.fields[name][0, 1].reshape(*SHAPE, -1) for name in names]
    assert (read == np.concatenate(written, -1)).all()
