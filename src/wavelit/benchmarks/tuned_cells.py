"""A joint model trained on with all that there is of one of its systems: what a user of one system
gains by fine-tuning; one JSON a cell.

The learning rate is chosen on the validation split, as that of a model of one system is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from wavelit.benchmarks.few_cells import (
    batch_size_of,
    data_of,
    load_source,
    recipe_of,
    start,
    with_budget,
    with_priors,
)
from wavelit.benchmarks.joint_cells import require_run, require_same, steps_of
from wavelit.benchmarks.results import scores_of, write_result
from wavelit.benchmarks.timing import environment
from wavelit.data.joint import JointDataModule
from wavelit.evaluation.evaluate import evaluate
from wavelit.model.foundation import JointWaveLiT
from wavelit.training.config import TrainerConfig
from wavelit.training.joint_configuration import JointConfiguration
from wavelit.training.joint_folder import is_trained, load_joint
from wavelit.training.joint_run import fit_joint

__all__ = ["TunedCell", "run_tuned"]

LEARNING_RATES = (4e-3, 1.4e-3)


@dataclasses.dataclass(frozen=True)
class TunedCell:
    """One joint model, one of its systems.

    Args:
        source: Name of the joint run, as `JointCell.name` has it.
        target: The system.
        minutes: Core-minutes of fine-tuning.
        seed: Of data order and noise.
    """

    source: str
    target: str
    minutes: float
    seed: int

    @property
    def name(self) -> str:
        """Of its result and of its run folders, relative to theirs."""
        return f"tuned/{self.source.replace('/', '_')}/{self.target}-{self.seed}"


def run_tuned(
    cells: Sequence[TunedCell],
    joint: JointConfiguration,
    cost: float,
    rates: Mapping[tuple[str, str], float],
    root: Path,
    output: Path,
    runs: Path,
) -> Iterator[Path]:
    """Run what is missing, scored on validation, and yield every result's path.

    Args:
        cells: What is run.
        joint: The joint training, whose recipe they have.
        cost: Of a joint step, in those of WaveLiT `nano-0.1` on the same windows.
        rates: Milliseconds a training sample by (model, system).
        root: Folder of the datasets.
        output: Folder of the results.
        runs: Folder of the run folders, the joint runs among them.

    Raises:
        WavelitError: No joint run of that name, no rate of the target, or a result of another
            recipe.
    """
    for cell in cells:
        path = output / f"{cell.name}.json"
        if path.exists():
            require_same(path, {"minutes": cell.minutes, **recipe_of(joint, cell.target)})
        else:
            source = load_source(cell.source, runs)
            opened = data_of(cell.target, joint, root).replaced(
                seed=cell.seed, batch_size=batch_size_of(joint)
            )
            data = JointDataModule({cell.target: opened}, seed=cell.seed)
            steps = steps_of(cell.minutes, cost, data, rates)
            tried = {
                lr: _scores(cell, source, data, joint, steps, lr, runs) for lr in LEARNING_RATES
            }
            lr = min(tried, key=lambda each: _order(tried[each]))
            result = {
                "kind": "tuned",
                **dataclasses.asdict(cell),
                **recipe_of(joint, cell.target),
                "steps": steps,
                "lr": lr,
                "one_step_by_lr": {str(each): found["one_step"] for each, found in tried.items()},
                "valid": tried[lr],
                **environment(),
            }
            write_result(path, result)
        yield path


def _order(scores: Mapping[str, Any]) -> tuple[bool, float]:
    """What is not finite comes last."""
    return scores["one_step"] is None, scores["one_step"] or 0.0


def _scores(
    cell: TunedCell,
    source: JointWaveLiT,
    data: JointDataModule,
    joint: JointConfiguration,
    steps: int,
    lr: float,
    runs: Path,
) -> dict[str, Any]:
    folder = runs / cell.name / f"{lr:g}"
    recipe = with_budget(with_priors(joint.train, cell.target), steps, lr)
    if is_trained(folder):
        require_run(folder, data, recipe)
    else:
        trainer = TrainerConfig("cpu", threads=1)
        fit_joint(folder, data, start(source, data), recipe, trainer, cell.seed, overwrite=True)
    emulator = load_joint(folder)[cell.target]
    return scores_of(evaluate(emulator, data.systems[cell.target], "valid", rollout_batch_size=4))
