"""The Well's own models at its benchmark sizes, unchanged (extra `baselines`).

Settings are those of The Well's benchmark configurations (the_well/benchmark/configs/model, and `init_features=42,
blocks_per_stage=2` for CNextU-Net, 18.6M parameters).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from torch import nn

from wavelit.errors import WavelitError

__all__ = ["RIVALS", "rival"]

RIVALS = ("CNextU-Net", "U-Net", "FNO")


def rival(name: str, dim_in: int, dim_out: int, shape: Sequence[int]) -> nn.Module:
    """A model of The Well from (B, dim_in, *shape) to (B, dim_out, *shape).

    Raises:
        WavelitError: unknown name, or the extra is not installed.
    """
    if name not in RIVALS:
        raise WavelitError(f"unknown model '{name}': expected one of {', '.join(RIVALS)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            from the_well.benchmark.models import FNO, UNetClassic, UNetConvNext
    except ImportError as error:
        raise WavelitError(
            f"{name} needs the extra `baselines`, best in an environment of its own: `make baselines` ({error})"
        ) from error
    common = {
        "dim_in": dim_in,
        "dim_out": dim_out,
        "n_spatial_dims": len(shape),
        "spatial_resolution": tuple(shape),
    }
    model: nn.Module
    if name == "CNextU-Net":
        model = UNetConvNext(**common, init_features=42, blocks_per_stage=2)
    elif name == "U-Net":
        model = UNetClassic(**common, init_features=48)
    else:
        model = FNO(**common, modes1=16, modes2=16, hidden_channels=128)
    return model
