"""The map of transfer: ratios, means, pictures, and rank correlations with matrices by hand."""

import dataclasses
import json
import math

import numpy as np
import pytest
from matplotlib.colors import to_hex

from wavelit.errors import WavelitError
from wavelit.evaluation.descriptors import DESCRIPTORS, Descriptors
from wavelit.evaluation.pictures import save
from wavelit.evaluation.relations import FORMS, relation, relations
from wavelit.evaluation.transfer import (
    TransferMap,
    chosen_counts,
    favoured,
    geometric_mean,
    measures_of,
    ratio,
    read_pairs,
    settings_of,
    transfer_map,
    with_setting,
)
from wavelit.evaluation.transfer_figures import map_figure, profile_figure


def errors(one_step, early=None, late=None, **more):
    return {"one_step": one_step, "rollout": {"13:30": late, "1:20": early}, **more}


def cell(source="a", target="b", chosen="free", seed=0, **arms):
    given = {
        "scratch": {"holdout": 1.0, "valid": errors(0.2, 0.5, 0.8)},
        "free": {"holdout": 0.7, "valid": errors(0.1, 0.4, 1.6)},
        "frozen": {"holdout": 0.9, "valid": errors(0.05, 0.3, 0.4)},
    }
    return {
        "kind": "pair",
        "source": source,
        "target": target,
        "seed": seed,
        "trajectories": 4,
        "minutes": 1.0,
        "chosen": chosen,
        "arms": given | arms,
    }


# ------------------------------------------------------------------ ratios


def test_the_better_from_scratch_is_the_measure():
    assert ratio(cell()) == pytest.approx(0.5)
    assert ratio(cell(), "rollout 1:20") == pytest.approx(0.8)
    assert ratio(cell(), "rollout 13:30") == pytest.approx(2.0)
    # Each error has its own better one.
    other = {"holdout": 2.0, "valid": errors(0.1, 0.8, 0.8)}
    both = cell(**{"scratch-nano": other})
    assert ratio(both) == pytest.approx(1.0)
    assert ratio(both, "rollout 1:20") == pytest.approx(0.8)


def test_which_arm_is_compared():
    # The hold-out decides, not the validation error that it is judged by.
    assert ratio(cell(), arm="started") == pytest.approx(0.5)
    assert ratio(cell(chosen="frozen")) == pytest.approx(0.25)
    kept = cell(chosen="scratch")
    assert ratio(kept) == 1.0
    assert ratio(kept, arm="started") == pytest.approx(0.5)
    unknown = cell(free={"valid": errors(0.1)}, frozen={"holdout": None, "valid": errors(0.1)})
    assert ratio(unknown, arm="started") is None
    with pytest.raises(WavelitError, match="unknown arm 'best': expected one of chosen, started"):
        ratio(cell(), arm="best")
    with pytest.raises(WavelitError, match="unknown split 'train'"):
        ratio(cell(), split="train")


def test_what_diverges_is_not_favoured():
    def held(one_step, rollout):
        return {"holdout": one_step, "holdout_rollout": rollout}

    better, worse = held(0.2, 0.9), held(0.3, 0.5)
    assert favoured({"worse": worse, "better": better}) == "better"
    assert favoured({"far": held(0.1, 1.1), "worse": worse, "better": better}) == "better"
    assert favoured({"diverged": held(0.1, None), "worse": worse}) == "worse"
    assert favoured({"diverged": held(0.1, None), "both": held(None, None)}) == "diverged"
    # Of one step alone, where nobody measured rollouts.
    assert (
        favoured({0.01: {"holdout": 0.2}, 0.001: {"holdout": 0.1}, 0.1: {"holdout": None}}) == 0.001
    )
    started = cell(
        scratch=held(1.0, 0.5) | {"valid": errors(0.2)},
        free=held(0.7, 5.0) | {"valid": errors(0.1)},
        frozen=held(0.9, 0.6) | {"valid": errors(0.3)},
    )
    assert ratio(started, arm="started") == pytest.approx(1.5)


