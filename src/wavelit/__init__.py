"""Small neural PDE solvers with strong priors: wavelet tokens, mixed by convolutions or augmented
linear attention.

    import wavelit

    model = wavelit.fit("runs/waves", "datasets/waves", minutes=5)  # a run folder
    scores = wavelit.evaluate("runs/waves")
    states = wavelit.rollout(model, fields, 20)  # (B, T, C, *S) to (B, 20, C, *S)

Names are imported on first use, so that `import wavelit` costs nothing.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from wavelit.moved import MovedFinder

if TYPE_CHECKING:
    from wavelit.api import evaluate, export, fit, resume
    from wavelit.data.batch import Batch
    from wavelit.data.checking.check import check_dataset
    from wavelit.data.datamodule import WellDataModule
    from wavelit.data.well import WellDataset
    from wavelit.data.writing.write import write_dataset, write_well
    from wavelit.errors import WavelitError
    from wavelit.evaluation.evaluate_run import record_rollout
    from wavelit.evaluation.rollout import persistence, rollout
    from wavelit.loading import load
    from wavelit.model.config import WaveLiTConfig
    from wavelit.model.network import wrap
    from wavelit.model.wavelit import WaveLiT
    from wavelit.training.config import TrainConfig, TrainerConfig
    from wavelit.training.run import build_model
    from wavelit.training.run_folder import load_model

__version__ = "0.1.0"

_HOME = {
    "Batch": "data.batch",
    "TrainConfig": "training.config",
    "TrainerConfig": "training.config",
    "WaveLiT": "model.wavelit",
    "WaveLiTConfig": "model.config",
    "WavelitError": "errors",
    "WellDataModule": "data.datamodule",
    "WellDataset": "data.well",
    "build_model": "training.run",
    "check_dataset": "data.checking.check",
    "evaluate": "api",
    "export": "api",
    "fit": "api",
    "load": "loading",
    "load_model": "training.run_folder",
    "persistence": "evaluation.rollout",
    "record_rollout": "evaluation.evaluate_run",
    "resume": "api",
    "rollout": "evaluation.rollout",
    "wrap": "model.network",
    "write_dataset": "data.writing.write",
    "write_well": "data.writing.write",
}

__all__ = [
    "Batch",
    "TrainConfig",
    "TrainerConfig",
    "WaveLiT",
    "WaveLiTConfig",
    "WavelitError",
    "WellDataModule",
    "WellDataset",
    "__version__",
    "build_model",
    "check_dataset",
    "evaluate",
    "export",
    "fit",
    "load",
    "load_model",
    "persistence",
    "record_rollout",
    "resume",
    "rollout",
    "wrap",
    "write_dataset",
    "write_well",
]

if not any(finder is MovedFinder for finder in sys.meta_path):
    sys.meta_path.append(MovedFinder)


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'wavelit' has no attribute '{name}'")
    return getattr(import_module(f"wavelit.{_HOME[name]}"), name)
