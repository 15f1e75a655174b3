"""Trained models that come with the package: a `nano` for each of PocketWell's eight systems.

    WaveLiT.from_pretrained("pocketwell/rayleigh_benard")

Each stands in weights/pocketwell/<system>: config.json, model.safetensors, and a card, README.md, with what it was trained on and
how well it does.
"""

from __future__ import annotations

import os
from pathlib import Path

from wavelit.errors import WavelitError

__all__ = ["PREFIX", "pretrained", "resolve"]

PREFIX = "pocketwell/"
FOLDER = Path(__file__).parent / "weights"


def pretrained() -> list[str]:
    """Their names, pocketwell/<system>."""
    return sorted(f"{PREFIX}{path.parent.name}" for path in (FOLDER / PREFIX).glob("*/model.safetensors"))


def resolve(name: str | os.PathLike[str]) -> str:
    """The folder of a model that comes with the package; anything else, a folder or a name on the hub, as it is.

    Raises:
        WavelitError: no such model in the package.
    """
    text = os.fspath(name)
    if not text.startswith(PREFIX) or Path(text).exists():
        return text
    if text not in pretrained():
        raise WavelitError(f"unknown model '{text}': the package has {', '.join(pretrained())}")
    return os.fspath(FOLDER / text)