def test_the_test_split_needs_both():
    record = cell() | {"test": errors(0.3)}
    assert ratio(record, split="test") is None
    record["arms"]["scratch"]["test"] = errors(0.4)
    assert ratio(record, split="test") == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("error", "expected"),
    [(None, None), (math.nan, None), (math.inf, math.inf), ("0.1", None), (True, None)],
)
def test_errors_that_are_no_numbers(error, expected):
    assert ratio(cell(free={"holdout": 0.7, "valid": errors(error)})) == expected
    diverged = cell(scratch={"holdout": 1.0, "valid": errors(error)})
    assert ratio(diverged) is None
    assert ratio(cell(free={"holdout": 0.7, "valid": None})) is None


def test_measures_by_lead_time_and_band():
    bands = {"coarser than 8 cells": 0.3, "details of 2 cells": 0.01}
    record = cell(
        free={"holdout": 0.7, "valid": errors(0.1, 0.4, 1.6, bands=bands)},
        scratch={
            "holdout": 1.0,
            "valid": errors(0.2, 0.5, 0.8, bands={"details of 2 cells": 0.04}),
        },
    )
    assert measures_of([cell()]) == ["one_step", "rollout 1:20", "rollout 13:30"]
    found = measures_of([record])
    assert found[3:] == ["band coarser than 8 cells", "band details of 2 cells"]
    assert ratio(record, found[4]) == pytest.approx(0.25)
    assert ratio(record, found[3]) is None
    by_measure = {name: transfer_map([record], name).mean() for name in found}
    assert by_measure["rollout 13:30"] == pytest.approx(2.0)
    assert math.isnan(by_measure["band coarser than 8 cells"])


def test_the_map_has_geometric_means_and_holes():
    double = {"holdout": 0.7, "valid": errors(0.4)}
    records = [
        cell("a", "b"),
        cell("a", "b", seed=1, free=double),
        cell("b", "a", free=double),
        cell("a", "a"),
        cell("c", "b", free={"holdout": 0.1, "valid": None}),
    ]
    found = transfer_map(records)
    assert (found.sources, found.targets) == (("a", "b", "c"), ("a", "b"))
    expected = [[0.5, 1.0], [2.0, np.nan], [np.nan, np.nan]]
    np.testing.assert_allclose(found.ratios, expected)
    np.testing.assert_array_equal(found.seeds, [[1, 2], [1, 0], [0, 0]])
    # A system's own column is no transfer.
    assert found.mean() == pytest.approx(math.sqrt(2))
    assert found.by_source()["a"] == pytest.approx(1.0)
    assert math.isnan(found.by_source()["c"])
    assert found.by_target() == pytest.approx({"a": 2.0, "b": 1.0})
    assert geometric_mean([1.0, math.inf]) == math.inf
    assert math.isnan(geometric_mean([]))
    assert chosen_counts([*records, cell(chosen="scratch")]) == {"free": 5, "scratch": 1}


def test_settings_are_never_averaged():
    records = [cell(), cell() | {"trajectories": 1}]
    assert settings_of(records) == [(1, 1.0), (4, 1.0)]
    with pytest.raises(WavelitError, match="cells of one setting"):
        transfer_map(records)
    with pytest.raises(WavelitError, match="cells of one setting"):
        transfer_map([])
    assert transfer_map(with_setting(records, (4, 1.0))).setting == (4, 1.0)


