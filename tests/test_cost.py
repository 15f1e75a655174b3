"""What a model is said to cost."""

import re

import pytest
import torch

from wavelit.cost import describe_cost
from wavelit.errors import WavelitError
from wavelit.model.config import WaveLiTConfig
from wavelit.model.wavelit import WaveLiT


def figure(text: str, pattern: str) -> float:
    found = re.search(pattern, text)
    assert found is not None, text
    return float(found[1])


def test_cost_grows_with_the_grid_and_parameters_do_not():
    small, large = (describe_cost("nano", (side, side)) for side in (32, 64))
    parameters = WaveLiT(WaveLiTConfig.preset("nano", n_fields=4)).n_parameters
    assert figure(small, r"parameters +([\d.]+)M") == pytest.approx(parameters / 1e6, abs=5e-3)
    assert figure(large, r"parameters +([\d.]+)M") == figure(small, r"parameters +([\d.]+)M")
    for pattern in (r"prediction +([\d.]+) GFLOP", r"activations +([\d.]+) MB"):
        assert 3 < figure(large, pattern) / figure(small, pattern) < 4.5, pattern


def test_flops_of_the_linear_maps_are_counted():
    """At least two operations a weight of the shared linear maps and token, on all three scales."""
    model = WaveLiT(WaveLiTConfig.preset("nano", n_fields=4))
    weights = sum(
        m.weight.numel()
        for block in model.pyramid.towers[0]
        for m in block.modules()
        if isinstance(m, torch.nn.Linear)
    )
    tokens = 64 + 16 + 4
    assert (
        figure(describe_cost("nano", (32, 32)), r"prediction +([\d.]+) GFLOP") * 1e9
        > 2 * weights * tokens
    )


def test_a_training_step_costs_about_three_predictions():
    text = describe_cost("nano", (32, 32))
    ratio = figure(text, r"step +([\d.]+) GFLOP") / figure(text, r"prediction +([\d.]+) GFLOP")
    assert 2 < ratio < 3.5


def test_estimate_is_the_larger_of_arithmetic_and_traffic():
    text = describe_cost("nano", (32, 32), flops_per_second=1e9, bytes_per_second=1e15)
    assert re.search(r"bound by arithmetic: .* \(an estimate, not measured\)", text)
    gflop = figure(text, r"training step +([\d.]+) GFLOP")
    assert figure(text, r"at least ([\d.]+) ms") == pytest.approx(gflop * 1e3, rel=0.05)
    slow = describe_cost("nano", (32, 32), flops_per_second=1e18, bytes_per_second=1e6)
    assert "bound by memory" in slow
    gigabytes = figure(slow, r"traffic +([\d.]+) GB")
    assert figure(slow, r"at least ([\d.]+) ms") == pytest.approx(gigabytes * 1e6, rel=0.2)


def test_launches_bind_small_steps_on_a_named_device():
    text = describe_cost("nano", (32, 32), device_name="h100")
    assert "bound by launches" in text
    operations = figure(text.replace(",", ""), r"in (\d+) operations")
    assert figure(text, r"at least ([\d.]+) ms") == pytest.approx(5e-3 * operations, rel=0.01)


@pytest.mark.parametrize(
    ("preset", "operations", "gigabytes"),
    [("nano", 410, 0.10), ("nano-0.1", 603, 0.12), ("1M", 674, 0.22)],
)
def test_a_step_moves_and_launches_no_more_than_it_did(preset, operations, gigabytes):
    text = describe_cost(preset, (64, 64)).replace(",", "")
    assert figure(text, r"in (\d+) operations") <= operations
    assert figure(text, r"traffic +([\d.]+) GB") <= gigabytes


def test_traffic_grows_with_the_grid_and_operations_do_not():
    small, large = (describe_cost("nano", (side, side)) for side in (32, 128))
    n = [figure(text.replace(",", ""), r"in (\d+) operations") for text in (small, large)]
    assert n[1] == pytest.approx(n[0], rel=0.1)
    n = [figure(text, r"traffic +([\d.]+) GB") for text in (small, large)]
    assert 8 < n[1] / n[0] < 25


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "huge"}, "unknown preset 'huge'"),
        ({"resolution": (30, 32)}, "axis 0 is periodic with 30 points"),
        ({"flops_per_second": 1e12}, "both rates"),
        ({"device_name": "h1"}, "unknown device_name 'h1'"),
        ({"device_name": "h100", "bytes_per_second": 1e12}, "stands for both rates"),
        ({"batch": 0}, "at least 1"),
        ({"n_fields": 1000}, "1,032,969,936 weights"),
    ],
)
def test_bad_requests_are_named(options, message):
    with pytest.raises(WavelitError, match=message):
        describe_cost(**{"preset": "nano", "resolution": (32, 32), **options})
