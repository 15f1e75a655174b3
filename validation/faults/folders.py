"""Damaged statistics, run folders and configurations; those that could execute something would
touch a flag.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from validation.faults.damage import HOSTILE_NAMES, Rng, choose
from validation.faults.samples import SPECIAL

__all__ = ["spoil_configuration", "spoil_run", "spoil_statistics"]

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
DEEP = "[" * 20000 + "]" * 20000
TEXTS: tuple[bytes, ...] = (
    BOMB.encode(),
    DEEP.encode(),
    b"\xff\xfe\x00\x00 not utf-8 \x80",
    b"- a\n- list\n",
    b"null\n",
    b"[]",
    b"{}",
    b"",
    b"3",
    b'"text"',
    b"a: [1, 2\n",
    b"\x00" * 100,
    b"? {a: b}\n: c\n",
    b"1e999: nan\n",
    b"a: 1\na: 2\n",
    b"<<: [x]\n",
    b"mean: *unknown\n",
)


def tag(flag: Path) -> bytes:
    """YAML that runs a command in a loader that allows it."""
    return f'!!python/object/apply:os.system ["touch {flag}"]\n'.encode()


class _Payload:
    def __init__(self, flag: Path) -> None:
        self.flag = flag

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.flag}",)


def _special(rng: Rng, path: Path) -> str:
    """What is no regular file in its place."""
    how = choose(rng, ("fifo", "folder", "loop", "missing", "empty", "unreadable"))
    if path.is_file() or path.is_symlink():
        path.unlink()
    if how in SPECIAL:
        SPECIAL[how](path)
    elif how == "unreadable":
        path.touch(0)
    return how


def _flip(rng: Rng, path: Path) -> str:
    data = bytearray(path.read_bytes())
    # Headers say more than bulk does.
    last = len(data) if rng.random() < 0.5 else min(len(data), 600)
    n = int(rng.integers(1, 20))
    for _ in range(n):
        data[int(rng.integers(last))] ^= 1 << int(rng.integers(8))
    path.write_bytes(data)
    return f"{n} flipped bits"


def spoil_statistics(rng: Rng, root: Path, flag: Path) -> str:
    path = root / "stats.yaml"
    table = yaml.safe_load(path.read_text())
    how = choose(
        rng, ("text", "tag", "special", "entry", "entry", "entry", "missing", "missing", "flip")
    )
    if how == "text":
        text = choose(rng, TEXTS)
        path.write_bytes(text)
        return f"stats.yaml: {text[:20]!r}"
    if how == "tag":
        path.write_bytes(tag(flag))
    elif how == "special":
        return f"stats.yaml: {_special(rng, path)}"
    elif how == "flip":
        return f"stats.yaml: {_flip(rng, path)}"
    else:
        key = choose(rng, list(table))
        name = choose(rng, list(table[key]))
        values = (
            0.0,
            -1.0,
            float("nan"),
            float("inf"),
            "text",
            None,
            [],
            [1, 2, 3],
            {"a": 1},
            1e308,
            1e-320,
            True,
            10**400,
            "1.0",
            [[0.5]],
            [None],
        )
        value = choose(rng, values)
        if how == "missing":
            if rng.random() < 0.3:
                del table[key]
            else:
                del table[key][name]
        else:
            table[key][name] = value
        path.write_text(yaml.safe_dump(table))
        return f"stats.yaml: {key} of {name} {how} {'' if how == 'missing' else repr(value)[:30]}"
    return f"stats.yaml: {how}"


def spoil_run(rng: Rng, run: Path, flag: Path) -> str:
    """One file of a run folder."""
    names = (
        "config.yaml",
        "config.yaml",
        "model.json",
        "fields.json",
        "environment.json",
        "logs/metrics.csv",
        "weights/config.json",
        "weights/model.safetensors",
        "checkpoints/last.ckpt",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
    )
    name = choose(rng, [each for each in names if (run / each).exists()])
    path = run / name
    if rng.random() < 0.15:
        return f"{name}: {_special(rng, path)}"
    if rng.random() < 0.15:
        return f"{name}: {_flip(rng, path)}"
    if path.suffix in (".yaml", ".json"):
        return f"{name}: {_entry(rng, path, flag)}"
    if path.suffix == ".csv":
        text = choose(
            rng,
            ("", "step\n", "step,train_loss\nx,y\n", "a,b\n1,2\n", "\x00", "step\n" + "1," * 1000),
        )
        path.write_text(text)
        return f"{name}: {text[:20]!r}"
    if path.suffix == ".safetensors":
        return f"{name}: {_weights(rng, path)}"
    return f"{name}: {_checkpoint(rng, path, flag)}"


def _entry(rng: Rng, path: Path, flag: Path) -> str:
    """Other text, or one other value, or one that is missing or unknown."""
    draw = rng.random()
    if draw < 0.35:
        text = choose(rng, (*TEXTS, tag(flag)))
        path.write_bytes(text)
        return repr(text[:20])
    load, dump = (
        (yaml.safe_load, yaml.safe_dump) if path.suffix == ".yaml" else (json.loads, json.dumps)
    )
    table = load(path.read_text())
    part = table
    nested = [value for value in table.values() if isinstance(value, dict)]
    if nested and rng.random() < 0.7:
        part = choose(rng, nested)
    key = choose(rng, list(part))
    values = (
        None,
        -1,
        0,
        10**9,
        1e308,
        float("nan"),
        "text",
        "../..",
        [],
        {},
        [1],
        True,
        1.5,
        "\x1b[31m",
        "x" * 4000,
        {"class_path": "os.system", "init_args": {"command": f"touch {flag}"}},
    )
    value = choose(rng, values)
    if draw < 0.5:
        del part[key]
        path.write_text(dump(table))
        return f"{key} missing"
    if draw < 0.6:
        key = str(choose(rng, HOSTILE_NAMES))
    part[key] = value
    path.write_text(dump(table))
    return f"{key[:40]!r} = {repr(value)[:40]}"


def _weights(rng: Rng, path: Path) -> str:
    from safetensors.numpy import load_file, save_file

    how = choose(
        rng,
        (
            "nan",
            "inf",
            "missing",
            "shape",
            "dtype",
            "cut",
            "header",
            "extra",
            "text",
            "huge header",
        ),
    )
    data = path.read_bytes()
    if how in ("cut", "header", "text", "huge header"):
        length = int.from_bytes(data[:8], "little")
        texts = {
            "cut": data[: int(rng.integers(len(data)))],
            "header": (len(data) * 2).to_bytes(8, "little") + data[8:],
            "huge header": (2**62).to_bytes(8, "little") + data[8:],
            "text": data[:8] + b"[" * length + data[8 + length :],
        }
        path.write_bytes(texts[how])
        return how
    weights = load_file(path)
    name = choose(rng, sorted(weights))
    if how in ("nan", "inf") and weights[name].dtype.kind == "f":
        weights[name] = np.full_like(weights[name], float(how))
    elif how == "missing":
        del weights[name]
    elif how == "shape":
        weights[name] = np.zeros((*weights[name].shape, 2), weights[name].dtype)
    elif how == "dtype":
        weights[name] = weights[name].astype(choose(rng, ("f8", "i4", "f2")))
    else:
        weights["extra"] = np.zeros(3, np.float32)
    save_file(weights, path)
    return f"{how} {name}"


def _checkpoint(rng: Rng, path: Path, flag: Path) -> str:
    import torch

    how = choose(
        rng, ("payload", "zip payload", "old payload", "cut", "flip", "list", "none", "dict",
        "entry", "entry", "entry",
              "missing", "missing", "nan", "text"),
    )  # fmt: skip
    data = path.read_bytes()
    if how == "cut":
        path.write_bytes(data[: int(rng.integers(len(data)))])
    elif how == "flip":
        return _flip(rng, path)
    elif how == "text":
        path.write_bytes(choose(rng, (b"", b"\x80", b"garbage", b"PK\x03\x04", b"\x00" * 1000)))
    elif how == "payload":
        path.write_bytes(pickle.dumps(_Payload(flag)))
    elif how == "zip payload":
        stream = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(stream, "w") as new:
            for item in old.namelist():
                new.writestr(
                    item,
                    pickle.dumps(_Payload(flag)) if item.endswith("data.pkl") else old.read(item),
                )
        path.write_bytes(stream.getvalue())
    elif how == "old payload":
        state = torch.load(path, weights_only=False)
        state["extra"] = _Payload(flag)
        torch.save(state, path)
    elif how in ("list", "none", "dict"):
        torch.save({"list": [], "none": None, "dict": {}}[how], path)
    else:
        state = torch.load(path, weights_only=False)
        key = choose(rng, sorted(state))
        if how == "missing":
            del state[key]
        elif how == "nan":
            key = choose(rng, sorted(state["state_dict"]))
            state["state_dict"][key] = torch.full_like(state["state_dict"][key].double(), torch.nan)
        else:
            state[key] = choose(rng, (None, [], {}, -1, "text", float("nan"), torch.zeros(3)))
        torch.save(state, path)
        return f"{how} {key}"
    return how


def spoil_configuration(rng: Rng, path: Path, valid: dict[str, Any], flag: Path) -> str:
    """A YAML file for `train --config`: `valid` with one entry spoiled, or something else
    altogether.
    """
    draw = rng.random()
    if draw < 0.15:
        path.write_text("x")
        return f"config: {_special(rng, path)}"
    if draw < 0.35:
        text = choose(
            rng, (*TEXTS, tag(flag), b"train: " + tag(flag), b"data:\n  path: " + tag(flag))
        )
        path.write_bytes(text)
        return f"config: {text[:20]!r}"
    payloads: tuple[Any, ...] = (
        {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", str(flag)]}},
        {"class_path": "os.system", "init_args": {"command": f"touch {flag}"}},
        {"class_path": "validation.faults.folders.touch", "init_args": {"flag": str(flag)}},
        {"class_path": "pathlib.Path", "init_args": {"args": [str(flag)]}},
        {
            "class_path": "torch.nn.Linear",
            "init_args": {"in_features": 10**6, "out_features": 10**6},
        },
        {"class_path": "builtins.open", "init_args": {"file": str(flag), "mode": "w"}},
        "os.system",
        "subprocess.Popen",
        -1,
        0,
        float("nan"),
        None,
        [],
        {},
        [1, 2],
        "text",
        10**12,
        True,
        "x" * 4000,
        "\x1b[31m",
        "../../../etc/passwd",
        "file:///dev/zero",
        "memory://x",
        "zip://x.zip",
        "nonsense://x",
        "simplecache::file:///tmp",
        "http://127.0.0.1:1/x",
        {"protocol": "http", "unknown": [1]},
        1e400,
    )
    value = choose(rng, payloads)
    entries = [
        *((part, key) for part in ("data", "model", "train", "trainer") for key in valid[part]),
        *[
            ("data", key)
            for key in (
                "storage_options",
                "cache_bytes",
                "mask_field",
                "mask_excludes",
                "n_workers",
            )
        ],
        *[
            ("model", key)
            for key in ("preset", "wavelet", "boundary_conditions", "feature_map", "unknown")
        ],
        *[
            ("train", key)
            for key in ("lr", "samples", "minutes", "schedule", "ema", "pushforward", "compile")
        ],
        *[("trainer", key) for key in ("precision", "threads", "devices")],
        *[
            (key, None)
            for key in (
                "data",
                "model",
                "train",
                "trainer",
                "seed",
                "run",
                "config",
                "resume",
                "unknown",
            )
        ],
    ]
    part, key = choose(rng, entries)
    # The open-typed entry, where a class could be named, more often.
    if rng.random() < 0.25:
        part, key = "data", "storage_options"
    if key is None:
        valid[part] = value
    else:
        valid[part][key] = value
    path.write_text(yaml.safe_dump(valid))
    return f"config: {part}.{key} = {repr(value)[:60]}"


def touch(flag: str) -> None:
    """What a class path might name."""
    Path(flag).touch()
