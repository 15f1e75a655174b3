# A page that rolls a planar model out in the reader's browser, beside the truth:
#
#     pip install 'wavelit[export]'
#     npm install --no-package-lock --prefix examples/browser
#     python examples/browser/build.py runs/maze site
#     python -m http.server --directory site      # then open http://localhost:8000
#
# In place of a run the name of a model that comes with the package will do, whose trajectory is
# then computed. The folder holds all that the page needs: any web server can hand it out.
import argparse
import json
import shutil
from pathlib import Path

import matplotlib
import numpy as np

import wavelit
from wavelit.data.pocketwell import SYSTEMS, generate_one
from wavelit.evaluation.opened_run import open_run
from wavelit.evaluation.ranges import value_range
from wavelit.model.export import export_model

HERE = Path(__file__).parent
RUNTIME = HERE / "node_modules/onnxruntime-web/dist"
# The build without WebGPU, and its binary.
LIBRARY = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")


def build(model: str, out: str, dataset: str | None = None, system: str | None = None) -> Path:
    """The page of the first validation trajectory, in a folder `out`."""
    if missing := [name for name in LIBRARY if not (RUNTIME / name).exists()]:
        raise SystemExit(
            f"{missing[0]} is not there: npm install --no-package-lock --prefix {HERE}"
        )
    folder = Path(out)
    emulator, data = opened(model, folder, dataset, system)
    if emulator.spatial != 2:
        raise SystemExit(f"{model} has {emulator.spatial} axes: the page draws planes")
    batch = next(iter(data.trajectories("valid", batch_size=1)))
    if batch.forcings is not None or batch.scalar_forcings is not None:
        raise SystemExit(f"{model} has forcings, which change in time: the page knows none")
    folder.mkdir(parents=True, exist_ok=True)
    grid = list(batch.fields.shape[-2:])
    export_model(emulator, folder / "model.onnx", grid)
    found = {
        "history": batch.fields,
        "truth": batch.target,
        "valid": batch.valid,
        "constants": batch.constants,
        "scalars": batch.scalars,
    }
    arrays = {name: x[0].float().numpy() for name, x in found.items() if x is not None}
    blocks = [np.ascontiguousarray(x, "<f4").tobytes() for x in arrays.values()]
    (folder / "rollout.bin").write_bytes(b"".join(blocks))
    inside = arrays.get("valid", np.ones((1, *grid)))[0] > 0
    states = arrays["truth"][..., inside]
    contents = {
        "title": data.metadata.dataset_name,
        "parameters": emulator.n_parameters,
        "grid": grid,
        "arrays": {name: list(x.shape) for name, x in arrays.items()},
        "fields": [field(name, states[:, c]) for c, name in enumerate(data.field_names)],
        "error_colours": colours("magma"),
    }
    (folder / "rollout.json").write_text(json.dumps(contents))
    for name in LIBRARY:
        shutil.copy(RUNTIME / name, folder / name)
    for name in ("index.html", "page.js"):
        shutil.copy(HERE / name, folder / name)
    return folder


def opened(model: str, folder: Path, dataset: str | None, system: str | None) -> tuple:
    """The emulator, and its data with all that a run says of them."""
    if model not in SYSTEMS or Path(model).exists():
        return open_run(Path(model), "final", dataset, "valid", system=system)[:2]
    path = folder.with_name(f"{folder.name}-{model}")
    if dataset is None and not any(path.glob("data/train/*.hdf5")):
        generate_one(model, path)
    data = wavelit.WellDataModule(dataset or str(path), mask_field=SYSTEMS[model].mask_field)
    return wavelit.load(model), data


def field(name: str, values: np.ndarray) -> dict[str, object]:
    """How a field is drawn: in the range and colours of a report."""
    within = value_range(values)
    return {
        "name": name,
        "range": [within.low, within.high],
        "std": float(values.std()),
        "colours": colours(within.colours),
    }


def colours(name: str) -> list[list[int]]:
    """256 colours as (red, green, blue) of 0 to 255."""
    table = matplotlib.colormaps[name](np.arange(256))[:, :3]
    return (255 * table).round().astype(int).tolist()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("model", help="run folder, or model that comes with the package")
    parser.add_argument("out", help="folder of the page")
    parser.add_argument("--data", help="dataset folder in place of the run's own")
    parser.add_argument("--system", help="of a joint run of several, the system")
    given = parser.parse_args()
    print(build(given.model, given.out, given.data, given.system))