def test_cells_are_read_from_folders(tmp_path):
    assert read_pairs(tmp_path / "none") == []
    (tmp_path / "pairs").mkdir()
    for n, record in enumerate([cell("b", "a"), cell("a", "b", seed=1), cell("a", "b")]):
        (tmp_path / "pairs" / f"{n}.json").write_text(json.dumps(record))
    (tmp_path / "table.json").write_text('{"rows": []}')
    found = read_pairs(tmp_path)
    assert [(each["source"], each["seed"]) for each in found] == [("a", 0), ("a", 1), ("b", 0)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"target": None}, "target must be a str"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"trajectories": 0}, "trajectories must be a whole number"),
        ({"minutes": "long"}, "minutes must be a finite number"),
        ({"arms": []}, "arms: a mapping is due"),
        ({"arms": {"free": 3}}, "'free': a mapping is due"),
        ({"chosen": "best"}, "chosen is 'best', but the arms are scratch, free, frozen"),
        ({"arms": {"free": {}}}, "none of the arms free is from scratch"),
    ],
)
def test_a_damaged_cell_is_named(change, said, tmp_path):
    path = tmp_path / "cell.json"
    path.write_text(json.dumps(cell() | change))
    with pytest.raises(WavelitError, match=said) as error:
        read_pairs(tmp_path)
    assert str(path) in str(error.value)
    record = cell()
    del record["minutes"]
    path.write_text(json.dumps(record))
    with pytest.raises(WavelitError, match="without 'minutes'; run it again"):
        read_pairs(tmp_path)
    path.write_text("{")
    with pytest.raises(WavelitError, match="cannot be read"):
        read_pairs(tmp_path)


# ------------------------------------------------------------------ relations


def map_of(ratios, names=None):
    ratios = np.asarray(ratios, float)
    names = tuple(names or [f"s{i}" for i in range(len(ratios))])
    return TransferMap(names, names, ratios, np.ones(ratios.shape, int), "one_step", (4, 1.0))


def values_of(d):
    return {f"s{i}": float(value) for i, value in enumerate(d)}


def test_a_known_rank_correlation():
    d = np.array([0.0, 1.0, 3.0, 7.0])
    ratios = np.full((4, 4), np.nan)
    for (i, j), value in {(0, 1): 1.0, (0, 2): 4.0, (0, 3): 2.0, (1, 2): 3.0}.items():
        ratios[i, j] = value
    found = relation(map_of(ratios), values_of(d))
    # |d| = 1, 3, 7, 2 has ranks 1, 3, 4, 2; ratios have 1, 4, 2, 3: 1 - 6 (0+1+4+1) / 60 = 0.4.
    assert found.rho == pytest.approx(0.4)
    # The target's descriptor, 1, 3, 7, 3, has ranks 1, 2.5, 4, 2.5.
    x, y = np.array([1, 2.5, 4, 2.5]), np.array([1, 4, 2, 3])
    target = relation(map_of(ratios), values_of(d), "target")
    assert target.rho == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert (found.n_pairs, found.n_systems) == (4, 4)


def test_all_permutations_of_few_systems_are_gone_through():
    d = np.array([0.0, 1.0, 3.0, 7.0])
    ratios = np.exp(np.abs(d[:, None] - d))
    found = relation(map_of(ratios), values_of(d))
    assert found.rho == pytest.approx(1.0)
    # Twelve pairs agree, but four systems have 24 orders, of which one has these differences.
    assert found.p == pytest.approx(1 / 24)
    target = relation(map_of(np.exp(np.tile(d, (4, 1)))), values_of(d), "target")
    assert target.rho == pytest.approx(1.0)
    # And reversed, it is -1.
    assert target.p == pytest.approx(2 / 24)
    assert target.low < 0 < target.high


def test_a_planted_relation_is_found_and_noise_is_not():
    rng = np.random.default_rng(0)
    d = rng.normal(size=8)
    noise = 0.2 * rng.normal(size=(8, 8))
    planted = relation(map_of(np.exp(np.abs(d[:, None] - d) + noise)), values_of(d))
    assert planted.rho > 0.8
    assert planted.p < 0.005
    assert planted.rho > planted.high
    assert relation(map_of(np.exp(np.abs(d[:, None] - d) + noise)), values_of(d)) == planted
    nothing = relation(map_of(np.exp(noise)), values_of(d))
    assert nothing.p > 0.05
    assert nothing.low < nothing.rho < nothing.high


