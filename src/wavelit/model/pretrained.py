"""Trained models that come with the package: a `nano` for each of PocketWell's eight systems, and
joint-1M, a joint model of all of them, to start from.

    WaveLiT.from_pretrained("pocketwell/rayleigh_benard")
    JointWaveLiT.from_pretrained("pocketwell/joint-1M")

Each stands in weights/pocketwell/<name>: config.json, model.safetensors, and a card, README.md,
with what it was trained on and how well it does. Any other folder of weights is alike. config.json
holds the architecture, the signature (`wavelit.model.signature`), the version that wrote it and the
checksum of the weights. Folders of older versions lack the last three. A version that does not know
one of its entries refuses the folder and names the version that wrote it. Reading a folder executes
nothing in it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor, nn

from wavelit.checks.arguments import listed, require_device
from wavelit.checks.settings import from_mapping, require_mapping
from wavelit.errors import WavelitError, one_line, printable
from wavelit.files.atomic import atomic_path
from wavelit.files.plain import read_json
from wavelit.model.config import WaveLiTConfig
from wavelit.model.emulator import IncrementEmulator
from wavelit.model.joint_config import JointConfig
from wavelit.model.signature import Signature

__all__ = [
    "CHECKSUM",
    "CONFIG",
    "NETWORK",
    "PREFIX",
    "WEIGHTS",
    "holds_joint",
    "holds_model",
    "is_complete",
    "joint_models",
    "pretrained",
    "read_joint",
    "read_model",
    "read_weights",
    "require_finite",
    "resolve",
    "shipped",
    "write_joint",
    "write_model",
]

PREFIX = "pocketwell/"
FOLDER = Path(__file__).parent.parent / "weights"
CONFIG, WEIGHTS = "config.json", "model.safetensors"
# Entries of config.json beside the architecture.
VERSION, CHECKSUM, SIGNATURE = "wavelit_version", "weights_sha256", "signature"
# In place of the architecture, of a network of the user's own: its class, which is a name alone.
NETWORK = "network"

Module = TypeVar("Module", bound=IncrementEmulator)
Joint = TypeVar("Joint", bound=nn.Module)


def pretrained() -> list[str]:
    """The names of those of one system, pocketwell/<system>."""
    return [name for name in _shipped() if not name.startswith(f"{PREFIX}joint-")]


def joint_models() -> list[str]:
    """The names of the joint ones, pocketwell/joint-1M."""
    return [name for name in _shipped() if name.startswith(f"{PREFIX}joint-")]


def shipped(name: str | os.PathLike[str]) -> str | None:
    """The full name of a model of the package, given with or without its prefix; None of any
    other, and where a folder of that name is there.
    """
    full = f"{PREFIX}{os.fspath(name).removeprefix(PREFIX)}"
    is_there = Path(os.path.expanduser(name)).exists()
    return full if full in _shipped() and not is_there else None


def _shipped() -> list[str]:
    return sorted(f"{PREFIX}{path.parent.name}" for path in (FOLDER / PREFIX).glob(f"*/{WEIGHTS}"))


def resolve(name: str | os.PathLike[str]) -> str:
    """The folder of a model that comes with the package, of a run's weights, or any other; a name
    on the hub, owner/name, as it is.

    Raises:
        WavelitError: no such model in the package, no such folder, or one without a model.
    """
    text, path = os.fspath(name), Path(os.path.expanduser(name))
    if text in _shipped():
        return os.fspath(FOLDER / text)
    if text and path.is_dir():
        for folder in (path / "weights", path):
            if (folder / "config.json").exists():
                return os.fspath(folder)
        full = f"{PREFIX}{text}"
        told = f"; the package's is {full}" if full in _shipped() else ""
        raise WavelitError(
            f"{text} holds no model: a run's weights are there once it has ended{told}"
        )
    # Names on the hub are owner/name; anything else, and what would stand in a folder that is
    # there or that runs go to, is a folder that is not.
    on_hub = (
        isinstance(name, str)
        and text.count("/") == 1
        and text[0] not in "./~"
        and not text.startswith("runs/")
        and not path.parent.is_dir()
    )
    if text.startswith(PREFIX) or not on_hub:
        raise WavelitError(
            f"unknown model '{text}': no such folder, and the package has {', '.join(_shipped())}"
        )
    return text


def holds_model(name: str | os.PathLike[str]) -> bool:
    """Whether it is a model of the package, or a folder of a model's weights alone, not a run."""
    folder = Path(os.path.expanduser(name))
    return shipped(name) is not None or is_complete(folder)


