"""Damaged storage of a data file: compressed chunks, sizes, links, bytes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from validation.faults.damage import Rng, _replace, choose, pick
from validation.faults.samples import SPECIAL, hdf5_files

__all__ = ["STORAGE"]

FIELDS = ("t0_fields/density", "t1_fields/velocity", "t0_fields/mask")


def _chunks(rng: Rng, root: Path) -> str:
    what = choose(rng, FIELDS)
    how = choose(
        rng, ("flipped", "flipped", "zeros", "cut", "unknown filter", "missing chunk", "checksum")
    )
    for path in pick(rng, root):
        with h5py.File(path, "r+") as file:
            options = {
                "chunks": file[what].shape,
                "compression": "gzip",
                "fletcher32": how == "checksum",
            }
            _replace(file, what, file[what][()], **options)
            item = file[what].id
            if how == "missing chunk":
                kept, shape = dict(file[what].attrs), file[what].shape
                del file[what]
                new = file.create_dataset(what, shape, "f4", **options)
                for key, value in kept.items():
                    new.attrs[key] = value
                continue
            if how == "unknown filter":
                kept, values = dict(file[what].attrs), file[what][()]
                del file[what]
                plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
                plist.set_chunk(values.shape)
                plist.set_filter(32000, h5py.h5z.FLAG_OPTIONAL, (1,))
                parent, name = what.split("/")
                space = h5py.h5s.create_simple(values.shape)
                made = h5py.h5d.create(
                    file[parent].id, name.encode(), h5py.h5t.IEEE_F32LE, space, plist
                )
                # A chunk said to have passed the filter, which nobody has.
                made.write_direct_chunk((0,) * values.ndim, values.astype("f4").tobytes(), 0)
                for key, value in kept.items():
                    file[what].attrs[key] = value
                continue
            start = item.get_chunk_info(0)
        with path.open("r+b") as stream:
            size = start.size // 2 if how == "cut" else start.size
            stream.seek(start.byte_offset)
            block = bytearray(stream.read(start.size))
            if how in ("zeros", "cut"):
                block[start.size - size if how == "cut" else 0 :] = bytes(size)
            for _ in range(5 if how in ("flipped", "checksum") else 0):
                block[int(rng.integers(len(block)))] ^= int(rng.integers(1, 256))
            stream.seek(start.byte_offset)
            stream.write(block)
    return f"chunk of {what}: {how}"


def _sizes(rng: Rng, root: Path) -> str:
    what = choose(
        rng, ("no trajectories", "no steps", "no points", "many trajectories", "huge mask",
        "endless field",
              "huge field", "one step", "huge scalar", "huge time", "negative trajectories",
              "many fields"),
    )  # fmt: skip
    for path in pick(rng, root):
        with h5py.File(path, "r+") as file:
            spatial = int(file.attrs["n_spatial_dims"])
            if what in ("no trajectories", "no steps", "one step"):
                axis, n = {"no trajectories": (0, 0), "no steps": (1, 0), "one step": (1, 1)}[what]
                for name in (
                    "t0_fields/density",
                    "t1_fields/velocity",
                    *(["t2_fields/stress"] if spatial == 2 else []),
                ):
                    _replace(file, name, np.take(file[name][()], range(n), axis))
                if axis == 0:
                    file.attrs["n_trajectories"] = 0
                    _replace(file, "scalars/a", np.zeros(0, np.float32))
                else:
                    _replace(file, "dimensions/time", np.zeros(n, np.float32))
            elif what == "no points":
                _replace(file, "dimensions/x", np.zeros(0, np.float32))
            elif what == "many trajectories":
                file.attrs["n_trajectories"] = 10**9
                if rng.random() < 0.5:
                    _unwritten(file, "scalars/a", (10**9,))
                    for name in ("t0_fields/density", "t1_fields/velocity"):
                        _unwritten(file, name, (10**9, *file[name].shape[1:]))
            elif what == "negative trajectories":
                file.attrs["n_trajectories"] = -2
            elif what == "huge mask":
                name = choose(rng, list(file["boundary_conditions"]))
                _unwritten(file, f"boundary_conditions/{name}/mask", (2 * 10**10,), "?")
            elif what in ("endless field", "huge field"):
                # Nothing is stored: reading gives zeros without end.
                n = 3 * 10**9 if what == "endless field" else 10**12
                cells = file["t0_fields/density"].shape[2:]
                steps = max(1, n // (4 * 2 * int(np.prod(cells))))
                _unwritten(file, "dimensions/time", (steps,))
                for name in (
                    "t0_fields/density",
                    "t1_fields/velocity",
                    *(["t2_fields/stress"] if spatial == 2 else []),
                ):
                    _unwritten(file, name, (2, steps, *file[name].shape[2:]))
            elif what == "huge scalar":
                _unwritten(file, choose(rng, ("scalars/nu", "scalars/a")), (10**9, 4))
            elif what == "huge time":
                _unwritten(file, "dimensions/time", (10**10,))
            else:
                group = file["t0_fields"]
                for number in range(200):
                    group[f"f{number}"] = group["density"]
                listed = [*group.attrs["field_names"], *(f"f{number}" for number in range(200))]
                group.attrs["field_names"] = np.array([str(name) for name in listed], "S12")
    return f"size: {what}"


def _unwritten(file: h5py.File, name: str, shape: tuple[int, ...], dtype: str = "f4") -> None:
    kept = dict(file[name].attrs)
    del file[name]
    item = file.create_dataset(name, shape, dtype)
    for key, value in kept.items():
        item.attrs[key] = value


def _links(rng: Rng, root: Path) -> str:
    where = choose(
        rng,
        (*FIELDS, "dimensions/time", "scalars/a", "scalars", "t0_fields", "boundary_conditions"),
    )
    how = choose(
        rng, ("soft", "dangling", "external", "dangling external", "loop", "group loop",
        "virtual", "dangling virtual",
              "external storage", "dangling storage", "hard", "device", "itself"),
    )  # fmt: skip
    if how in ("virtual", "dangling virtual", "external storage", "dangling storage", "device"):
        where = choose(rng, FIELDS)
    for path in pick(rng, root):
        other = path.with_name("other.h5x")
        with h5py.File(path, "r+") as file:
            if how in ("soft", "hard"):
                file.move(where, "elsewhere")
                file[where] = h5py.SoftLink("/elsewhere") if how == "soft" else file["elsewhere"]
                continue
            if how == "group loop":
                file[where if "/" not in where else where.split("/")[0]]["loop"] = file["/"]
                continue
            shutil.copy(path, other)
            kept = dict(file[where].attrs)
            shape = file[where].shape if isinstance(file[where], h5py.Dataset) else ()
            values = file[where][()] if shape else None
            del file[where]
            if how == "dangling":
                file[where] = h5py.SoftLink("/nowhere")
            elif how == "external":
                file[where] = h5py.ExternalLink(other.name, f"/{where}")
            elif how == "dangling external":
                file[where] = h5py.ExternalLink(
                    choose(rng, ("gone.h5", "/dev/zero", "/etc/passwd", ".")), f"/{where}"
                )
            elif how in ("loop", "itself"):
                file[where] = h5py.SoftLink(f"/{where}") if how == "itself" else h5py.SoftLink("/b")
                file["b"] = h5py.SoftLink(f"/{where}")
            elif "virtual" in how:
                layout = h5py.VirtualLayout(shape, "f4")
                source = other.name if how == "virtual" else "gone.h5"
                layout[...] = h5py.VirtualSource(source, where, shape)
                file.create_virtual_dataset(where, layout)
            else:
                raw = (
                    path.with_name("values.bin") if how == "external storage" else Path("/dev/zero")
                )
                if how == "external storage":
                    raw.write_bytes(np.asarray(values, "f4").tobytes())
                elif how == "dangling storage":
                    raw = path.with_name("gone.bin")
                file.create_dataset(
                    where, shape, "f4", external=[(str(raw), 0, h5py.h5f.UNLIMITED)]
                )
            if where in file and how in (
                "virtual",
                "dangling virtual",
                "external storage",
                "dangling storage",
                "device",
            ):
                for key, value in kept.items():
                    file[where].attrs[key] = value
    return f"{where}: {how} link"


def _bytes(rng: Rng, root: Path) -> str:
    how = choose(
        rng, ("flips", "flips", "flips", "header", "truncated", "truncated", "empty", "fifo",
        "folder", "link loop",
              "text", "dangling link", "grown", "unreadable", "zeros", "device"),
    )  # fmt: skip
    for path in pick(rng, root):
        data = bytearray(path.read_bytes())
        if how in ("flips", "header"):
            last = len(data) if how == "flips" else min(len(data), 2048)
            for _ in range(int(rng.integers(1, 40))):
                data[int(rng.integers(last))] ^= 1 << int(rng.integers(8))
            path.write_bytes(data)
            continue
        if how in ("truncated", "grown", "zeros"):
            at = int(rng.integers(1, len(data)))
            tail = {
                "truncated": b"",
                "grown": bytes(data[at:]) + b"x" * 1000,
                "zeros": bytes(len(data) - at),
            }
            path.write_bytes(bytes(data[:at]) + tail[how])
            continue
        path.unlink()
        special = "loop" if how == "link loop" else how
        if special in SPECIAL:
            SPECIAL[special](path)
        elif how == "text":
            path.write_text(
                "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12345\n"
            )
        elif how == "dangling link":
            path.symlink_to(root / "gone.hdf5")
        elif how == "device":
            path.symlink_to("/dev/zero")
        else:
            path.write_bytes(data)
            path.chmod(0)
    return f"bytes: {how}"


def _folders(rng: Rng, root: Path) -> str:
    """Folders rather than files: splits that are missing, empty, links, files."""
    how = choose(
        rng,
        (
            "no split",
            "empty split",
            "file for split",
            "loop",
            "no data",
            "fifo for split",
            "odd file",
        ),
    )
    split = root / "data" / choose(rng, ("train", "valid", "test"))
    if how == "odd file":
        shutil.copy(
            hdf5_files(root)[0],
            split / choose(rng, ("b[1].hdf5", "\x1b[31m.hdf5", "a*.hdf5", "é.h5", "-.h5")),
        )
        return f"folder: {how}"
    shutil.rmtree(root / "data" if how == "no data" else split)
    # Without data, or without the split, nothing takes its place.
    special = {
        "empty split": "folder",
        "file for split": "empty",
        "loop": "loop",
        "fifo for split": "fifo",
    }
    if how in special:
        SPECIAL[special[how]](split)
    return f"folder: {split.name} {how}"


STORAGE: dict[str, Callable[[Rng, Path], str]] = {
    "chunks": _chunks,
    "sizes": _sizes,
    "links": _links,
    "bytes": _bytes,
    "folders": _folders,
}
