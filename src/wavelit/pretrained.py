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
    """The folder of a model that comes with the package, of a run's weights, or any other; a name on the hub, owner/name, as it is.

    Raises:
        WavelitError: no such model in the package, no such folder, or one without a model.
    """
    text, path = os.fspath(name), Path(os.path.expanduser(name))
    if text in pretrained():
        return os.fspath(FOLDER / text)
    if text and path.is_dir():
        for folder in (path / "weights", path):
            if (folder / "config.json").exists():
                return os.fspath(folder)
        raise WavelitError(f"{text} holds no model: a run's weights are there once it has ended")
    # Names on the hub are owner/name; anything else, and what would stand in a folder that is there, is a folder that is not.
    on_hub = (
        isinstance(name, str) and text.count("/") == 1 and text[0] not in "./~" and not path.parent.is_dir()
    )
    if text.startswith(PREFIX) or not on_hub:
        raise WavelitError(
            f"unknown model '{text}': no such folder, and the package has {', '.join(pretrained())}"
        )
    return text
