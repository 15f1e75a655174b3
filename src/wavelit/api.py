"""What the package does with one call each: `wavelit.load` and `wavelit.evaluate`.

The others stand where the work is done: `fit` and `resume` in `wavelit.training.run`, `rollout` in
`wavelit.evaluation.rollout`, `write_dataset` in `wavelit.data.writing.write`.
"""

from __future__ import annotations

import os
from pathlib import Path

from wavelit.data.datamodule import WellDataModule
from wavelit.errors import WavelitError
from wavelit.evaluation.evaluate import Evaluation
from wavelit.evaluation.evaluate import evaluate as score
from wavelit.evaluation.evaluate_run import evaluate_run
from wavelit.evaluation.rollout import Emulator
from wavelit.model.pretrained import PREFIX, pretrained
from wavelit.model.wavelit import WaveLiT
from wavelit.training.run_folder import Weights, load_model

__all__ = ["evaluate", "load"]


def load(name: str | os.PathLike[str], weights: Weights = "final") -> WaveLiT:
    """A trained model in evaluation mode: of a run, one that comes with the package, or any other.

    >>> wavelit.load("shear_flow").spatial
    2
    >>> wavelit.load("runs/waves").config.embed_dim
    96

    Args:
        name: A run folder, one of PocketWell's eight systems, a folder that `save_pretrained`
            wrote, or owner/name on the Hugging Face hub.
        weights: Of a run, the final averaged weights or those of the best validation, as
            `wavelit evaluate` takes them.

    Raises:
        WavelitError: No such model, or weights that are damaged, not finite or not there yet.
    """
    text, folder = os.fspath(name), Path(os.path.expanduser(name))
    if (folder / "config.yaml").exists():
        return load_model(folder, weights)
    if weights != "final":
        raise WavelitError(f"{text} is no run folder, which alone has {weights} weights")
    shipped = f"{PREFIX}{text.removeprefix(PREFIX)}"
    known = not folder.exists() and shipped in pretrained()
    return WaveLiT.from_pretrained(shipped if known else name)


def evaluate(
    model: Emulator | str | os.PathLike[str],
    data: WellDataModule | str | os.PathLike[str] | None = None,
    split: str = "valid",
    *,
    weights: Weights = "final",
    device: str | None = None,
) -> Evaluation:
    """Scores on a split, one step ahead and in rollouts, with persistence beside them.

    Of a run folder this is `wavelit evaluate`: scores and report are written into it.

    >>> scores = wavelit.evaluate("runs/waves")
    >>> scores = wavelit.evaluate(wavelit.load("runs/waves"), "datasets/waves")
    >>> sorted(scores.scores)
    ['model', 'persistence']

    Args:
        model: A run folder, or any emulator: a network, or a function of (fields, constants,
            scalars) that returns the next state in physical units.
        data: A dataset folder or data module; of a run, its own if absent.
        split: "valid" or "test".
        weights: Of a run, the final averaged weights or those of the best validation.
        device: Where to run; a GPU if there is one, for a run, else the CPU.

    Raises:
        WavelitError: An emulator without data, a run without weights, or data that do not fit.
    """
    if isinstance(model, str | os.PathLike):
        path = data.path if isinstance(data, WellDataModule) else data
        return evaluate_run(
            model, split, weights, None if path is None else os.fspath(path), device
        )[0]
    if data is None:
        raise WavelitError("an emulator is scored on data: give a dataset folder or a data module")
    if not isinstance(data, WellDataModule):
        history = model.config.n_steps_input if isinstance(model, WaveLiT) else 4
        data = WellDataModule(os.fspath(data), n_steps_input=history)
    return score(model, data, split, device=device or "cpu")
