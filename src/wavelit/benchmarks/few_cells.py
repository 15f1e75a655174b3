"""A few trajectories of a system: what starting from a joint model is worth over starting from
nothing; one JSON a cell, resumable within.

Every arm has the same core-minutes. It sees the given trajectories but for the last fifth of their
time, by which its best step, its learning rate and, among arms, the one that a user would take are
chosen: with a few trajectories nobody has a validation split. The best step has the lowest error
one step ahead. Learning rate and arm have it among those whose rollouts, from the first state of
each trajectory and scored in what is held out, do not fall far behind (`favoured`): one step ahead
a start can be the best whose rollouts diverge.

scratch nano     WaveLiT 0.2, the preset `nano`, from nothing
scratch joint    one system of the joint model from nothing
free             from the joint model, all of it trained
frozen           from the joint model, its trunk kept
low-rank         from the joint model, its trunk kept but for terms of low rank

All arms have the symmetries and projections that WaveLiT 0.2 has on the system.

What starts from nothing is trained once, whatever the sources. Where the model that is started from
knows one system alone, the cell is one of a pair, as `wavelit.evaluation.transfer` reads them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from wavelit.benchmarks.accuracy import mask_field_of, wavelet_band_errors
from wavelit.benchmarks.entries import PRIORS
from wavelit.benchmarks.joint_cells import nano_rate, require_run, require_same, steps_of
from wavelit.benchmarks.protocol import BATCH_SIZE, REFERENCE, Cell, n_steps
from wavelit.benchmarks.results import number, scores_of, write_result
from wavelit.benchmarks.timing import environment
from wavelit.checks.arguments import listed
from wavelit.data.datamodule import WellDataModule
from wavelit.data.joint import JointDataModule
from wavelit.errors import WavelitError
from wavelit.evaluation.evaluate import evaluate, one_step, roll_out
from wavelit.evaluation.transfer import favoured
from wavelit.files.plain import read_json
from wavelit.model.emulator import IncrementEmulator
from wavelit.model.foundation import JointWaveLiT
from wavelit.model.pretrained import joint_models, shipped
from wavelit.training.config import BUDGETS, TrainConfig, TrainerConfig
from wavelit.training.fine_tune import for_dataset, rank_of
from wavelit.training.joint import JointTrainConfig
from wavelit.training.joint_configuration import JointConfiguration
from wavelit.training.joint_folder import is_trained as joint_is_trained
from wavelit.training.joint_folder import load_joint
from wavelit.training.joint_run import build_joint, fit_joint
from wavelit.training.run import build_model, fit
from wavelit.training.run_folder import load_model
from wavelit.training.run_state import is_trained

__all__ = [
    "ARMS",
    "STARTED",
    "FewCell",
    "batch_size_of",
    "data_of",
    "load_source",
    "recipe_of",
    "run_few",
    "start",
    "with_budget",
    "with_priors",
]

SCRATCH = ("scratch nano", "scratch joint")
STARTED = ("free", "frozen", "low-rank")
ARMS = (*SCRATCH, *STARTED)
LEARNING_RATES = (1.1e-2, 4e-3, 1.4e-3)
# The last fifth of the time of the given trajectories.
HOLDOUT = 0.2
# Looks at it in a run.
LOOKS = 10


@dataclasses.dataclass(frozen=True)
class FewCell:
    """One target, one start, some trajectories.

    Args:
        source: Name of the joint run that is started from, as `JointCell.name` has it, or of a
            joint model of the package.
        target: The system.
        trajectories: How many of the training split are given; None: all.
        minutes: Core-minutes of every arm.
        seed: Of weights, data order and noise.
    """

    source: str
    target: str
    trajectories: int | None
    minutes: float
    seed: int

    @property
    def name(self) -> str:
        """Of its result and of its run folders, relative to theirs."""
        return f"few/{self.source.replace('/', '_')}/{self._given}"

    @property
    def scratch_name(self) -> str:
        """Of the run folders that start from nothing, whatever the source."""
        return f"few/scratch/{self.minutes:g}min/{self._given}"

    @property
    def _given(self) -> str:
        given = "all" if self.trajectories is None else self.trajectories
        return f"{self.target}-{given}-{self.seed}"


@dataclasses.dataclass(frozen=True)
class _Setting:
    cell: FewCell
    joint: JointConfiguration
    cost: float
    rates: Mapping[tuple[str, str], float]
    root: Path
    runs: Path

    def data(self, batch_size: int) -> WellDataModule:
        """What is given."""
        return self.everything().replaced(
            batch_size=batch_size,
            seed=self.cell.seed,
            trajectories=self.cell.trajectories,
            holdout=HOLDOUT,
        )

    def everything(self) -> WellDataModule:
        """All of the target."""
        return data_of(self.cell.target, self.joint, self.root)


def run_few(
    cells: Sequence[FewCell],
    joint: JointConfiguration,
    cost: float,
    rates: Mapping[tuple[str, str], float],
    root: Path,
    output: Path,
    runs: Path,
) -> Iterator[Path]:
    """Run what is missing, scored on validation, and yield every result's path.

    Args:
        cells: What is run; the learning rates of a seed above 0 are those chosen with seed 0.
        joint: The joint training, whose recipe and architecture the arms have.
        cost: Of a joint step, in those of WaveLiT `nano-0.1` on the same windows.
        rates: Milliseconds a training sample by (model, system).
        root: Folder of the datasets.
        output: Folder of the results.
        runs: Folder of the run folders, the joint runs among them.

    Raises:
        WavelitError: No joint run of that name, no rate of the target, seed 0 is missing, or a
            result is of another recipe.
    """
    for cell in cells:
        path = output / f"{cell.name}.json"
        if path.exists():
            require_same(path, {"minutes": cell.minutes, **recipe_of(joint, cell.target)})
        else:
            setting = _Setting(cell, joint, cost, rates, root, runs)
            write_result(path, _run(setting, _learning_rates(cell, output)))
        yield path


def _learning_rates(cell: FewCell, output: Path) -> dict[str, tuple[float, ...]]:
    if cell.seed == 0:
        return dict.fromkeys(ARMS, LEARNING_RATES)
    path = output / f"{dataclasses.replace(cell, seed=0).name}.json"
    if not path.exists():
        raise WavelitError(
            f"{path} is missing: learning rates are chosen with seed 0, run it first"
        )
    return {arm: (found["lr"],) for arm, found in read_json(path)["arms"].items()}


def _run(setting: _Setting, rates: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    cell = setting.cell
    source = load_source(cell.source, setting.runs)
    everything = setting.everything()
    arms: dict[str, dict[str, Any]] = {}
    for arm in ARMS:
        emulators = {lr: _train(setting, source, arm, lr) for lr in rates[arm]}
        tried = _held_out(emulators, setting)
        lr = favoured(tried)
        scores = scores_of(evaluate(emulators[lr], everything, "valid", rollout_batch_size=4))
        arms[arm] = {
            "lr": lr,
            **tried[lr],
            "by_lr": {str(each): held for each, held in tried.items()},
            "valid": {
                "one_step": scores["one_step"],
                "rollout": scores["rollout"],
                "bands": wavelet_band_errors(emulators[lr], everything),
            },
        }
    chosen = favoured(arms)
    scratch = favoured({arm: arms[arm] for arm in SCRATCH})
    facts = {"kind": "few", **dataclasses.asdict(cell), **recipe_of(setting.joint, cell.target)}
    if len(source) == 1:
        facts |= {"kind": "pair", "source": next(iter(source))}
    return {
        **facts,
        "chosen": chosen,
        "scratch": scratch,
        "valid": arms[chosen]["valid"],
        "arms": arms,
        **environment(),
    }


def load_source(name: str, runs: Path) -> JointWaveLiT:
    """The joint model that is started from: of a run under `runs`, or one of the package.

    Raises:
        WavelitError: It is neither, or the run is not trained.
    """
    folder, model = runs / name, shipped(name)
    if model in joint_models() and not folder.exists():
        return JointWaveLiT.from_pretrained(model)
    if not joint_is_trained(folder):
        raise WavelitError(
            f"{folder} is no trained joint run: `wavelit transfer joint` first, or start from "
            f"{listed(joint_models())}, which comes with the package"
        )
    return load_joint(folder)


def recipe_of(joint: JointConfiguration, target: str) -> dict[str, Any]:
    """What results of the same arms have in common, whatever their budget and learning rate."""
    own = {*BUDGETS, "lr", "validate_every", "trunk"}
    train = dataclasses.asdict(with_priors(joint.train, target))
    model = {**joint.changes, **priors_of(target, "model")}
    return {
        "preset": joint.preset,
        "data": priors_of(target, "data"),
        "model": model,
        "train": {k: v for k, v in train.items() if k not in own},
    }


def data_of(target: str, joint: JointConfiguration, root: Path) -> WellDataModule:
    """A system as the joint training reads it, or one that it has not."""
    if target in joint.data.systems:
        return joint.data.systems[target]
    options = {"mask_field": mask_field_of(target), **priors_of(target, "data")}
    return WellDataModule(str(root / target), **options)


def priors_of(target: str, part: str) -> dict[str, Any]:
    """Entries of "data", "model" or "train" that WaveLiT 0.2 has on a system alone."""
    return dict(PRIORS.get(target, {}).get(part, {}))


def with_priors(recipe: JointTrainConfig, target: str) -> JointTrainConfig:
    """A recipe with the symmetries of a system."""
    return dataclasses.replace(recipe, system_symmetries=None, **priors_of(target, "train"))


def _held_out(
    emulators: Mapping[float, IncrementEmulator], setting: _Setting
) -> dict[float, dict[str, float | None]]:
    """Errors on what is held out, one step ahead and of rollouts from the first state of what is
    given; None where one is not finite.
    """
    named = {str(lr): emulator for lr, emulator in emulators.items()}
    single = one_step(named, setting.data(BATCH_SIZE).windows("valid"))
    given = setting.everything().replaced(trajectories=setting.cell.trajectories)
    rolled = roll_out(named, given.trajectories("train", 4))
    found = {}
    for lr in emulators:
        steps = rolled[str(lr)]
        n_states = given.n_steps_input + steps.shape[1]
        held = steps[:, round((1 - HOLDOUT) * n_states) - n_states :]
        found[lr] = {
            "holdout": number(float(single[str(lr)].mean())),
            "holdout_rollout": number(float(held.mean())),
        }
    return found


def _train(setting: _Setting, source: JointWaveLiT, arm: str, lr: float) -> IncrementEmulator:
    """The weights that had the lowest error one step ahead on what is held out.

    Raises:
        WavelitError: The folder holds a run of another recipe or budget.
    """
    cell = setting.cell
    parent = cell.scratch_name if arm in SCRATCH else cell.name
    folder = setting.runs / parent / f"{arm.replace(' ', '_')}-{lr:g}"
    trainer = TrainerConfig(accelerator="cpu", threads=1)
    if arm == "scratch nano":
        data = setting.data(BATCH_SIZE)
        own = Cell(REFERENCE, cell.target, cell.seed, cell.minutes, lr, "final")
        steps = n_steps(own, nano_rate(cell.target, setting.rates))
        every = max(1, steps // LOOKS)
        priors = priors_of(cell.target, "train")
        stability = setting.joint.train.stability
        recipe = TrainConfig(
            steps=steps, lr=lr, validate_every=every, stability=stability, **priors
        )
        if is_trained(folder):
            require_run(folder, data, recipe)
        else:
            model = build_model(data, "nano", cell.seed, **priors_of(cell.target, "model"))
            fit(folder, data, model, recipe, trainer, cell.seed, overwrite=True)
        return load_model(folder, "best")
    _train_joint(setting, source, arm, lr, folder, trainer)
    return load_joint(folder, "best")[cell.target]


def _train_joint(
    setting: _Setting,
    source: JointWaveLiT,
    arm: str,
    lr: float,
    folder: Path,
    trainer: TrainerConfig,
) -> None:
    asked = setting.joint
    data = JointDataModule(
        {setting.cell.target: setting.data(batch_size_of(asked))}, seed=setting.cell.seed
    )
    steps = steps_of(setting.cell.minutes, setting.cost, data, setting.rates)
    trunk = arm if arm in ("frozen", "low-rank") else "free"
    due = with_priors(asked.train, setting.cell.target)
    recipe = with_budget(due, steps, lr, looks=LOOKS, trunk=trunk)
    if joint_is_trained(folder):
        require_run(folder, data, recipe)
        return
    if arm == "scratch joint":
        by_system = {setting.cell.target: priors_of(setting.cell.target, "model")}
        model = build_joint(data, asked.preset, setting.cell.seed, by_system, **asked.changes)
    else:
        model = start(source, data, rank_of(recipe, source))
    fit_joint(folder, data, model, recipe, trainer, setting.cell.seed, overwrite=True)


def batch_size_of(joint: JointConfiguration) -> int:
    """Windows of a system in a joint step."""
    return next(iter(joint.data.systems.values())).batch_size


def start(source: JointWaveLiT, data: JointDataModule, rank: int = 0) -> JointWaveLiT:
    """A trained joint model made ready for the one system of some data.

    Raises:
        WavelitError: The dataset has another name than the data module gives it.
    """
    ((name, system),) = data.systems.items()
    model = for_dataset(source, system, rank=rank, seed=data.seed)
    if list(model) != [name]:
        raise WavelitError(f"{system.path} is not called {name}")
    return model


def with_budget(
    recipe: JointTrainConfig, steps: int, lr: float, *, looks: int = 1, trunk: str = "free"
) -> JointTrainConfig:
    """A recipe at another budget and learning rate, with so many looks at the validation data."""
    every = max(1, steps // looks)
    changes: dict[str, Any] = {"lr": lr, "validate_every": every, "trunk": trunk}
    return dataclasses.replace(recipe, steps=steps, samples=None, minutes=None, **changes)
