"""A joint run's judgement: the scores of every system, each in a JSON of its own.

evaluation-<system>-<split>.json   as for a run of one system

The report of one system is `wavelit.evaluation.evaluate_run.evaluate_run` with its name.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import get_args

from wavelit.checks.arguments import require_name, require_path
from wavelit.evaluation.evaluate import Evaluation, evaluate
from wavelit.evaluation.evaluate_run import name_of, suffix_of
from wavelit.evaluation.figures import last_validation, learning_curve
from wavelit.evaluation.opened_run import chosen_device, is_trained_on, open_run
from wavelit.files.atomic import require_writable
from wavelit.training.joint_folder import load_joint_settings
from wavelit.training.run_folder import Weights

__all__ = ["evaluate_systems"]


def evaluate_systems(
    folder: str | os.PathLike[str],
    split: str = "valid",
    weights: Weights = "final",
    device: str | None = None,
    *,
    starts: int | None = None,
    out: str | os.PathLike[str] | None = None,
) -> dict[str, Evaluation]:
    """Score every system of a joint run on its split, with persistence and a linear stencil beside
    it, and write its JSON.

    Args:
        folder: The joint run.
        split: valid or test.
        weights: The final averaged weights, or those of the best validation.
        device: Where to run; a GPU if there is one.
        starts: As for `evaluate_run`.
        out: Where the files go; the run folder if absent.

    Returns:
        The scores by system.

    Raises:
        WavelitError: No joint run or weights there, or data that are not the run's.
    """
    folder, device = require_path("folder", folder), chosen_device(device)
    require_name("split", split, ("valid", "test"))
    require_name("weights", weights, get_args(Weights))
    target = folder if out is None else require_path("out", out)
    require_writable(target)
    found, curve = {}, learning_curve(folder)
    for system in (entry["name"] for entry in load_joint_settings(folder)["systems"]):
        model, module, _ = open_run(folder, weights, None, split, system=system)
        own = is_trained_on(folder, module, system)
        evaluation = evaluate(
            model.to(device),
            module,
            split,
            model=name_of(model, weights),
            device=device,
            starts=starts,
            stencil=True,
            trained_on=own,
        )
        if own and curve is not None:
            evaluation = replace(evaluation, last_validation=last_validation(curve, system))
        found[system] = evaluation
        suffix = suffix_of(split, weights, system=system)
        found[system].save(target / f"evaluation-{suffix}.json")
    return found
