"""The public functions that are called wrongly, each with arguments that fit, made anew for
every trial.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

__all__ = ["TARGETS", "missing"]

Call = tuple[Callable[..., Any], dict[str, Any]]
NAMES = ["u", "v"]


def _states(*lead: int) -> torch.Tensor:
    return torch.randn(*lead, 2, 8, 8, generator=torch.Generator().manual_seed(0))


def _data(folder: Path, templates: Path) -> Any:
    from wavelit import WellDataModule

    return WellDataModule(str(templates / "data2"), n_steps_input=2, batch_size=2)


def _model(folder: Path, templates: Path) -> Any:
    from wavelit import load_model

    return load_model(templates / "ended2")


def _metric(name: str) -> Callable[[Path, Path], Call]:
    def make(folder: Path, templates: Path) -> Call:
        from wavelit import metrics

        return getattr(metrics, name), {
            "prediction": _states(3),
            "target": _states(3) + 0.1,
            "spatial": 2,
        }

    return make


def _spectrum(folder: Path, templates: Path) -> Call:
    from wavelit.metrics import isotropic_spectrum

    return isotropic_spectrum, {"field": _states(3), "spatial": 2}


def _field_metric(name: str) -> Callable[[Path, Path], Call]:
    def make(folder: Path, templates: Path) -> Call:
        from wavelit import metrics

        def use(field_names: Any, spatial: Any) -> Any:
            metric = getattr(metrics, name)(field_names, spatial)
            metric.update(_states(3), _states(3) + 0.1)
            return metric.compute()

        return use, {"field_names": NAMES, "spatial": 2}

    return make


def _rollout(folder: Path, templates: Path) -> Call:
    from wavelit import persistence
    from wavelit.evaluation.rollout import rollout

    return rollout, {"step": persistence, "fields": _states(1, 2), "n_steps": 3}


def _persistence(folder: Path, templates: Path) -> Call:
    from wavelit import persistence

    return persistence, {"fields": _states(1, 2)}


def _write_rollout(folder: Path, templates: Path) -> Call:
    from wavelit.evaluation.rollout import write_rollout

    arguments = {"path": folder / "rollout.hdf5", "prediction": _states(1, 3), "dataset": "d"}
    sides = (("periodic", "periodic"), ("wall", "open"))
    return write_rollout, {**arguments, "field_names": {0: NAMES}, "boundary_conditions": sides}


def _evaluate(folder: Path, templates: Path) -> Call:
    from wavelit.evaluation.evaluate import evaluate

    return evaluate, {
        "emulator": _model(folder, templates),
        "data": _data(folder, templates),
        "split": "valid",
    }


def _on_run(
    module: str, name: str, run: str = "ended2", key: str = "folder"
) -> Callable[[Path, Path], Call]:
    def make(folder: Path, templates: Path) -> Call:
        import importlib
        import shutil

        shutil.copytree(templates / run, folder / "run")
        return getattr(importlib.import_module(module), name), {key: folder / "run"}

    return make


def _export(folder: Path, templates: Path) -> Call:
    from wavelit.api import export

    _, arguments = _on_run("wavelit.api", "load", key="emulator")(folder, templates)
    return export, {**arguments, "path": folder / "model.pt2"}


def _write_subset(folder: Path, templates: Path) -> Call:
    from wavelit.data.writing.subset import write_subset

    arguments = {"files": 1, "trajectories": 1, "steps": 6}
    return write_subset, {"path": templates / "data2", "to": folder / "small", **arguments}


def _build_model(folder: Path, templates: Path) -> Call:
    from wavelit import build_model

    tiny = {
        "embed_dim": 8,
        "num_heads": 2,
        "depth": 1,
        "num_exchanges": 1,
        "levels": 1,
        "detail_dim": 4,
    }
    return build_model, {"data": _data(folder, templates), "preset": "nano", "seed": 0, **tiny}


def _fit(folder: Path, templates: Path) -> Call:
    from wavelit import TrainConfig, TrainerConfig, fit

    data = _data(folder, templates)
    settings = {
        "train": TrainConfig(steps=2),
        "trainer": TrainerConfig(accelerator="cpu"),
        "seed": 0,
    }
    return fit, {
        "folder": folder / "run",
        "data": data,
        "model": _model(folder, templates),
        **settings,
    }


def _train_config(folder: Path, templates: Path) -> Call:
    from wavelit import TrainConfig

    return TrainConfig, {"steps": 2}


def _trainer_config(folder: Path, templates: Path) -> Call:
    from wavelit import TrainerConfig

    def use(
        accelerator: Any = "cpu", devices: Any = 1, precision: Any = "32-true", threads: Any = 1
    ) -> None:
        TrainerConfig(accelerator, devices, precision, threads).check()

    return use, {}


def _architecture(folder: Path, templates: Path) -> Call:
    import inspect

    from wavelit import WaveLiT, WaveLiTConfig

    def use(**options: Any) -> Any:
        model = WaveLiT(WaveLiTConfig(**options))
        return model.n_parameters

    use.__signature__ = inspect.signature(WaveLiTConfig)  # type: ignore[attr-defined]
    return use, {"n_fields": 2, "embed_dim": 8, "num_heads": 2, "depth": 2}


def _prediction(folder: Path, templates: Path) -> Call:
    from wavelit import WaveLiT, WaveLiTConfig

    model = WaveLiT(
        WaveLiTConfig(
            2, n_constant_fields=1, n_scalars=1, n_steps_input=2, embed_dim=8, num_scales=1
        )
    )
    return model, {
        "fields": _states(1, 2),
        "constants": torch.zeros(1, 1, 8, 8),
        "scalars": torch.zeros(1, 1),
    }


def _module(folder: Path, templates: Path) -> Call:
    import inspect

    from wavelit import WellDataModule

    def use(**options: Any) -> Any:
        data = WellDataModule(**options)
        batches = [next(iter(data.train_dataloader())), next(iter(data.windows("valid")))]
        return batches, data.statistics

    use.__signature__ = inspect.signature(WellDataModule)  # type: ignore[attr-defined]
    return use, {"path": str(templates / "data2")}


def _dataset(folder: Path, templates: Path) -> Call:
    from wavelit import WellDataset

    def use(
        path: Any,
        well_split_name: Any = "train",
        mask_field: Any = None,
        mask_excludes: Any = 1.0,
        cache_bytes: Any = 0,
        n_steps_input: Any = 1,
        n_steps_output: Any = 1,
        min_dt_stride: Any = 1,
        max_dt_stride: Any = 1,
    ) -> Any:
        options = {"n_steps_input": n_steps_input, "n_steps_output": n_steps_output}
        strides = {"min_dt_stride": min_dt_stride, "max_dt_stride": max_dt_stride}
        mask = {
            "mask_field": mask_field,
            "mask_excludes": mask_excludes,
            "cache_bytes": cache_bytes,
        }
        data = WellDataset(path, well_split_name=well_split_name, **mask, **options, **strides)
        return data.collate(data.__getitems__([0, len(data) - 1]))

    return use, {"path": str(templates / "data2")}


def _write(name: str) -> Callable[[Path, Path], Call]:
    def make(folder: Path, templates: Path) -> Call:
        import wavelit

        fields = {"u": np.random.default_rng(0).standard_normal((3, 4, 8, 8))}
        arguments: dict[str, Any] = {"path": folder / name, "fields": fields, "name": "made"}
        arguments["boundary_conditions"] = ["periodic", "wall"]
        if name == "write_dataset":
            arguments["splits"] = {"train": 1, "valid": 1, "test": 1}
        return getattr(wavelit, name), arguments

    return make


def _figure(folder: Path, templates: Path) -> Call:
    from wavelit.evaluation.figures import rollout_figure, save

    def use(
        path: Any, truth: Any, prediction: Any, field_names: Any, field: Any = None,
        steps: Any = None,
        valid: Any = None, dpi: Any = 50,
    ) -> Any:  # fmt: skip
        figure = rollout_figure(
            truth, prediction, field_names, field=field, steps=steps, valid=valid
        )
        return save(figure, path, dpi)

    states = _states(4).numpy()
    return use, {
        "path": folder / "f.png",
        "truth": states,
        "prediction": states + 0.1,
        "field_names": NAMES,
    }


def _animation(folder: Path, templates: Path) -> Call:
    from wavelit.evaluation.films import animation

    states = _states(4).numpy()
    return animation, {
        "path": folder / "f.gif",
        "truth": states,
        "prediction": states,
        "field_names": NAMES,
    }


def _training_figure(folder: Path, templates: Path) -> Call:
    from wavelit.evaluation.figures import training_figure

    return training_figure, {"path": templates / "ended2" / "logs" / "metrics.csv"}


def _on_data(module: str, name: str) -> Callable[[Path, Path], Call]:
    def make(folder: Path, templates: Path) -> Call:
        import importlib
        import shutil

        shutil.copytree(templates / "data2", folder / "data")
        return getattr(importlib.import_module(module), name), {"path": str(folder / "data")}

    return make


def _generate(folder: Path, templates: Path) -> Call:
    from wavelit.data.pocketwell import generate

    # Refused or done at once: the dataset of these settings would take seconds.
    return generate, {
        "system": "shear_flow",
        "size": "none",
        "root": folder / "root",
        "seed": 0,
        "progress": False,
    }


def _pretrained(folder: Path, templates: Path) -> Call:
    from wavelit import WaveLiT

    return WaveLiT.from_pretrained, {"name": "pocketwell/shear_flow", "local_files_only": True}


def _wrap(folder: Path, templates: Path) -> Call:
    import torch

    from wavelit import wrap

    network = torch.nn.Conv2d(4, 1, 3, padding=1)
    return wrap, {"network": network, "predicts": "increment", "takes": "channels"}


def _cost(folder: Path, templates: Path) -> Call:
    from wavelit.cost import describe_cost

    return describe_cost, {
        "preset": "nano",
        "resolution": [16, 16],
        "flops_per_second": 1e9,
        "bytes_per_second": 1e9,
    }


TARGETS: dict[str, Callable[[Path, Path], Call]] = {
    **{
        name: _metric(name) for name in ("vrmse", "nrmse", "pearson", "linf", "binned_spectral_mse")
    },
    **{name: _field_metric(name) for name in ("VRMSE", "NRMSE", "Pearson", "LInfinity")},
    "isotropic_spectrum": _spectrum,
    "rollout": _rollout,
    "persistence": _persistence,
    "write_rollout": _write_rollout,
    "evaluate": _evaluate,
    "evaluate_run": _on_run("wavelit.evaluation.evaluate_run", "evaluate_run"),
    "record_rollout": _on_run("wavelit.evaluation.evaluate_run", "record_rollout"),
    "load_model": _on_run("wavelit.training.run_folder", "load_model"),
    "load": _on_run("wavelit.api", "load", key="name"),
    "export": _export,
    "write_subset": _write_subset,
    "resume": _on_run("wavelit.training.run", "resume", "stopped2"),
    "build_model": _build_model,
    "fit": _fit,
    "TrainConfig": _train_config,
    "TrainerConfig": _trainer_config,
    "WaveLiTConfig": _architecture,
    "WaveLiT": _prediction,
    "WellDataModule": _module,
    "WellDataset": _dataset,
    "write_well": _write("write_well"),
    "write_dataset": _write("write_dataset"),
    "rollout_figure": _figure,
    "animation": _animation,
    "training_figure": _training_figure,
    "check_dataset": _on_data("wavelit.data.checking.check", "check_dataset"),
    "describe_dataset": _on_data("wavelit.data.checking.describe", "describe_dataset"),
    "write_statistics": _on_data("wavelit.data.statistics", "write_statistics"),
    "generate": _generate,
    "from_pretrained": _pretrained,
    "describe_cost": _cost,
    "wrap": _wrap,
}


def missing() -> list[str]:
    """Public names of the package that no trial calls."""
    import wavelit

    passive = {"Batch", "WavelitError", "__version__"}
    return sorted(set(wavelit.__all__) - set(TARGETS) - passive)
