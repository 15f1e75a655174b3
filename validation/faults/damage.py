"""Damaged content of a data file: names, dtypes, masks, attributes, dimensions, values.

Every function spoils one file of a valid dataset, sometimes all, as the generator decides, and says
what it did.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from validation.faults.samples import _names, hdf5_files, write_statistics

__all__ = ["CONTENT", "HOSTILE_NAMES", "choose", "pick"]

Rng = np.random.Generator

HOSTILE_NAMES: tuple[Any, ...] = (
    "x" * 4000,
    "\x1b[31mred\x1b[0m",
    "two\nlines",
    "tab\tbell\x07",
    "\u202eright to left",
    "a/b",
    "..",
    "../../escape",
    "",
    " ",
    "é ü 水",
    "all",
    "time",
    "name,with,comma",
    "null",
    "{curly}",
    "%s%n",
    "<b>bold</b>",
    b"\xff\xfe latin",
    b"caf\xe9",
    b"padded\x00\x00",
)


def choose(rng: Rng, values: Any) -> Any:
    """One of a sequence, whatever it holds."""
    return values[int(rng.integers(len(values)))]


def pick(rng: Rng, root: Path) -> list[Path]:
    """The files to spoil: mostly one, sometimes all."""
    files = hdf5_files(root)
    return files if rng.random() < 0.25 else [choose(rng, files)]


def _datasets(file: h5py.File) -> list[str]:
    found: list[str] = []
    file.visititems(
        lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None
    )
    return found


def _replace(file: h5py.File, name: str, data: Any, **options: Any) -> None:
    """Other data under the same name, with the attributes that were there."""
    kept = dict(file[name].attrs)
    del file[name]
    item = file.create_dataset(name, data=data, **options)
    for key, value in kept.items():
        item.attrs[key] = value


def _strings(rng: Rng, root: Path) -> str:
    name = choose(rng, HOSTILE_NAMES)
    where = choose(
        rng,
        ("field", "dataset_name", "grid_type", "bc_type", "axis", "parameter", "scalar", "dims"),
    )
    how = choose(rng, ("vlen", "fixed", "array", "empty"))
    if isinstance(name, str) and how != "vlen":
        name = name.encode() or b" "
    value = np.bytes_(name) if isinstance(name, bytes) else name
    if how == "array":
        value = np.array([name, name])
    elif how == "empty":
        value = h5py.Empty("S10")
    for path in pick(rng, root):
        with h5py.File(path, "r+") as file:
            if where in ("dataset_name", "grid_type"):
                file.attrs[where] = value
            elif where == "bc_type":
                next(iter(file["boundary_conditions"].values())).attrs[where] = value
            elif where == "dims":
                next(iter(file["boundary_conditions"].values())).attrs["associated_dims"] = value
            elif where == "parameter":
                file.attrs["simulation_parameters"] = value
            else:
                group, old = {"field": ("t0_fields", "density"), "axis": ("dimensions", "x")}.get(
                    where, ("scalars", "a")
                )
                key = "spatial_dims" if where == "axis" else "field_names"
                listed = [name if each == old else each for each in _names(file[group].attrs[key])]
                listed = [each.encode() if isinstance(each, str) else each for each in listed]
                file[group].attrs[key] = np.array(listed)
                with contextlib.suppress(ValueError, KeyError, RuntimeError):
                    file[group].move(old, name if isinstance(name, bytes) else name.encode())
    if rng.random() < 0.5:
        with contextlib.suppress(Exception):
            write_statistics(root)
    return f"{where} is {how} {name[:40]!r}"


def _dtypes(rng: Rng, root: Path) -> str:
    kinds: dict[str, Callable[[np.ndarray], Any]] = {
        "fixed strings": lambda a: a.astype("S8"),
        "vlen strings": lambda a: np.full(a.shape, "text", object),
        "vlen": lambda a: None,
        "compound": lambda a: a.astype([("re", "f4"), ("im", "f4")]),
        "complex64": lambda a: (a + 1j).astype(np.complex64),
        "complex of reals": lambda a: a.astype(np.complex128),
        "reference": lambda a: None,
        "bool": lambda a: a > np.mean(a),
        "float16": lambda a: a.astype(np.float16),
        "beyond float32": lambda a: a.astype(np.float64) * 1e300,
        "float64": lambda a: a.astype(np.float64) + 1e-9,
        "long double": lambda a: a.astype(np.longdouble),
        "int64": lambda a: (a * 1000).astype(np.int64) + 2**53 + 1,
        "int8": lambda a: a.astype(np.int8),
        "uint64": lambda a: np.full(a.shape, 2**64 - 1, np.uint64),
        "big endian f4": lambda a: a.astype(">f4"),
        "big endian f8": lambda a: a.astype(">f8"),
        "enum": lambda a: None,
        "opaque": lambda a: np.zeros(a.shape, "V4"),
        "array of pairs": lambda a: np.zeros(a.shape, np.dtype(("f4", (2,)))),
        "dates": lambda a: np.zeros(a.shape, "i8"),
    }
    kind = choose(rng, list(kinds))
    what = ""
    for path in pick(rng, root):
        with h5py.File(path, "r+") as file:
            what = what or choose(rng, _datasets(file))
            old = np.asarray(file[what][()])
            new = kinds[kind](old.astype(np.float32))
            if kind == "vlen":
                dtype = h5py.vlen_dtype(np.float32)
                new = np.empty(old.shape, object)
                for index in np.ndindex(old.shape):
                    new[index] = np.ones(3, np.float32)
                _replace(
                    file, what, new if old.ndim else np.zeros(()), dtype=dtype if old.ndim else None
                )
            elif kind == "reference":
                new = np.full(old.shape, file["dimensions"].ref, object)
                _replace(file, what, new, dtype=h5py.ref_dtype)
            elif kind == "enum":
                _replace(
                    file,
                    what,
                    old.astype("i4") % 2,
                    dtype=h5py.enum_dtype({"NO": 0, "YES": 1}, "i4"),
                )
            elif kind == "vlen strings":
                _replace(file, what, new, dtype=h5py.string_dtype())
            else:
                _replace(file, what, new)
    return f"{what} as {kind}"


def _masks(rng: Rng, root: Path) -> str:
    what = choose(
        rng,
        ("group", "missing", "empty", "long", "short", "2-D", "scalar", "all false", "all true",
        "float", "nan",
         "ints", "strings", "dataset", "no members", "extra axis", "unknown type", "twice",
         "time", "numbers"),
    )  # fmt: skip
    for path in pick(rng, root):
        with h5py.File(path, "r+") as file:
            sides = file["boundary_conditions"]
            name = choose(rng, list(sides))
            side = sides[name]
            n = len(side["mask"])
            masks: dict[str, Any] = {
                "empty": np.zeros(0, bool),
                "long": np.ones(n + 3, bool),
                "short": np.ones(max(1, n - 3), bool),
                "2-D": np.ones((n, n), bool),
                "scalar": True,
                "all false": np.zeros(n, bool),
                "all true": np.ones(n, bool),
                "float": np.linspace(0, 1, n),
                "nan": np.full(n, np.nan),
                "ints": np.arange(n) * 10**12,
                "strings": np.full(n, b"yes"),
            }
            if what in masks:
                _replace(file, f"boundary_conditions/{name}/mask", masks[what])
            elif what == "group":
                del side["mask"]
                side.create_group("mask")
            elif what == "missing":
                del side["mask"]
            elif what == "dataset":
                del sides[name]
                sides[name] = np.ones(n)
            elif what == "no members":
                for each in list(sides):
                    del sides[each]
            elif what == "extra axis":
                side.attrs["associated_dims"] = choose(
                    rng, (["x", "q"], ["q"], [], ["x", "x"], [3], 7)
                )
            elif what == "unknown type":
                side.attrs["bc_type"] = choose(
                    rng, ("DIRICHLET", 3, ["WALL", "OPEN"], np.nan, h5py.Empty("S4"))
                )
            elif what == "twice":
                sides.copy(name, "again")
                sides["again"].attrs["bc_type"] = choose(rng, ("OPEN", "PERIODIC", "WALL"))
            else:
                side.attrs[choose(rng, ("time_varying", "sample_varying"))] = choose(
                    rng, (True, 3, "yes", [True])
                )
    return f"boundary mask: {what}"


def _attributes(rng: Rng, root: Path) -> str:
    values: tuple[Any, ...] = (
        [1, 2, 3], "text", np.nan, np.inf, -1, 0, 10**9, 2**62, -(2**62), True, 1.5, "", [],
        h5py.Empty("f4"),
        np.zeros((3, 3)), b"\xff\xfe", 1 + 2j, "2", np.array(["a", "b"], "S1"), np.array([None,
        None], h5py.ref_dtype),
    )  # fmt: skip
    where = choose(
        rng, ("", "dimensions", "t0_fields", "t1_fields", "scalars", "t0_fields/density",
        "t1_fields/velocity",
              "t0_fields/mask", "scalars/a", "scalars/nu", "dimensions/time", "dimensions/x"),
    )  # fmt: skip
    what, value, missing = "", choose(rng, values), rng.random() < 0.25
    for path in pick(rng, root):
        with h5py.File(path, "r+") as file:
            item = file[where] if where else file
            what = what or choose(rng, list(item.attrs))
            if missing:
                del item.attrs[what]
            else:
                with contextlib.suppress(TypeError, ValueError, OSError):
                    item.attrs[what] = value
    return f"attribute {where}@{what} {'missing' if missing else repr(value)[:40]}"


def _dimensions(rng: Rng, root: Path) -> str:
    name = choose(rng, ("time", "time", "x"))
    what = choose(
        rng, ("reversed", "nan", "repeated", "unsorted", "huge", "tiny", "long", "short", "rows",
        "cube", "scalar",
              "empty", "strings", "group", "97 points", "1 point", "constant", "inf"),
    )  # fmt: skip
    for path in hdf5_files(root) if what in ("97 points", "1 point") else pick(rng, root):
        with h5py.File(path, "r+") as file:
            if what in ("97 points", "1 point"):
                _regrid(file, 97 if what[0] == "9" else 1)
                continue
            line = np.asarray(file["dimensions"][name][()], np.float64)
            n = len(line)
            changed: dict[str, Any] = {
                "reversed": line[::-1],
                "nan": np.where(np.arange(n) == n // 2, np.nan, line),
                "inf": np.where(np.arange(n) == n // 2, np.inf, line),
                "repeated": np.repeat(line, 2)[:n],
                "unsorted": rng.permutation(line),
                "huge": line * 1e300,
                "tiny": line * 1e-320,
                "long": np.arange(n + 2.0),
                "short": line[: n - 2],
                "rows": np.stack([line] * choose(rng, (1, 2, 3))),
                "cube": np.zeros((2, 2, n)),
                "scalar": 1.0,
                "empty": np.zeros(0),
                "strings": np.full(n, b"one"),
                "constant": np.zeros(n),
            }
            if what == "group":
                del file["dimensions"][name]
                file["dimensions"].create_group(name)
                continue
            _replace(file, f"dimensions/{name}", changed[what])
            if what == "rows" and rng.random() < 0.5:
                file["dimensions"][name].attrs["sample_varying"] = True
    if what in ("97 points", "1 point"):
        write_statistics(root)
    return f"dimension {name}: {what}"


def _regrid(file: h5py.File, n: int) -> None:
    """Another number of points along the first axis, everywhere."""
    for group in ("t0_fields", "t1_fields", "t2_fields"):
        for name in list(file[group]):
            item = file[group][name]
            if not item.attrs["dim_varying"][0]:
                continue
            axis = int(item.attrs["sample_varying"]) + int(item.attrs["time_varying"])
            moved = np.moveaxis(item[()], axis, 0)
            moved = np.moveaxis(np.resize(moved, (n, *moved.shape[1:])), 0, axis)
            _replace(file, f"{group}/{name}", moved)
    _replace(file, "dimensions/x", np.arange(n, dtype=np.float32) / n)
    mask = np.zeros(n, bool)
    mask[[0, -1]] = True
    _replace(file, "boundary_conditions/x_periodic/mask", mask)


def _values(rng: Rng, root: Path) -> str:
    what = choose(
        rng,
        (
            "t0_fields/density",
            "t1_fields/velocity",
            "t0_fields/mask",
            "t0_fields/depth",
            "scalars/a",
            "scalars/nu",
        ),
    )
    how = choose(
        rng,
        (
            "nan",
            "inf",
            "-inf",
            "all nan",
            "constant",
            "zero",
            "huge",
            "denormal",
            "negative",
            "nan under mask",
            "jump",
        ),
    )
    for path in pick(rng, root):
        with h5py.File(path, "r+") as file:
            values = np.array(file[what][()], np.float32)
            flat = values.reshape(-1)
            place = int(rng.integers(flat.size))
            if how in ("nan", "inf", "-inf"):
                flat[place] = float(how)
            elif how == "nan under mask" and values.ndim >= 3:
                values[:, :, 0] = np.nan
            elif how == "jump":
                flat[: flat.size // 2] += 1e6
            else:
                scale = {
                    "all nan": np.nan,
                    "zero": 0.0,
                    "huge": 3e38,
                    "denormal": 1e-44,
                    "negative": -1.0,
                }
                flat[:] = flat[0] if how == "constant" else flat * scale.get(how, np.nan)
            file[what][...] = values
    if rng.random() < 0.4:
        with contextlib.suppress(Exception), np.errstate(all="ignore"):
            write_statistics(root)
    return f"values of {what}: {how}"


CONTENT: dict[str, Callable[[Rng, Path], str]] = {
    "strings": _strings,
    "dtypes": _dtypes,
    "boundary masks": _masks,
    "attributes": _attributes,
    "dimensions": _dimensions,
    "values": _values,
}
