"""The report of a run: one HTML file that plays its rollouts and holds its tables, pictures,
settings and definitions, and asks nothing of a network.

Every number of its tables comes from the `Evaluation`, every still from
`wavelit.evaluation.figures`, what it plays from `wavelit.evaluation.player`; the stills are kept as
files beside the report, with an animation, and embedded in it. The summary is put together by
rule, from the same scores as the tables: it names what the model does better and what it does worse
than predicting no change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wavelit.checks.arguments import require_instance, require_path
from wavelit.evaluation.evaluate import Evaluation, format_score
from wavelit.evaluation.figures import rollout_figure, training_figure
from wavelit.evaluation.films import animation
from wavelit.evaluation.orientation import View
from wavelit.evaluation.page import embedded, sections, write_page
from wavelit.evaluation.pictures import (
    FROM_THE_FILE,
    fields_to_show,
    file_part,
    png,
    write_bytes,
)
from wavelit.evaluation.player import Rollout, player

__all__ = ["summary", "write_report"]


def write_report(
    path: str | Path,
    evaluation: Evaluation,
    *,
    truth: Any,
    prediction: Any,
    run_info: Mapping[str, Any],
    metrics_csv: str | Path | None = None,
    field: str | None = None,
    fields: Sequence[str] | None = None,
    valid: Any = None,
    rollouts: Sequence[Rollout] | None = None,
    pictures: str = "rollout",
    view: View = FROM_THE_FILE,
    units: Mapping[str, str] | None = None,
) -> Path:
    """Write the report, and its pictures into `figures` beside it.

    Args:
        path: the HTML file.
        evaluation: the scores.
        truth: one trajectory of the split from the first predicted step on, (steps, C, *S).
        prediction: the model's rollout of it, of the same shape.
        run_info: what was run, by name: numbers and text, or mappings of them, which become
            sections of their own (parameters, training samples, wall-clock, threads, versions,
            seed, configuration).
        metrics_csv: the CSV logger's file, for the learning curves.
        field: the field of the still picture; the first if absent.
        fields: several fields, of each a still picture and an animation, in place of `field`.
        valid: cells inside the domain, bool (*S).
        rollouts: the trajectories that the page plays, of the run of the name `evaluation.model`;
            `truth` and `prediction` alone if absent.
        pictures: what the names of the pictures in `figures` begin with, before the field's.
        view: which axis runs to the right and which upwards: `wavelit.evaluation.orientation`.
        units: units of the fields that have one, by name.

    Returns:
        The path written.

    Raises:
        WavelitError: arrays, fields or the metrics file do not fit, or the page would take more
            than 15 MB.
    """
    path = require_path("path", path, is_file=True)
    require_instance(
        "evaluation", evaluation, Evaluation, "get one from wavelit.evaluation.evaluate"
    )
    require_instance("run_info", run_info, Mapping, "give names and values")
    folder = path.parent / "figures"
    names = evaluation.field_names
    fields = fields_to_show(names, field if fields is None else fields)
    stills = {
        name: png(
            rollout_figure(
                truth,
                prediction,
                names,
                field=name,
                evaluation=evaluation,
                valid=valid,
                view=view,
                units=units,
            )
        )
        for name in fields
    }
    curves = None if metrics_csv is None else png(training_figure(metrics_csv))
    # What is embedded is not read back: another report of the run may have written these files
    # since.
    for name, still in stills.items():
        stem = f"{pictures}-{file_part(name)}"
        film = folder / f"{stem}.gif"
        animation(
            film, truth, prediction, names, fields=[name], valid=valid, view=view, units=units
        )
        write_bytes(folder / f"{stem}.png", still)
    if curves is not None:
        write_bytes(folder / "training.png", curves)

    shown = [Rollout("trajectory 1", truth, {evaluation.model: prediction}, valid)]
    return write_page(
        path,
        evaluation,
        runs=[evaluation.model],
        summary=summary(evaluation),
        player=player(
            shown if rollouts is None else rollouts, names, evaluation, view=view, units=units
        ),
        stills={name: embedded("png", still) for name, still in stills.items()},
        curves=None if curves is None else embedded("png", curves),
        settings=sections(run_info),
    )


def summary(evaluation: Evaluation) -> str:
    """One paragraph: scores of one step and of the last window beside persistence's, where the
    model is the worse.
    """
    require_instance(
        "evaluation", evaluation, Evaluation, "get one from wavelit.evaluation.evaluate"
    )
    scores = evaluation.scores[evaluation.model]
    rows = [row for row in evaluation.rows() if row.how == "mean"]
    n_windows, n_trajectories = len(scores.one_step), len(scores.rollout)
    records = n_trajectories // evaluation.starts
    judged = f"{_count(n_windows, 'window')} and {_count(records, 'trajectory', 'trajectories')}"
    if evaluation.starts > 1:
        judged += f", each from {evaluation.starts} starts,"
    steps, known = _count(evaluation.n_steps, "step"), _count(evaluation.history, "known state")
    parts = [] if evaluation.case is None else [evaluation.case]
    parts += [
        f"Judged on {judged} of the {evaluation.split} split, rolled out over {steps} from {known}."
    ]
    shown = [rows[0], rows[-1]] if len(rows) > 1 else rows
    for row in shown:
        model, held = (float(row.scores[name][0]) for name in (evaluation.model, "persistence"))
        where = "One step ahead" if row is rows[0] else f"Over rollout steps {row.steps}"
        parts.append(
            f"{where} the mean VRMSE is {format_score(model)}, that of persistence "
            f"{format_score(held)}."
        )
    worse = [
        row.steps for row in rows if row.scores[evaluation.model][0] >= row.scores["persistence"][0]
    ]
    if worse:
        parts.append(f"The model is no better than persistence on: {', '.join(worse)}.")
    else:
        parts.append(
            "The model is better than persistence on every window of the table, all fields taken "
            "together."
        )
    curve = scores.rollout.mean((0, 2))
    beyond = np.flatnonzero(curve >= 1)
    if beyond.size:
        parts.append(
            "Its mean VRMSE first reaches 1, the score of the true spatial mean, at step "
            f"{beyond[0] + 1}."
        )
    if scores.diverged:
        parts.append(f"{_count(scores.diverged, 'rollout')} of {n_trajectories} diverged.")
    if "exact rotation" in evaluation.scores:
        parts.append(
            "The next state of this dataset is a fixed rotation of its two fields, so that the "
            "score measures the precision of a fit, not the modelling of waves."
        )
    return " ".join(parts)


def _count(n: int, one: str, many: str | None = None) -> str:
    return f"{n} {one if n == 1 else many or one + 's'}"
