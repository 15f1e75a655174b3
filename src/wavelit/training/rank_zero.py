"""Which of the processes of a training speaks for all. Lightning keeps it, and is imported on the
first question.
"""

from __future__ import annotations

__all__ = ["is_first", "set_rank"]


def is_first() -> bool:
    """Whether this process speaks for all."""
    from pytorch_lightning.utilities import rank_zero_only

    return bool(rank_zero_only.rank == 0)  # type: ignore[attr-defined]


def set_rank(rank: int) -> None:
    """Say which rank this process is: Lightning takes it from the environment, where another
    tool may have left one.
    """
    import lightning_fabric.utilities.rank_zero as fabric_rank
    from pytorch_lightning.utilities import rank_zero_only

    for said in (rank_zero_only, fabric_rank.rank_zero_only):
        said.rank = rank  # type: ignore[attr-defined]
