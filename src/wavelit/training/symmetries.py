"""Symmetries of a system as data: each training window is shifted, reflected or turned before the
model sees it, which the equations do not notice and the model has to learn.

    shift      by any number of cells along every periodic axis
    flip:x     x to -x, with the x components of vectors and matrices; both sides of the axis must
               have the same boundary
    swap:xy    x for y; both axes must have the same points, spacing and boundaries

A field in parentheses, flip:y(buoyancy), turns round about its mean in the training data as well.
Several stand with commas between them. Each sample draws its own: every shift alike, of flips and
swaps each with probability one half. Constant fields and masks move with the others.

Which of them hold is for the physics to say: `wavelit.evaluation.symmetry` compares errors on
transformed data.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wavelit.checks.arguments import listed, shown
from wavelit.data.batch import Batch, inside
from wavelit.data.datamodule import WellDataModule
from wavelit.data.format.layout import FieldLayout
from wavelit.data.signature import cell_spacing
from wavelit.errors import WavelitError, printable

__all__ = ["Symmetries", "Symmetry", "read_symmetries", "symmetries_of"]

SPELLING = re.compile(r"(shift|flip|swap)(?::([^()]+))?(?:\(([^()]*)\))?")
# Spacings that are the same but for how they were rounded.
SAME = 1e-4


@dataclass(frozen=True)
class Symmetry:
    """One of them.

    Args:
        kind: shift, flip or swap.
        axes: What follows the colon.
        turned: Fields whose sign changes too, about their mean.
    """

    kind: str
    axes: str = ""
    turned: tuple[str, ...] = ()

    def __str__(self) -> str:
        axes = f":{self.axes}" if self.axes else ""
        return f"{self.kind}{axes}" + (f"({' '.join(self.turned)})" if self.turned else "")


def read_symmetries(text: str) -> tuple[Symmetry, ...]:
    """The symmetries of a recipe, none of an empty text.

    Raises:
        WavelitError: One that is not spelled as above, or comes twice.
    """
    found: list[Symmetry] = []
    for word in text.split(",") if text.strip() else ():
        match = SPELLING.fullmatch(word.strip())
        kind, axes, turned = match.groups() if match else ("", None, None)
        if match is None or (kind == "shift") != (axes is None) or (axes is None and turned):
            raise WavelitError(
                f"symmetries: unknown {shown(word.strip())}; shift, flip:x, flip:y(field that "
                "turns round) and swap:xy are known, with commas between them"
            )
        found.append(Symmetry(kind, axes or "", tuple((turned or "").split())))
    if len({(each.kind, each.axes) for each in found}) < len(found):
        raise WavelitError(f"symmetries: one of {shown(text)} comes twice; leave it out once")
    return tuple(found)


def symmetries_of(text: str, data: WellDataModule) -> Symmetries | None:
    """The symmetries that a recipe names, of a dataset; None if it names none."""
    found = read_symmetries(text)
    return Symmetries(found, data) if found else None


class Symmetries:
    """Symmetries of a dataset, ready to be applied to its batches.

    Args:
        symmetries: Which.
        data: The dataset.

    Raises:
        WavelitError: The boundaries, points, spacing, axes or fields of the dataset do not have
            one of them, or it has forcings.
    """

    def __init__(self, symmetries: Sequence[Symmetry], data: WellDataModule) -> None:
        dataset = data.train_dataset
        layout = dataset.layouts[0]
        self.symmetries = tuple(symmetries)
        self.axes = layout.axes
        self.spatial = len(self.axes)
        self.periodic = [
            axis for axis, sides in enumerate(data.boundary_conditions) if sides[0] == "periodic"
        ]
        if dataset.forced is not None or dataset.forcing_scalars:
            raise WavelitError(
                "symmetries: the dataset has forcings, which would have to move with its fields: "
                "leave symmetries out"
            )
        self._fields = _laws(layout.fields, True, self.spatial)
        self._constants = _laws(layout.fields, False, self.spatial)
        names = data.field_names
        self._mean = dict(zip(names, data.statistics.mean, strict=True))
        for symmetry in self.symmetries:
            if strange := [name for name in symmetry.turned if name not in names]:
                raise WavelitError(
                    f"symmetries: {symmetry} names {shown(strange[0])}, which is none of the "
                    f"fields {listed(names)}"
                )
            self._require(symmetry, data)
        self._names = list(names)
        # Of every flip and swap, made once: each sample of a step is moved by them.
        self._made = {
            symmetry: (
                self._channels(symmetry, self._fields, symmetry.turned),
                self._channels(symmetry, self._constants, ()),
            )
            for symmetry in self.symmetries
            if symmetry.kind != "shift"
        }
        self._placed: dict[tuple[Symmetry, torch.device], Any] = {}

    def _require(self, symmetry: Symmetry, data: WellDataModule) -> None:
        sides, grid = data.boundary_conditions, data.metadata.spatial_resolution
        if symmetry.kind == "shift":
            if not self.periodic:
                raise WavelitError("symmetries: shift needs a periodic axis, and there is none")
            return
        numbers = self._numbers(symmetry)
        if symmetry.kind == "flip":
            low, high = sides[numbers[0]]
            if low != high:
                raise WavelitError(
                    f"symmetries: {symmetry} would exchange the boundaries of axis "
                    f"{symmetry.axes}, {low} and {high}: leave it out"
                )
            return
        first, second = numbers
        spacing = [_spacing(data, axis) for axis in numbers]
        if (
            sides[first] != sides[second]
            or grid[first] != grid[second]
            or abs(spacing[0] - spacing[1]) > SAME * spacing[0]
        ):
            raise WavelitError(
                f"symmetries: {symmetry} needs two axes of the same points, spacing and "
                f"boundaries, not {grid[first]} and {grid[second]} points, {spacing[0]:.4g} and "
                f"{spacing[1]:.4g} apart, {sides[first]} and {sides[second]}: leave it out"
            )

    def _numbers(self, symmetry: Symmetry) -> list[int]:
        """The axes of a flip or swap by number."""
        names = [symmetry.axes] if symmetry.kind == "flip" else _two(symmetry.axes, self.axes)
        if not names or any(name not in self.axes for name in names):
            due = "one of" if symmetry.kind == "flip" else "two of"
            raise WavelitError(
                f"symmetries: {shown(symmetry.axes)} in {symmetry} is not {due} the axes "
                f"{listed(self.axes)}"
            )
        return [self.axes.index(name) for name in names]

    def draw(self, batch: Batch, random: np.random.Generator) -> Batch:
        """A batch whose every sample has been moved by its own draw."""
        samples = []
        for number in range(len(batch.fields)):
            sample = Batch(*(None if x is None else x[number : number + 1] for x in batch))  # type: ignore[arg-type]
            for symmetry in self.symmetries:
                if symmetry.kind == "shift":
                    grid = batch.fields.shape[-self.spatial :]
                    cells = [int(random.integers(grid[axis])) for axis in self.periodic]
                    sample = self.shifted(sample, cells)
                elif random.random() < 0.5:
                    sample = self.moved(sample, symmetry)
            samples.append(sample)
        joined: list[Any] = [
            None if parts[0] is None else torch.cat(parts) for parts in zip(*samples, strict=True)
        ]
        return Batch(*joined)

    def shifted(self, batch: Batch, cells: Sequence[int]) -> Batch:
        """A batch rolled by so many cells along each periodic axis."""
        dims = [axis - self.spatial for axis in self.periodic]

        def move(x: Tensor | None) -> Tensor | None:
            return None if x is None else x.roll(tuple(cells), dims)

        return self._each(batch, move, move, move)

    def moved(self, batch: Batch, symmetry: Symmetry) -> Batch:
        """A batch after a flip or swap."""
        numbers = self._numbers(symmetry)
        dims = [axis - self.spatial for axis in numbers]

        def cells(x: Tensor | None) -> Tensor | None:
            if x is None:
                return None
            return x.flip(dims) if symmetry.kind == "flip" else x.transpose(*dims)

        def of(order: list[int], sign: Tensor, mean: Tensor) -> Any:
            def move(x: Tensor | None) -> Tensor | None:
                if (x := cells(x)) is None:
                    return None
                x = torch.stack([x.select(-self.spatial - 1, n) for n in order], -self.spatial - 1)
                return sign.to(x) * x + 2 * mean.to(x)

            return move

        fields, constants = self._on(symmetry, batch.fields.device)
        valid = cells(batch.valid)

        def states(x: Tensor) -> Tensor:
            x = of(*fields)(x)
            # A field turns about its mean, cells that do not count stay zero.
            return inside(x, valid) if symmetry.turned else x

        return self._each(batch, states, of(*constants), lambda _: valid)

    def _on(self, symmetry: Symmetry, device: torch.device) -> Any:
        """What `_channels` found of fields and constants, on a device: a copy from the processor
        would wait for it at every sample.
        """
        if (symmetry, device) not in self._placed:
            self._placed[symmetry, device] = [
                (order, sign.to(device), mean.to(device))
                for order, sign, mean in self._made[symmetry]
            ]
        return self._placed[symmetry, device]

    def _channels(
        self, symmetry: Symmetry, laws: list[tuple[int, ...]], turned: Sequence[str]
    ) -> tuple[list[int], Tensor, Tensor]:
        """Which channel comes where, its sign, and the mean that it turns about, (C, 1, ...)."""
        numbers = self._numbers(symmetry)
        if symmetry.kind == "flip":
            order = list(range(len(laws)))
            signs = [(-1.0) ** law.count(numbers[0]) for law in laws]
        else:
            order, signs = self._permuted(laws, *numbers), [1.0] * len(laws)
        means = [0.0] * len(laws)
        for name in turned:
            place = self._names.index(name)
            signs[place], means[place] = -signs[place], self._mean[name]
        line = (-1, *(1,) * self.spatial)
        return order, torch.tensor(signs).view(line), torch.tensor(means).view(line)

    @staticmethod
    def _each(batch: Batch, fields: Any, constants: Any, mask: Any) -> Batch:
        return batch._replace(
            fields=fields(batch.fields),
            target=fields(batch.target),
            constants=constants(batch.constants),
            valid=mask(batch.valid),
        )

    def _permuted(self, laws: list[tuple[int, ...]], first: int, second: int) -> list[int]:
        """Which channel takes the place of which when two axes are exchanged."""
        exchanged = {first: second, second: first}
        order, start = [], 0
        while start < len(laws):
            # The components of one field stand together and are all the combinations of axes.
            n = self.spatial ** len(laws[start])
            block = laws[start : start + n]
            wanted = [tuple(exchanged.get(axis, axis) for axis in law) for law in block]
            if len(block) < n or any(law not in block for law in wanted):
                raise WavelitError(
                    "symmetries: swap needs all components of a vector field; give them all to "
                    "the data, or leave it out"
                )
            order += [start + block.index(law) for law in wanted]
            start += n
        return order


def _laws(fields: Sequence[FieldLayout], time_varying: bool, spatial: int) -> list[tuple[int, ...]]:
    """For every channel the axes that it is a component along."""
    found: list[tuple[int, ...]] = []
    for field in fields:
        if field.time_varying == time_varying:
            shape = (spatial,) * field.order
            found += [(*field.component, *map(int, along)) for along in np.ndindex(*shape)]
    return found


def _two(text: str, axes: Sequence[str]) -> list[str]:
    """The two axes whose names a text is made of."""
    return next(([a, b] for a in axes for b in axes if a != b and a + b == text), [])


def _spacing(data: WellDataModule, axis: int) -> float:
    spacing = cell_spacing(data.train_dataset)
    if spacing is None:
        raise WavelitError(
            f"symmetries: {printable(data.path)} does not say its spacing, which a swap needs"
        )
    return spacing[axis]