def is_complete(folder: Path) -> bool:
    """Whether a folder holds a model's weights and what they are of."""
    return all((folder / name).is_file() for name in (CONFIG, WEIGHTS))


def holds_joint(name: str | os.PathLike[str]) -> bool:
    """Whether a folder, or a model of the package with or without its prefix, is a joint model;
    what is on the hub alone is not looked at.
    """
    path, known = Path(os.path.expanduser(name)), shipped(name)
    if known is not None:
        return known in joint_models()
    if not any((each / CONFIG).exists() for each in (path / "weights", path)):
        return False
    content = read_json(Path(resolve(name)) / CONFIG)
    return isinstance(content, dict) and "joint" in content


def write_model(
    folder: Path, model: IncrementEmulator, config: WaveLiTConfig | dict[str, Any]
) -> None:
    """Write config.json and model.safetensors into a folder; readers notice weights of another
    configuration by the checksum.

    Args:
        folder: It is there.
        model: Whose weights they are; complex ones are stored as pairs of real numbers.
        config: The architecture, or what is known of another network.
    """
    entries = dict(config) if isinstance(config, dict) else dataclasses.asdict(config)
    if model.signature is not None:
        entries[SIGNATURE] = model.signature.to_dict()
    _write(folder, model, entries)


def write_joint(folder: Path, model: nn.Module, config: JointConfig) -> None:
    """Write a joint model likewise; config.json holds the systems with their signatures."""
    _write(folder, model, config.to_dict())


def _write(folder: Path, model: nn.Module, entries: dict[str, Any]) -> None:
    from wavelit import __version__

    state = {name: _plain(value) for name, value in model.state_dict().items()}
    weights = save(state, metadata={"format": "pt"})
    with atomic_path(folder / WEIGHTS) as scratch:
        scratch.write_bytes(weights)
    entries |= {VERSION: __version__, CHECKSUM: hashlib.sha256(weights).hexdigest()}
    with atomic_path(folder / CONFIG) as scratch:
        scratch.write_text(json.dumps(entries, indent=2, sort_keys=True) + "\n", encoding="utf8")


def read_model(
    name: str | os.PathLike[str],
    build: Callable[[WaveLiTConfig], Module],
    device: str | torch.device = "cpu",
    strict: bool = True,
    **hub: Any,
) -> Module:
    """The model of a folder or of the hub, in evaluation mode.

    Args:
        name: As for `resolve`.
        build: Makes the network of a configuration.
        device: Where its weights go.
        strict: Whether names must agree; shapes must anyhow.
        **hub: What `huggingface_hub.hf_hub_download` takes: revision, token, cache_dir,
            force_download, local_files_only.

    Raises:
        WavelitError: Nothing there, a joint model, a configuration of another version, or weights
            that are damaged, not finite, or of another network.
    """
    device = require_device(device)
    folder, entries, where, checksum = _opened(name, hub)
    if "joint" in entries and "n_fields" not in entries:
        systems = entries.get("systems")
        names = listed(systems) if isinstance(systems, dict) else "several systems"
        raise WavelitError(
            f"{where} is of a joint model of {names}: load it by JointWaveLiT.from_pretrained and "
            "take one by its name"
        )
    signed = entries.pop(SIGNATURE, None)
    config = from_mapping(WaveLiTConfig, entries, where)
    signature = None if signed is None else _signature(signed, config, where)
    model: Module = _restored(folder, lambda: build(config), checksum, strict)
    model.signature, model.trained = signature, True
    return model.to(device).eval()


def read_joint(
    name: str | os.PathLike[str],
    build: Callable[[JointConfig], Joint],
    device: str | torch.device = "cpu",
    strict: bool = True,
    **hub: Any,
) -> Joint:
    """A joint model likewise."""
    device = require_device(device)
    folder, entries, where, checksum = _opened(name, hub)
    config = JointConfig.from_dict(entries, where)
    model: Joint = _restored(folder, lambda: build(config), checksum, strict)
    return model.to(device).eval()