def test_p_is_honest_where_pairs_share_systems():
    """Ratios that depend on a target's own, unrelated property: twenty pairs, five points.

    Were pairs permuted, far more than a tenth of unrelated maps would be below 0.1.
    """
    rng = np.random.default_rng(0)
    below = 0
    for _ in range(200):
        d, own = rng.normal(size=(2, 5))
        ratios = np.exp(np.tile(own, (5, 1)) + 0.1 * rng.normal(size=(5, 5)))
        below += relation(map_of(ratios), values_of(d), "target").p <= 0.1
    assert below <= 200 * 0.16


@pytest.mark.parametrize("form", FORMS)
def test_holes_are_left_out_whichever_side_they_are_on(form):
    rng = np.random.default_rng(1)
    d = rng.normal(size=6)
    ratios = np.exp(rng.normal(size=(6, 6)))
    ratios[1, 4] = ratios[5, 0] = np.nan
    found = relation(map_of(ratios), values_of(d), form)
    assert found.n_pairs == 28
    if form == "difference":
        turned = dataclasses.astuple(relation(map_of(ratios.T), values_of(d), form))
        assert turned == pytest.approx(dataclasses.astuple(found))
    # A system that was not measured at all, or has no descriptor, is as if it were not there.
    smaller = relation(map_of(ratios[:5, :5]), values_of(d[:5]), form)
    unknown = {name: value for name, value in values_of(d).items() if name != "s5"}
    assert relation(map_of(ratios), unknown, form) == smaller
    holed = ratios.copy()
    holed[5], holed[:, 5] = np.nan, np.nan
    assert relation(map_of(holed), values_of(d), form) == smaller
    assert smaller.n_systems == 5
    # What a system gives itself is no pair.
    own = ratios.copy()
    np.fill_diagonal(own, 1e-9)
    assert relation(map_of(own), values_of(d), form) == found


def test_a_rollout_that_diverged_ranks_last():
    d = np.array([0.0, 1.0, 3.0, 7.0])
    ratios = np.exp(np.abs(d[:, None] - d))
    ratios[ratios == ratios.max()] = np.inf
    assert relation(map_of(ratios), values_of(d)).rho == pytest.approx(1.0)


def test_too_little_is_no_relation():
    d = values_of([0.0, 1.0, 2.0, 3.0])
    few = relation(map_of(np.exp(np.eye(3))), d)
    assert math.isnan(few.rho)
    assert math.isnan(few.p)
    assert few.n_systems == 3
    assert math.isnan(relation(map_of(np.ones((4, 4))), d).rho)
    assert math.isnan(relation(map_of(np.exp(np.eye(4))), values_of([1.0] * 4), "target").rho)
    assert relation(map_of(np.full((4, 4), np.nan)), d).n_pairs == 0
    with pytest.raises(WavelitError, match="unknown form 'source'"):
        relation(map_of(np.ones((4, 4))), d, "source")


def test_all_relations_are_those_that_were_fixed():
    rng = np.random.default_rng(0)
    growth = {1: 0.1, 2: 0.3, 3: 0.2, 4: 0.0}
    rows = {
        f"s{i}": Descriptors(
            "d", (8,), ("a",), 1, 0, 1, haar_share=rng.random(), growth=growth.get(i)
        )
        for i in range(5)
    }
    found = relations(map_of(np.exp(rng.normal(size=(5, 5)))), rows)
    assert list(found) == [(name, form) for name in DESCRIPTORS for form in FORMS]
    assert found["haar_share", "target"].n_systems == 5
    assert found["growth", "difference"].n_systems == 4
    assert math.isnan(found["advection", "target"].rho)


# ------------------------------------------------------------------ the picture


