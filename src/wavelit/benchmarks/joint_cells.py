"""One model for several systems, at a budget in core-minutes: joint runs, their control with a
private trunk for each system, and those that leave a system out; one JSON a run, resumable within.

A joint step costs what it takes next to one step of WaveLiT `nano-0.1` on each of its systems,
measured in turns on a quiet machine; their rates (results/accuracy/rates.csv) then turn minutes
into steps, so that a run does not depend on what else is running.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wavelit.benchmarks.accuracy import Clock, median_turn, time_step
from wavelit.benchmarks.protocol import BATCH_SIZE, REFERENCE, rate_rows, read_rates
from wavelit.benchmarks.results import scores_of, write_result
from wavelit.benchmarks.timing import environment, write_rows
from wavelit.checks.arguments import listed, require_name, require_real
from wavelit.checks.settings import require_mapping
from wavelit.data.datamodule import WellDataModule
from wavelit.data.joint import JointDataModule
from wavelit.errors import WavelitError
from wavelit.evaluation.evaluate import evaluate
from wavelit.files.plain import read_json, read_yaml
from wavelit.model.foundation import JointWaveLiT
from wavelit.training.config import BUDGETS, TrainConfig
from wavelit.training.joint import JointTrainConfig
from wavelit.training.joint_configuration import JointConfiguration, joint_configuration
from wavelit.training.joint_folder import (
    is_trained,
    load_joint,
    load_joint_data,
    read_joint_config,
)
from wavelit.training.joint_run import fit_joint, resume_joint
from wavelit.training.run import Added
from wavelit.training.run_folder import read_environment, settings_of

__all__ = [
    "JointCell",
    "cost_of",
    "measure_cost",
    "measure_rates",
    "nano_rate",
    "require_run",
    "require_same",
    "run_joint",
    "score_test",
    "steps_of",
]

# Turns of a joint step and of the steps that it is compared with, and steps of a turn.
TURNS, STEPS = 5, 8
# Whose rate is known, beside which others are timed.
KNOWN = "acoustic_scattering_maze"


@dataclasses.dataclass(frozen=True)
class JointCell:
    """One joint run.

    Args:
        minutes: Core-minutes of all systems together.
        seed: Of weights, data order and noise.
        trunk: "shared", or "private" to each system: the control.
        without: A system that is left out, or None.
        only: The only system, or None: the architecture of the joint model on one system.
    """

    minutes: float
    seed: int
    trunk: str = "shared"
    without: str | None = None
    only: str | None = None

    @property
    def name(self) -> str:
        """Of its result and of its run folder, relative to theirs."""
        kind = "joint" if self.trunk == "shared" else "control"
        if self.only is not None:
            return f"{self.minutes:g}min/alone_{self.only}-{self.seed}"
        left_out = "" if self.without is None else f"-without_{self.without}"
        return f"{self.minutes:g}min/{kind}{left_out}-{self.seed}"

    def configure(self, config: Path, root: Path, steps: int) -> JointConfiguration:
        """What the file asks for, at this cell's budget and seed, of the datasets in `root`.

        Raises:
            WavelitError: The file has no systems with name and path, or not the one that is left
                out.
        """
        content = _checked(read_yaml(config), config)
        systems = content["systems"]
        names = [each["name"] for each in systems]
        for entry, name in (("without", self.without), ("only", self.only)):
            if name is not None:
                require_name(entry, name, names)
        content["systems"] = [
            # Alone, a system is in every step.
            {**each, "path": str(root / Path(each["path"]).name)} | self._share()
            for each, name in zip(systems, names, strict=True)
            if name != self.without and self.only in (None, name)
        ]
        recipe = {k: v for k, v in content["train"].items() if k not in BUDGETS}
        content["train"] = {**recipe, "steps": steps, "validate_every": steps}
        model = {**content["model"], "trunk": self.trunk}
        if self.trunk == "private":
            # Of a private trunk everything is a system's own.
            model = {name: value for name, value in model.items() if name not in ("rank", "own")}
        content["model"] = model
        content["trainer"] = {"accelerator": "cpu", "threads": 1}
        content["seed"] = self.seed
        return joint_configuration(content, str(config))

    def _share(self) -> dict[str, float]:
        return {} if self.only is None else {"share": 1.0}


def _checked(content: Any, config: Path) -> dict[str, Any]:
    """The groups of a joint configuration, as far as cells change them."""
    content = content if isinstance(content, dict) else {}
    systems = content.get("systems")
    there = isinstance(systems, list) and all(
        isinstance(each, dict) and all(isinstance(each.get(key), str) for key in ("name", "path"))
        for each in systems
    )
    if not (there and systems):
        raise WavelitError(
            f"{config}: list the datasets under systems:, each with a name and a path, as "
            "configs/joint/pocketwell.yaml does"
        )
    groups = {name: content.get(name) or {} for name in ("train", "model")}
    for name, entries in groups.items():
        require_mapping(f"{config}, {name}", entries)
    return {**content, **groups}


def steps_of(minutes: float, cost: float, data: Any, rates: Mapping[tuple[str, str], float]) -> int:
    """Joint steps that so many core-minutes come to.

    Args:
        minutes: The budget.
        cost: Of a joint step, in those of WaveLiT `nano-0.1` on the same windows.
        data: The datasets, with batch sizes and shares.
        rates: Milliseconds a training sample by (model, system).

    Raises:
        WavelitError: A system has no rate.
    """
    milliseconds = sum(
        nano_rate(name, rates) * system.batch_size * data.shares[name]
        for name, system in data.systems.items()
    )
    return max(1, int(minutes * 60e3 / (cost * milliseconds)))


def nano_rate(system: str, rates: Mapping[tuple[str, str], float]) -> float:
    """Milliseconds a training sample of WaveLiT `nano-0.1`.

    Raises:
        WavelitError: There is no rate of the system.
    """
    if (REFERENCE, system) not in rates:
        raise WavelitError(
            f"rates.csv has no rate of {REFERENCE} on {system}: `wavelit benchmark accuracy rates`"
        )
    return rates[REFERENCE, system]


def measure_rates(
    systems: Sequence[str], root: Path, output: Path, frozen: Mapping[tuple[str, str], float]
) -> Path:
    """Time steps of `nano-0.1` on systems, in the milliseconds of the accuracy benchmark's clock:
    in turns with those on a system that it knows. Where it is not there, this machine is the clock.
    What is missing is added to rates.csv.

    Args:
        systems: Names of datasets.
        root: Folder of the datasets.
        output: Folder of the results.
        frozen: The rates of the accuracy benchmark.

    Raises:
        WavelitError: There are rates of that clock, and the system that it knows is not in `root`.
    """
    known = {**read_rates(output), **frozen}
    rows = []
    for system in systems:
        if (REFERENCE, system) in known:
            continue
        base = _clock(root, frozen) or system
        (its, _), (own, _) = median_turn((REFERENCE, base), (REFERENCE, system), root)
        rate = own if base == system else own / its * nano_rate(base, frozen)
        rows.append(
            {
                "model": REFERENCE,
                "system": system,
                "batch_size": BATCH_SIZE,
                "ms_per_sample": round(rate, 2),
                "measured_ms": round(own, 2),
                "reference": f"{REFERENCE} on {base}",
                "reference_ms": round(its, 2),
                **environment(),
            }
        )
    if rows:
        write_rows(output / "rates.csv", [*rate_rows(output), *rows])
    return output / "rates.csv"


def _clock(root: Path, frozen: Mapping[tuple[str, str], float]) -> str | None:
    """The system in whose milliseconds others count; None where there is no such clock."""
    if not frozen:
        return None
    if not (root / KNOWN).is_dir():
        raise WavelitError(
            f"rates of {KNOWN} are known, and {root} does not hold it: generate it there, or name "
            "a --tuning without rates, by which this machine is the clock"
        )
    return KNOWN


def cost_of(output: Path) -> float:
    """What `measure_cost` found.

    Raises:
        WavelitError: It has not been measured.
    """
    path = output / "cost.json"
    if not path.exists():
        raise WavelitError(f"{path} is missing: `wavelit transfer cost` first")
    cost = read_json(path).get("cost")
    try:
        return require_real("cost", cost, beyond=True)
    except WavelitError as error:
        raise WavelitError(f"{path}: {error}; run `wavelit transfer cost` again") from error


def measure_cost(config: Path, root: Path, output: Path) -> Path:
    """Time joint steps in turns with those of WaveLiT `nano-0.1` on every system; their ratio, the
    median of the turns, goes to cost.json.
    """
    ratios = []
    for _ in range(TURNS):
        asked = JointCell(1.0, 0).configure(config, root, 3 * STEPS)
        joint = _time_joint_step(asked)
        own = sum(
            time_step(REFERENCE, name, root)[0] * 1e-3 * asked.data.shares[name] * system.batch_size
            for name, system in asked.data.systems.items()
        )
        ratios.append(joint / own)
    result = {
        "config": read_yaml(config),
        "cost": round(float(np.median(ratios)), 4),
        "turns": [round(ratio, 4) for ratio in ratios],
        **environment(),
    }
    return write_result(output / "cost.json", result)


def _time_joint_step(asked: JointConfiguration) -> float:
    """Seconds a step, mean over steps; of those with the same systems the median counts."""
    model, clock = asked.build(), Clock()
    recipe = dataclasses.replace(asked.train, validate_every=10**9)
    with tempfile.TemporaryDirectory() as folder:
        fit_joint(
            Path(folder) / "run",
            asked.data,
            model,
            recipe,
            asked.trainer,
            asked.seed,
            Added(callbacks=(clock,)),
        )
    times: dict[tuple[str, ...], list[float]] = {}
    for step, seconds in enumerate(np.diff(clock.times), start=1):
        if step >= STEPS:
            times.setdefault(tuple(asked.data.train_sampler.names(step)), []).append(seconds)
    n_steps = sum(len(each) for each in times.values())
    return sum(float(np.median(each)) * len(each) for each in times.values()) / n_steps


def run_joint(
    cells: Sequence[JointCell],
    config: Path,
    root: Path,
    output: Path,
    runs: Path,
    rates: Mapping[tuple[str, str], float],
) -> Iterator[Path]:
    """Train and score what is missing, on validation, and yield every result's path.

    Args:
        cells: The runs.
        config: The joint configuration, whose systems stand in `root`.
        root: Folder of the datasets.
        output: Folder of the results, with cost.json.
        runs: Folder of the run folders; one that was cut goes on.
        rates: Milliseconds a training sample by (model, system).

    Raises:
        WavelitError: No cost or rate is there, or a result of another recipe.
    """
    cost = cost_of(output)
    for cell in cells:
        asked = cell.configure(config, root, 1)
        steps = steps_of(cell.minutes, cost, asked.data, rates)
        recipe = dataclasses.replace(asked.train, steps=steps, validate_every=steps)
        asked = dataclasses.replace(asked, train=recipe)
        path = output / f"{cell.name}.json"
        if path.exists():
            due = {
                "model": asked.changes,
                "train": dataclasses.asdict(asked.train),
                "shares": asked.data.shares,
            }
            # Results of before do not say how their systems were read.
            read = {"data": _read_as(asked.data)} if "data" in read_json(path) else {}
            require_same(path, due | read)
        else:
            write_result(path, _run(cell, asked, runs / cell.name))
        yield path


def _run(cell: JointCell, asked: JointConfiguration, folder: Path) -> dict[str, Any]:
    begun = (folder / "checkpoints").is_dir() and any((folder / "checkpoints").glob("*.ckpt"))
    if begun or is_trained(folder):
        require_run(folder, asked.data, asked.train, asked.changes)
    if is_trained(folder):
        model = load_joint(folder)
    elif begun:
        model = resume_joint(folder)
    else:
        built = asked.build()
        model = fit_joint(
            folder, asked.data, built, asked.train, asked.trainer, asked.seed, overwrite=True
        )
    outcome = read_environment(folder) or {}
    steps = asked.train.steps or 0
    return {
        **dataclasses.asdict(cell),
        "preset": asked.preset,
        "model": asked.changes,
        "train": dataclasses.asdict(asked.train),
        "data": _read_as(asked.data),
        "shares": asked.data.shares,
        "windows": {
            name: round(steps * system.batch_size * asked.data.shares[name])
            for name, system in asked.data.systems.items()
        },
        "parameters": model.n_parameters,
        "shared": model.n_shared,
        "active": {name: emulator.n_parameters for name, emulator in model.items()},
        "seconds": outcome.get("train_seconds"),
        "valid": _scores(model, folder, "valid"),
        **environment(),
    }


def _scores(model: JointWaveLiT, folder: Path, split: str) -> dict[str, Any]:
    """Of every system, read as it was in training."""
    data = load_joint_data(folder)
    return {
        name: scores_of(evaluate(emulator, data.systems[name], split, rollout_batch_size=4))
        for name, emulator in model.items()
    }


def score_test(cells: Sequence[JointCell], output: Path, runs: Path) -> Iterator[Path]:
    """Score finished runs on the test split, once, and add it to their results.

    Raises:
        WavelitError: A run has no result yet.
    """
    for cell in cells:
        path = output / f"{cell.name}.json"
        if not path.exists():
            raise WavelitError(f"{path} is missing: train it first")
        result = read_json(path)
        if "test" not in result:
            folder = runs / cell.name
            result["test"] = _scores(load_joint(folder), folder, "test")
            write_result(path, result)
        yield path


def require_same(path: Path, due: Mapping[str, Any]) -> None:
    """A result of another recipe must not pass for this one.

    Args:
        path: The result.
        due: Entries that it must have, among them mappings.

    Raises:
        WavelitError: An entry differs.
    """
    was = read_json(path)
    if isinstance(was.get("train"), dict):
        was["train"] = {**JointTrainConfig.LATER, **was["train"]}
    due = json.loads(json.dumps(due))
    other = [
        name for entry, wanted in due.items() for name in _differing(entry, was.get(entry), wanted)
    ]
    if other:
        raise WavelitError(
            f"{path} was run with another {listed(other)}: remove it, or name another --output"
        )


def require_run(
    folder: Path,
    data: JointDataModule | WellDataModule,
    train: TrainConfig,
    changes: Mapping[str, Any] | None = None,
) -> None:
    """Weights of another recipe, budget or reading of the data must not pass for these.

    Args:
        folder: A run that has begun.
        data: What it should have been trained on.
        train: And how.
        changes: Entries of its model, a joint one.

    Raises:
        WavelitError: An entry differs.
    """
    settings = read_yaml(folder / "config.yaml")
    was = {"train": {**type(train).LATER, **settings["train"]}}
    due: dict[str, Any] = {"train": dataclasses.asdict(train)}
    if isinstance(data, JointDataModule):
        systems = {each["name"]: each for each in settings["systems"]}
        was["data"] = {name: _apart(each) for name, each in systems.items()}
        was["shares"] = {name: each["share"] for name, each in systems.items()}
        due["data"], due["shares"] = _read_as(data), data.shares
        config = read_joint_config(folder)
        trunk = config.architecture
        own = {name: getattr(config, name, getattr(trunk, name, None)) for name in changes or {}}
        was["model"], due["model"] = own, dict(changes or {})
    else:
        was["data"], due["data"] = _apart(settings["data"]), _apart(settings_of(data))
    was, due = (json.loads(json.dumps(each)) for each in (was, due))
    other = [name for entry in due for name in _differing(entry, was[entry], due[entry])]
    if other:
        raise WavelitError(
            f"{folder} was trained with another {listed(other)}: remove it, or name another --runs"
        )


def _read_as(data: JointDataModule) -> dict[str, dict[str, Any]]:
    """How each system is read, wherever it stands."""
    return {name: _apart(settings_of(system)) for name, system in data.systems.items()}


def _apart(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in settings.items()
        if value is not None and name not in ("name", "share", "path", "n_workers", "cache_bytes")
    }


def _differing(entry: str, was: Any, due: Any) -> list[str]:
    if not (isinstance(was, dict) and isinstance(due, dict)):
        return [] if was == due else [entry]
    return [name for name in {**due, **was} if was.get(name) != due.get(name)]
