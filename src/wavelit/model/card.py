"""The card of a saved model: what it is, what it was trained on and how to load it.

It says nothing that is not known: no licence, no place where it would have been published.
"""

from __future__ import annotations

from collections.abc import Sequence

from wavelit.checks.arguments import listed
from wavelit.errors import printable
from wavelit.model.config import WaveLiTConfig
from wavelit.model.signature import Quantity, Signature

__all__ = ["card"]

HEAD = """---
library_name: wavelit
tags: [PDE, emulator, wavelets]
---
"""


def card(config: WaveLiTConfig, n_parameters: int, signature: Signature | None) -> str:
    """README.md of a folder of weights, with the front matter that the hub reads."""
    size = f"{n_parameters / 1e6:.2f}M"
    said = (
        f"{HEAD}# WaveLiT, {size} parameters\n\n"
        f"It predicts the next state of {config.n_fields} channels on {config.spatial}-D grids "
        f"from the last {config.n_steps_input}, in physical units.\n"
    )
    if (own := signature) is not None:
        kinds = {
            "fields": (*own.fields, *own.forcing_fields),
            "constant fields": own.constants,
            "scalars": (*own.scalars, *own.forcing_scalars),
        }
        rows = [
            f"| {kind} | {_with_units(quantities)} |"
            for kind, quantities in kinds.items()
            if quantities
        ]
        said += f"\nTrained on `{_plain(own.dataset)}`:\n\n| what | names |\n|---|---|\n"
        said += "\n".join(rows) + "\n"
    return said + (
        "\n```python\nimport wavelit\n\nmodel = wavelit.load(FOLDER)  # this folder\n```\n\n"
        "Whoever passes it on adds a licence, and what the data and the scores were.\n"
    )


def _with_units(quantities: Sequence[Quantity]) -> str:
    return _plain(
        listed(f"{each.name} ({each.unit})" if each.unit else each.name for each in quantities)
    )


def _plain(text: str) -> str:
    """Names from a file, which are no markup."""
    return printable(text).replace("`", "'").replace("|", "/").replace("<", "(").replace(">", ")")
