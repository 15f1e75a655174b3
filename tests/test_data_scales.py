"""Scales of the bands, and the means that a model keeps: those that no trajectory changes."""

import numpy as np
import pytest
import torch

from test_model import randomised, small
from wavelit.data.batch import Batch
from wavelit.data.datamodule import WellDataModule
from wavelit.data.writing.write import write_dataset
from wavelit.errors import WavelitError
from wavelit.model.wavelit import WaveLiT
from wavelit.training.data_scales import measure_scales
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


def test_calibration_measures_the_bands():
    torch.manual_seed(0)
    model = WaveLiT(small(band_scales=True))
    smooth = torch.nn.functional.avg_pool2d(torch.randn(16, 2, 68, 68), 5, 1)
    fields = smooth[:, None].expand(-1, 4, -1, -1, -1)
    batch = Batch(fields, fields[:, :1] + 0.5 * smooth[:, None], None, None, None, torch.arange(16))
    measure_scales(model, [batch])
    expected = model.tokenizer.band_rms(model.tokenizer.encode(smooth))
    # The last two frames of the eight are the last state's two channels; a history at rest has
    # increments at the floor.
    torch.testing.assert_close(model.input_scale[-2:], expected)
    torch.testing.assert_close(model.input_scale[:2], 0.1 * expected)
    torch.testing.assert_close(model.output_scale, 0.5 * expected)
    assert float(expected[0, 0]) > 4 * float(expected[0, -1]), "a smooth field has quiet details"
    states = WaveLiT(small(history="states", band_scales=True))
    measure_scales(states, [batch])
    torch.testing.assert_close(states.input_scale, expected.repeat(4, 1))
    plain = WaveLiT(small())
    measure_scales(plain, [batch])
    assert torch.all(plain.input_scale[-2:] == 1)
    assert torch.all(plain.output_scale == 1)
    with pytest.raises(WavelitError, match="at least one"):
        measure_scales(model, [])


def drifting(n_samples: int = 4) -> Batch:
    """Noise in two fields: the first keeps its mean, of 3, up to the rounding of float32; the
    second gains a hundredth of its increment.
    """
    change = torch.randn(n_samples, 1, 2, 16, 16)
    change = change - change.mean((-2, -1), keepdim=True)
    change[:, :, 1] += 0.01
    fields = torch.randn(n_samples, 4, 2, 16, 16) + 3
    return Batch(fields, fields[:, -1:] + change, None, None, None, torch.arange(n_samples))


@pytest.mark.parametrize("changes", [{}, {"detail_dim": 4}, {"wavelet": None}])
def test_a_mean_that_the_data_keep_is_kept(changes):
    torch.manual_seed(0)
    model, batch = randomised(small(**changes)), drifting()
    free = model(batch.fields)
    measure_scales(model, [batch, drifting()])
    assert model.conserved.tolist() == [True, False]
    with torch.no_grad():
        model.input_scale.fill_(1)
    kept = model(batch.fields)
    before, after = (x.double().mean((-2, -1)) for x in (batch.fields[:, -1], kept))
    torch.testing.assert_close(after[:, 0], before[:, 0], rtol=1e-6, atol=0)
    assert torch.all((free - batch.fields[:, -1]).mean((-2, -1))[:, 0].abs() > 1e-3), (
        "it would have moved"
    )
    torch.testing.assert_close(kept[:, 1], free[:, 1])
    shift = (kept - free)[:, 0].flatten(1)
    torch.testing.assert_close(
        shift, shift.mean(1, keepdim=True).expand_as(shift), rtol=1e-3, atol=1e-5
    )


def test_no_mean_is_kept_where_cells_are_masked_or_on_request():
    torch.manual_seed(0)
    model, batch = randomised(small()), drifting()
    measure_scales(model, [batch._replace(valid=torch.ones(4, 1, 16, 16, dtype=torch.bool))])
    assert not model.conserved.any()
    model, other = randomised(small()), randomised(small(conserve=False))
    measure_scales(other, [batch])
    assert not other.kept.any()
    model.input_scale.copy_(other.input_scale)
    torch.testing.assert_close(other(batch.fields), model(batch.fields), rtol=0, atol=0)


def test_band_scales_have_a_floor():
    model = WaveLiT(small(band_scales=True))
    flat = torch.ones(2, 4, 2, 16, 16)
    measure_scales(model, [Batch(flat, flat[:, :1] * 2, None, None, None, torch.arange(2))])
    last = model.input_scale[-1]
    assert float(last[1]) == pytest.approx(0.02 * float(last[0] / 4))
