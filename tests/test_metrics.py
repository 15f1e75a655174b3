"""Metrics: hand-computed values, The Well's own code, masks, and sums over processes."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.multiprocessing as mp
from the_well.benchmark.metrics import spatial as well_spatial
from the_well.benchmark.metrics import spectral as well_spectral

from wavelit import metrics
from wavelit.errors import WavelitError

GRIDS = [(16,), (12, 10), (6, 8, 4)]


def fields(*shape: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    v = torch.randn(shape, generator=generator, dtype=torch.float64) * 3 + 1
    return v + 0.5 * torch.randn(shape, generator=generator, dtype=torch.float64), v


def test_vrmse_by_hand():
    v = torch.tensor([[1.0, 2.0, 3.0, 4.0]])  # mean 2.5, sum of squares about it 5, var 5 / 3
    u = v + torch.tensor([1.0, -1.0, 1.0, -1.0])
    torch.testing.assert_close(
        metrics.vrmse(u, v, 1, eps=0.0), torch.tensor([math.sqrt(3 / 5)], dtype=torch.float64)
    )
    # eps enters under the root, beside the variance.
    expected = math.sqrt(1 / (5 / 3 + 1 / 3))
    torch.testing.assert_close(metrics.vrmse(u, v, 1, eps=1 / 3).item(), expected)


def test_vrmse_of_a_constant_target_shows_eps():
    v = torch.full((1, 8), 7.0)
    assert metrics.vrmse(v + 1, v, 1).item() == pytest.approx(math.sqrt(1e7))  # 3162


def test_nrmse_pearson_and_linf_by_hand():
    v = torch.tensor([[3.0, 4.0, 0.0, 0.0]])
    u = torch.tensor([[3.0, 4.0, 0.0, 2.0]])
    assert metrics.nrmse(u, v, 1, eps=0.0).item() == pytest.approx(2 / 5)
    assert metrics.linf(u, v, 1).item() == 2.0
    assert metrics.pearson(v, v, 1, eps=0.0).item() == pytest.approx(3 / 4)  # (N - 1) / N
    assert metrics.pearson(-v, v, 1, eps=0.0).item() == pytest.approx(-3 / 4)


def test_sums_are_kept_in_float64():
    # In float32 the variance of a field of spread 1e-2 on 3e3 is lost; the values below are exact
    # in float32.
    v = 4096 + torch.tensor([0.0, 1.0, 0.0, 1.0]) / 1024
    u = v + 1 / 2048
    got = metrics.vrmse(u[None], v[None], 1, eps=0.0)
    assert got.dtype == torch.float64
    assert got.item() == pytest.approx(math.sqrt(0.25 / (1 / 3)), rel=1e-12)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("vrmse", "VRMSE"), ("nrmse", "NRMSE"), ("pearson", "PearsonR"), ("linf", "LInfinity")],
)
def test_equal_to_the_well(grid, ours, theirs):
    spatial = len(grid)
    u, v = fields(2, 3, 4, *grid)
    v[0, 0, 0] = 1.25  # a flat field, where eps rules
    if ours == "pearson":
        u[0, 0, 0] = v[0, 0, 0]
    got = getattr(metrics, ours)(u, v, spatial)
    theirs_in = [torch.movedim(x, -spatial - 1, -1) for x in (u, v)]
    expected = getattr(well_spatial, theirs)()(*theirs_in, SimpleNamespace(n_spatial_dims=spatial))
    assert got.shape == (2, 3, 4)
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("grid", [*GRIDS, (16, 16), (64,)])
@pytest.mark.parametrize("normalized", [False, True])
def test_binned_spectral_mse_equals_the_well(grid, normalized):
    spatial = len(grid)
    u, v = fields(2, 3, *grid)
    got = metrics.binned_spectral_mse(u, v, spatial, normalized=normalized)
    theirs_in = [torch.movedim(x, -spatial - 1, -1) for x in (u, v)]
    out = well_spectral.binned_spectral_mse()(*theirs_in, SimpleNamespace(n_spatial_dims=spatial))
    key = "nmse" if normalized else "mse"
    expected = torch.stack([out[f"spectral_error_{key}_per_bin_{i}"] for i in range(3)], dim=-2)
    assert got.shape == (2, 3, 3)
    torch.testing.assert_close(got, expected.double(), rtol=1e-6, atol=1e-12)


def test_spectral_bands_sum_to_the_mean_square():
    u, v = fields(2, 3, 12, 10)
    valid = torch.rand(2, 1, 12, 10, generator=torch.Generator().manual_seed(1)) > 0.3
    bands = metrics.binned_spectral_mse(u, v, 2)
    torch.testing.assert_close(bands.sum(-2), (u - v).square().mean((-1, -2)))
    bands = metrics.binned_spectral_mse(u, v, 2, valid=valid)
    torch.testing.assert_close(
        bands.sum(-2), torch.stack([(u - v)[b, :, valid[b, 0]].square().mean(-1) for b in (0, 1)])
    )


def test_custom_bins_leave_out_what_lies_outside():
    x = torch.arange(32, dtype=torch.float64)
    v = torch.zeros(1, 32, dtype=torch.float64)
    u = (torch.cos(2 * math.pi * 3 * x / 32) + 2 * torch.cos(2 * math.pi * 9 * x / 32))[None]
    step = 2 * math.pi / 32
    got = metrics.binned_spectral_mse(u, v, 1, bins=torch.tensor([2.5, 4.5, 8.5, 9.5]) * step)
    torch.testing.assert_close(got[:, 0], torch.tensor([0.5, 0.0, 2.0], dtype=torch.float64))
    assert metrics.binned_spectral_mse(
        u, v, 1, bins=torch.tensor([4.5, 8.5]) * step
    ).item() == pytest.approx(0)


def test_isotropic_spectrum_of_two_waves():
    x = torch.arange(16, dtype=torch.float64) / 16
    y = torch.arange(24, dtype=torch.float64) / 24
    wave = torch.cos(2 * math.pi * (3 * x[:, None] + 4 * y)) + 2.0  # |k| = 5 and a mean
    k, energy = metrics.isotropic_spectrum(wave[None], 2)
    assert k.tolist() == list(range(13))
    expected = torch.zeros(13, dtype=torch.float64)
    expected[0], expected[5] = 4.0, 0.5
    torch.testing.assert_close(energy[0], expected)


@pytest.mark.parametrize("name", ["vrmse", "nrmse", "pearson", "linf"])
def test_a_mask_equals_the_field_without_the_excluded_cells(name):
    u, v = fields(2, 3, 4, 6, 5)  # (B, T, C, H, W)
    valid = torch.rand(2, 1, 6, 5, generator=torch.Generator().manual_seed(2)) > 0.4
    metric = getattr(metrics, name)
    expected = torch.stack(
        [metric(u[b][..., valid[b, 0]], v[b][..., valid[b, 0]], 1) for b in (0, 1)]
    )
    u, v = (x.where(valid[:, None], torch.nan) for x in (u, v))
    torch.testing.assert_close(metric(u, v, 2, valid=valid), expected)
    torch.testing.assert_close(metric(u[:, 0], v[:, 0], 2, valid=valid), expected[:, 0])


def test_errors_are_named():
    u, v = fields(2, 3, 6, 5)
    with pytest.raises(WavelitError, match="one shape"):
        metrics.vrmse(u[:, :1], v, 2)
    with pytest.raises(WavelitError, match="expected a mask"):
        metrics.vrmse(u, v, 2, valid=torch.ones(2, 6, 5, dtype=torch.bool))
    with pytest.raises(WavelitError, match="two cells"):
        metrics.vrmse(u, v, 2, valid=torch.zeros(2, 1, 6, 5, dtype=torch.bool))
    with pytest.raises(WavelitError, match="expected 2 fields"):
        metrics.VRMSE(["a", "b"], 2).update(u, v)


def test_metric_class_weighs_every_sample_alike():
    u, v = fields(5, 2, 3, 6, 5)
    metric = metrics.VRMSE(["a", "b", "c"], 2)
    metric.update(u[:4], v[:4])
    metric.update(u[4:], v[4:])
    every = metrics.vrmse(u, v, 2)
    torch.testing.assert_close(metric.compute(), every.mean())
    per_field = metric.per_field()
    assert list(per_field) == ["a", "b", "c"]
    torch.testing.assert_close(torch.stack(list(per_field.values())), every.mean((0, 1)))


@pytest.mark.parametrize(
    ("cls", "name"),
    [("NRMSE", "nrmse"), ("Pearson", "pearson"), ("LInfinity", "linf"), ("VRMSE", "vrmse")],
)
def test_metric_classes_are_means_of_the_functions(cls, name):
    u, v = fields(3, 2, 6, 5)
    valid = torch.ones(3, 1, 6, 5, dtype=torch.bool)
    valid[..., 0] = False
    metric = getattr(metrics, cls)(["a", "b"], 2)
    metric.update(u, v, valid)
    torch.testing.assert_close(
        metric.compute(), getattr(metrics, name)(u, v, 2, valid=valid).mean()
    )


def _process(rank: int, store: str, results) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=2
    )
    u, v = fields(5, 2, 6, 5)
    share = slice(0, 2) if rank == 0 else slice(2, 5)
    metric = metrics.VRMSE(["a", "b"], 2)
    metric.update(u[share], v[share])
    per_field = {name: value.item() for name, value in metric.per_field().items()}
    results[rank] = (metric.compute().item(), per_field)
    torch.distributed.destroy_process_group()


@pytest.mark.long
def test_two_processes_equal_one(tmp_path):
    with mp.Manager() as manager:
        results = manager.dict()
        mp.spawn(_process, args=(str(tmp_path / "store"), results), nprocs=2)
        outcomes = dict(results)
    u, v = fields(5, 2, 6, 5)
    every = metrics.vrmse(u, v, 2)
    for rank in (0, 1):
        mean, per_field = outcomes[rank]
        assert mean == pytest.approx(every.mean().item(), rel=1e-14)
        assert list(per_field.values()) == pytest.approx(every.mean(0).tolist(), rel=1e-14)


@pytest.mark.parametrize("names", [("v_x", "v_x"), ("height", "all")])
def test_names_that_would_hide_a_score_are_refused(names):
    with pytest.raises(WavelitError, match="would replace another"):
        metrics.VRMSE(names, 2)