def _opened(
    name: str | os.PathLike[str], hub: dict[str, Any]
) -> tuple[Path, dict[str, Any], str, Any]:
    """A model's folder, its configuration, that file as errors name it, and the checksum."""
    folder = Path(_download(resolve(name), hub))
    entries = read_json(folder / CONFIG)
    require_mapping(str(folder / CONFIG), entries)
    if NETWORK in entries:
        raise WavelitError(
            f"{printable(name)} holds weights of {printable(entries[NETWORK], 80)}, a network of "
            "its user's own: give it in Python, wavelit.load(folder, model=network), of its run "
            "folder"
        )
    version, checksum = entries.pop(VERSION, None), entries.pop(CHECKSUM, None)
    where = (
        f"{folder / CONFIG}"
        if version is None
        else f"{folder / CONFIG}, of version {printable(version, 40)}"
    )
    return folder, entries, where, checksum


def _restored(folder: Path, build: Callable[[], Any], checksum: Any, strict: bool) -> Any:
    """A network with the weights of a folder."""
    with torch.device("meta"):
        due = build().state_dict()
    state = read_weights(folder, due, checksum, strict)
    model = build()
    model.load_state_dict(state, strict=strict)
    return model


def read_weights(
    folder: Path, due: Mapping[str, Tensor] | None, checksum: str | None, strict: bool = True
) -> dict[str, Tensor]:
    """The weights in a folder.

    Args:
        folder: Where they are.
        due: The network's own, for names, shapes and which are complex; None: any.
        checksum: What config.json says of them, if it does.
        strict: Whether names must agree; shapes must anyhow.

    Raises:
        WavelitError: They are missing, damaged, not finite, or of another network.
    """
    path = folder / WEIGHTS
    shapes = {name: tuple(_real(value).shape) for name, value in (due or {}).items()}
    try:
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing")
        # Before anything of their size is allocated.
        with safe_open(path, "pt") as file:
            found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118, no mapping
        data = path.read_bytes()
        state = load(data)
    except (SafetensorError, OSError, ValueError) as error:
        raise WavelitError(
            f"{path} cannot be read: {one_line(error)}; take it anew from where it is from"
        ) from error
    if checksum is not None and hashlib.sha256(data).hexdigest() != checksum:
        raise WavelitError(
            f"{path} cannot be used: its checksum is not the one in {CONFIG}: it is damaged or of "
            "another model; take it anew from where it is from"
        )
    for key in () if due is None else found.keys() | shapes.keys():
        differs = found[key] != shapes[key] if key in found and key in shapes else strict
        if differs:
            raise WavelitError(
                f"{path} cannot be used: {printable(key)} has shape {found.get(key)} there and "
                f"{shapes.get(key)} by {CONFIG}"
            )
    require_finite(path, state)
    complex_ones = {name for name, value in (due or {}).items() if value.is_complex()}
    return {
        name: torch.view_as_complex(value) if name in complex_ones else value
        for name, value in state.items()
    }


def _plain(value: Tensor) -> Tensor:
    """A copy on the CPU: weights that share memory are stored as often as they occur."""
    return _real(value.detach().cpu()).clone(memory_format=torch.contiguous_format)


def _real(value: Tensor) -> Tensor:
    """Complex weights as pairs of real ones: not every version of safetensors has others."""
    return torch.view_as_real(value.resolve_conj()) if value.is_complex() else value


def _signature(content: Any, config: WaveLiTConfig, where: str) -> Signature:
    where = f"{where}, {SIGNATURE}"
    signature = Signature.from_dict(content, where)
    try:
        signature.require_counts(config.n_fields, config.n_constant_fields, config.n_scalars)
    except WavelitError as error:
        raise WavelitError(f"{where}: {error}") from error
    return signature


def require_finite(path: Path, state: Mapping[str, Tensor]) -> None:
    """Refuse weights that are not finite: a training diverged.

    Raises:
        WavelitError: Names the file and the first of them.
    """
    for name, value in state.items():
        number = value.is_floating_point() or value.is_complex()
        if number and not torch.isfinite(value).all():
            raise WavelitError(
                f"{path} cannot be used: {printable(name)} is not finite; train anew with a lower "
                "lr"
            )


def _download(name: str, hub: dict[str, Any]) -> str:
    """The folder of a model, of one on the hub after it has been downloaded."""
    if os.path.isdir(name):
        return name
    try:
        # No other file of a model is looked at, a pickle least of all.
        paths = [hf_hub_download(name, file, **hub) for file in (CONFIG, WEIGHTS)]
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError) as error:
        raise WavelitError(f"{name} cannot be had from the hub: {one_line(error)}") from error
    return os.path.dirname(str(paths[0]))
