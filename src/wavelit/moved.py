"""Modules that stood elsewhere before 0.2: an import of one says where it is now.

It is asked last, after Python has looked everywhere, and imports nothing in the old one's stead.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

__all__ = ["MOVED", "MovedFinder"]

MOVED = {
    "wavelit.attention": "wavelit.model.attention",
    "wavelit.config": "wavelit.model.config",
    "wavelit.data.check": "wavelit.data.checking.check",
    "wavelit.data.normalize": "wavelit.data.statistics and wavelit.model.normalizer",
    "wavelit.data.write": "wavelit.data.writing.write, its function wavelit.write_dataset",
    "wavelit.emulator": "wavelit.model.emulator",
    "wavelit.evaluate": "a function, wavelit.evaluate; its module is wavelit.evaluation.evaluate",
    "wavelit.figures": "wavelit.evaluation.figures",
    "wavelit.judge": "wavelit.evaluation.evaluate_run, its function judge is wavelit.evaluate",
    "wavelit.losses": "wavelit.model.losses",
    "wavelit.memory": "wavelit.allocator",
    "wavelit.pretrained": "wavelit.model.pretrained",
    "wavelit.rollout": "a function, wavelit.rollout; its module is wavelit.evaluation.rollout",
    "wavelit.run": "wavelit.training.run, its functions wavelit.fit and wavelit.resume",
    "wavelit.tokenizer": "wavelit.model.tokenizer",
    "wavelit.train": "wavelit.training.module",
}


class MovedFinder:
    """A finder of `sys.meta_path` that finds nothing."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> None:
        """Refuse a module that has moved.

        Raises:
            ModuleNotFoundError: Names the new place.
        """
        if name in MOVED:
            raise ModuleNotFoundError(f"{name} is {MOVED[name]} now", name=name)