def test_the_picture_shows_every_cell(tmp_path):
    found = map_of([[1.0, 0.25, np.nan], [1.5, 1.0, math.inf], [0.9, 1.1, 1.0]], ["a", "b_c", "$d"])
    figure = map_figure(found)
    ax = figure.axes[0]
    texts = [text.get_text() for text in ax.texts]
    assert texts == ["1.00", "0.25", "1.50", "1.00", "inf", "0.90", "1.10", "1.00"]
    image = ax.images[0]
    assert image.get_clim() == (-2.0, 2.0)
    assert image.get_array().mask[0, 2]
    cold, hot = (to_hex(image.to_rgba(value)) for value in (-2.0, 2.0))
    assert int(cold[5:], 16) > int(cold[1:3], 16)  # blue helps
    assert int(hot[1:3], 16) > int(hot[5:], 16)
    assert save(figure, tmp_path / "map.png").stat().st_size > 5000
    empty = map_figure(map_of(np.full((2, 2), np.nan)))
    assert not empty.axes[0].texts


def test_profiles_show_means_over_sources_by_lead_time_and_band(tmp_path):
    cells = [cell("a", "b"), cell("c", "b", free={"holdout": 0.7, "valid": errors(0.4, 0.1, 0.8)})]
    figure = profile_figure(cells)
    (ax,) = figure.axes
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["1", "1:20", "13:30"]
    line = ax.lines[1]
    assert line.get_label() == "b"
    # 0.1 and 0.4 over 0.2; 0.4 and 0.1 over 0.5; 1.6 and 0.8 over 0.8.
    expected = [1.0, math.sqrt(0.8 * 0.2), math.sqrt(2.0)]
    np.testing.assert_allclose(line.get_ydata(), expected)
    for each in cells:
        for arm in each["arms"].values():
            arm["valid"]["bands"] = {"coarser than 2 cells": 2.0, "details of 2 cells": 3.0}
    _, bands = profile_figure(cells).axes
    assert [tick.get_text() for tick in bands.get_xticklabels()] == ["> 2", "2"]
    np.testing.assert_allclose(bands.lines[1].get_ydata(), [1.0, 1.0])
    assert save(figure, tmp_path / "profiles.png").stat().st_size > 5000
    with pytest.raises(WavelitError, match="cells of one setting"):
        profile_figure([*cells, cells[0] | {"minutes": 2.0}])


# ------------------------------------------------------------------ its page


def test_the_page_shows_what_a_start_brings_and_what_the_rule_takes(
    tmp_path, monkeypatch, load_script
):
    page = load_script("transfer")
    monkeypatch.setattr(page, "MAP", tmp_path)
    monkeypatch.setattr(page, "CONFIGURATIONS", {"96 channels": tmp_path})
    assert page.map_finding() == "The map has not been run yet."
    maze, flow = "acoustic_scattering_maze", "shear_flow"
    slow = {"holdout": 1.2, "valid": errors(0.8, 1.0, 1.6)}
    cells = [cell(maze, flow), cell(flow, maze, "scratch", free=slow, frozen=slow)]
    for each in cells:
        path = tmp_path / "few" / each["source"] / f"{each['target']}-4-0.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(each))
    head, _, from_maze, from_flow, mean = page.pairs().splitlines()
    assert head == f"| trained on | {maze} | {flow} |"
    assert from_maze == f"| {maze} |  | 0.5 / 0.8 |"
    assert from_flow == f"| {flow} | 4 / 2 |  |"
    assert mean == "| **mean** | 4 / 2 | 0.5 / 0.8 |"
    said = " ".join(page.map_finding().split())
    assert f"has {math.sqrt(2):.3g} / {math.sqrt(1.6):.3g} times the error" in said
    assert "worse in 1 of them" in said
    assert f"chooses scratch in 1, it is {math.sqrt(0.5):.3g} / {math.sqrt(0.8):.3g}." in said
    assert f"The best source is {maze} (0.50 one step ahead, mean over targets)" in said
    # A pair is no start from a joint model.
    assert page.few() == "Not run yet."
