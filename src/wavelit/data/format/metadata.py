"""The Well's tables of a split, from layouts that have been checked: names of channels, windows,
where each file starts.

The Well's own reader takes them from files that it opens anew, as whatever types the files have.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from the_well.data.datasets import WellMetadata
from the_well.data.utils import raw_steps_to_possible_sample_t0s

from wavelit.data.format.layout import FileLayout
from wavelit.data.format.selection import channel_names
from wavelit.errors import WavelitError

__all__ = ["tables"]


def tables(
    layouts: Sequence[FileLayout],
    n_steps_input: int,
    n_steps_output: int,
    stride: int,
    whole: bool,
    first_target: int,
) -> dict[str, Any]:
    """The attributes that The Well's class sets on itself.

    Args:
        layouts: of the files of the split, in their order; they agree and are long enough.
        n_steps_input: frames of history.
        n_steps_output: frames of target.
        stride: frames from one to the next.
        whole: whether a sample is a whole trajectory, of the shortest one's length.
        first_target: then, the step at which its target starts, unless the history ends later.

    Returns:
        Name -> value; `metadata` among them.

    Raises:
        WavelitError: no step is left for the target.
    """
    first = layouts[0]
    trajectories = [layout.n_trajectories for layout in layouts]
    steps = [layout.n_steps for layout in layouts]
    windows = [
        raw_steps_to_possible_sample_t0s(n, n_steps_input, n_steps_output, stride) for n in steps
    ]
    offsets: Any = [
        0,
        *itertools.accumulate(n * w for n, w in zip(trajectories, windows, strict=True)),
    ]
    if whole:
        shortest = min(layouts, key=lambda layout: layout.n_steps)
        n_steps_output = (shortest.n_steps - max(n_steps_input * stride, first_target)) // stride
        if n_steps_output < 1:
            raise WavelitError(
                f"{shortest.path}: {shortest.n_steps} steps a trajectory, of which none is left "
                "for the target; lower n_steps_input, min_dt_stride or start_output_steps_at_t, or "
                "leave this file out"
            )
        windows, steps = [1] * len(layouts), [shortest.n_steps] * len(layouts)
        offsets = np.cumsum([0, *trajectories])
    names: dict[bool, dict[int, list[str]]] = {}
    for varying in (True, False):
        names[varying] = {
            order: [
                name
                for field in first.fields
                if field.order == order and field.time_varying == varying
                for name in channel_names(field, first.axes)
            ]
            for order in range(3)
        }
    kinds = sorted({boundary.kind for layout in layouts for boundary in layout.boundaries})
    scalars = (list(first.time_varying_scalars), list(first.scalars))
    metadata = WellMetadata(
        dataset_name=first.dataset_name,
        n_spatial_dims=len(first.axes),
        grid_type=layouts[-1].grid_type,
        spatial_resolution=first.resolution,
        scalar_names=scalars[0],
        constant_scalar_names=scalars[1],
        field_names=names[True],
        constant_field_names=names[False],
        boundary_condition_types=kinds,
        n_files=len(layouts),
        n_trajectories_per_file=trajectories,
        n_steps_per_trajectory=steps,
    )
    # The class counts from the end of the last file's windows; its first entry is -1 for its
    # search.
    length = int(offsets[-1])
    offsets[0] = -1
    return {
        "n_files": len(layouts),
        "n_trajectories_per_file": trajectories,
        "n_steps_per_trajectory": steps,
        "n_windows_per_trajectory": windows,
        "file_index_offsets": offsets,
        "n_steps_output": n_steps_output,
        "len": length,
        "scalar_names": scalars[0],
        "constant_scalar_names": scalars[1],
        "field_names": names[True],
        "constant_field_names": names[False],
        "core_field_names": [field.name for field in first.fields if field.time_varying],
        "core_constant_field_names": [
            field.name for field in first.fields if not field.time_varying
        ],
        "n_spatial_dims": len(first.axes),
        "size_tuple": first.resolution,
        "dataset_name": first.dataset_name,
        "num_bcs": len(kinds),
        "bc_types": kinds,
        "metadata": metadata,
    }
