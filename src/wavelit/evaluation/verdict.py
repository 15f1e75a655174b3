"""Which case a model is, in one sentence, from scores beside persistence and a linear stencil.

unstable    the error of a tenth of the rollouts exceeds three spreads of the truth and twice
            persistence's, to their end and for three steps at least; fewer are told beside another
            case
over-fitted the error on the split is far above that on training windows
no better   persistence or the linear stencil does as well, one step ahead or in rollouts
better      than both
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from wavelit.evaluation.averages import STENCIL, Array, Scores, average, format_score

__all__ = ["verdict"]

# VRMSE beyond which a rollout is unstable. Two unrelated states of a statistically steady system
# are about sqrt(2) apart. Where fields decay the truth's own variance falls, and persistence shows
# how far: a rollout must be this many times worse, too.
UNSTABLE, TIMES_PERSISTENCE = 3.0, 2.0
# Steps to its end that such a rollout has at least, and the share of rollouts that decides.
LASTING, MANY = 3, 0.1
# The error on the split over that on training windows. Windows differ in how hard they are, so that
# the ratio is not one where nothing was learned by heart.
OVER_FITTED = 1.5
# A model is better where its error is below this share of another's.
BETTER = 0.95
# Rollout steps that are compared: those of the first window of the tables.
FIRST = 20


def verdict(model: str, scores: Mapping[str, Scores], training_error: float | None = None) -> str:
    """The case of a model.

    Args:
        model: Its name among the scores.
        scores: By emulator, persistence among them.
        training_error: The model's mean VRMSE one step ahead on training windows, if it is known.
    """
    unstable, share = _unstable(scores[model].rollout, scores["persistence"].rollout)
    if share > MANY:
        return unstable
    case = _case(model, scores, training_error)
    return f"{case} {unstable}" if unstable else case


def _case(model: str, scores: Mapping[str, Scores], training_error: float | None) -> str:
    """The sentence where rollouts stay bounded."""
    names = [name for name in (model, STENCIL, "persistence") if name in scores]
    steps = min(FIRST, scores[model].rollout.shape[1])
    ahead = {
        "one step ahead": {name: _mean(scores[name].one_step[:, None]) for name in names},
        f"over rollout steps 1:{steps}": {
            name: _mean(scores[name].rollout[:, :steps]) for name in names
        },
    }
    beaten_by = [
        (name, where)
        for name in names[1:]
        for where, each in ahead.items()
        if each[model] >= BETTER * each[name]
    ]
    own = ahead["one step ahead"][model]
    if training_error is not None and own > OVER_FITTED * training_error:
        times = f"{own / training_error:.1f} times" if training_error else "far above"
        also = "; persistence or a linear stencil does as well" if beaten_by else ""
        return (
            f"Over-fitted: one step ahead the error is {format_score(own)}, "
            f"{times} the {format_score(training_error)} on training "
            f"windows{also}: train on more data, for fewer steps or with a smaller model."
        )
    if beaten_by:
        name, where = beaten_by[0]
        # A stencil that is sharp one step ahead may blow up in rollouts.
        but = [
            f", but better {elsewhere}: {format_score(each[model])} against "
            f"{format_score(each[name])}{', which grows' if each[name] > UNSTABLE else ''}"
            for elsewhere, each in ahead.items()
            if (name, elsewhere) not in beaten_by
        ]
        return (
            f"No better than {'linear' if name == STENCIL else name} {where}: "
            f"{format_score(ahead[where][model])} against {format_score(ahead[where][name])} of "
            f"{'a linear stencil' if name == STENCIL else 'predicting no change'}{''.join(but)}."
        )
    said = []
    for where, each in ahead.items():
        others = " and ".join(f"{format_score(each[name])} ({name})" for name in names[1:])
        said.append(f"{where} {format_score(each[model])} against {others}")
    beside = "persistence and a linear stencil" if STENCIL in names else "persistence"
    return f"Better than {beside}: {', '.join(said)}."


def _mean(values: Array) -> float:
    return float(average(values, "mean")[0])


def _unstable(rollout: Array, persistence: Array) -> tuple[str, float]:
    """The sentence for rollouts (rollouts, steps, C) whose errors stay that large, and their share;
    "" and 0 where there are none.
    """
    curves, held = rollout.mean(2), persistence.mean(2)
    beyond = ~(curves <= np.maximum(UNSTABLE, TIMES_PERSISTENCE * held))
    # From a step on: to the end of the rollout.
    lasting = np.flip(np.logical_and.accumulate(np.flip(beyond, 1), axis=1), 1)
    ended = lasting[:, -min(LASTING, lasting.shape[1])]
    if not ended.any():
        return "", 0.0
    first = int(lasting[ended].argmax(1).min()) + 1
    return (
        f"Unstable from step {first} on: in {int(ended.sum())} of {len(curves)} rollouts the error "
        f"exceeds {UNSTABLE:g} spreads of the truth and does not come back: train for longer, with "
        "more input noise, or with pushforward."
    ), float(ended.mean())
