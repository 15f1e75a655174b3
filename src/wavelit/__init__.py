"""Small neural PDE solvers with strong priors: wavelet tokens, augmented linear attention, one shared pyramid.

    from wavelit import WellDataModule, build_model
    data = WellDataModule("datasets/pocketwell/small/shear_flow")
    model = build_model(data, preset="nano")

Names are imported on first use, so that `import wavelit` costs nothing. What shares its name with its module is imported from
there: `from wavelit.rollout import rollout`, `from wavelit.evaluate import evaluate`, `from wavelit.judge import judge`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wavelit.config import WaveLiTConfig
    from wavelit.data.well import Batch, WellDataModule, WellDataset
    from wavelit.data.write import write_dataset, write_well
    from wavelit.errors import WavelitError
    from wavelit.judge import record_rollout
    from wavelit.model import WaveLiT
    from wavelit.rollout import persistence
    from wavelit.run import TrainerConfig, build_model, fit, load_model, resume
    from wavelit.train import TrainConfig

__version__ = "0.1.0"

_HOME = {
    "Batch": "data.well",
    "TrainConfig": "train",
    "TrainerConfig": "run",
    "WaveLiT": "model",
    "WaveLiTConfig": "config",
    "WavelitError": "errors",
    "WellDataModule": "data.well",
    "WellDataset": "data.well",
    "build_model": "run",
    "fit": "run",
    "load_model": "run",
    "persistence": "rollout",
    "record_rollout": "judge",
    "resume": "run",
    "write_dataset": "data.write",
    "write_well": "data.write",
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
    "fit",
    "load_model",
    "persistence",
    "record_rollout",
    "resume",
    "write_dataset",
    "write_well",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'wavelit' has no attribute '{name}'")
    return getattr(import_module(f"wavelit.{_HOME[name]}"), name)
