# A page that rolls a planar model out in the reader's browser, beside the truth:
#
#     npm install --no-package-lock --prefix examples/browser
#     python examples/browser/build.py acoustic_scattering_maze \
#         datasets/pocketwell/small/acoustic_scattering_maze site
#     python -m http.server --directory site      # then open http://localhost:8000
#
# The model is a run folder, a shipped model or a folder of a saved one. The folder `site` holds all
# that the page needs, about 20 MB, most of it onnxruntime: any web server can hand it out.
import argparse
import json
import shutil
from pathlib import Path

import matplotlib
import numpy as np

import wavelit
from wavelit.model.export import export_model

HERE = Path(__file__).parent
RUNTIME = HERE / "node_modules/onnxruntime-web/dist"
# The build without WebGPU, and its binary.
LIBRARY = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")


def build(model: str, dataset: str, out: str) -> Path:
    """The page of the first validation trajectory, in a folder `out`."""
    if missing := [name for name in LIBRARY if not (RUNTIME / name).exists()]:
        raise SystemExit(f"{missing[0]} is not there: npm install --prefix {HERE}")
    emulator, data = wavelit.load(model), wavelit.WellDataModule(dataset)
    if emulator.spatial != 2:
        raise SystemExit(f"{model} has {emulator.spatial} axes: the page draws planes")
    batch = next(iter(data.trajectories("valid", batch_size=1)))
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    grid = list(batch.fields.shape[-2:])
    export_model(emulator, folder / "model.onnx", grid)
    constants, scalars = batch.beside()
    arrays = {"history": batch.fields, "truth": batch.target, "valid": batch.valid}
    arrays |= {"constants": constants, "scalars": scalars}
    arrays = {name: x[0].float().numpy() for name, x in arrays.items() if x is not None}
    blocks = [np.ascontiguousarray(x, "<f4").tobytes() for x in arrays.values()]
    (folder / "rollout.bin").write_bytes(b"".join(blocks))
    contents = {
        "title": data.metadata.dataset_name,
        "model": f"{sum(p.numel() for p in emulator.parameters()):,} parameters",
        "grid": grid,
        "arrays": {name: list(x.shape) for name, x in arrays.items()},
        "fields": [
            field(name, states)
            for name, states in zip(data.field_names, arrays["truth"].swapaxes(0, 1), strict=True)
        ],
        "error_colours": colours("magma"),
    }
    (folder / "rollout.json").write_text(json.dumps(contents))
    for name in LIBRARY:
        shutil.copy(RUNTIME / name, folder / name)
    for name in ("index.html", "page.js"):
        shutil.copy(HERE / name, folder / name)
    return folder


def field(name: str, states: np.ndarray) -> dict[str, object]:
    """How a field is drawn: about zero where it has both signs."""
    low, high = float(states.min()), float(states.max())
    signed = low < 0 < high
    if signed:
        high = max(-low, high)
        low = -high
    map_name = "RdBu_r" if signed else "viridis"
    spread = float(states.std())
    return {"name": name, "range": [low, high], "std": spread, "colours": colours(map_name)}


def colours(name: str) -> list[list[int]]:
    """256 colours as (red, green, blue) of 0 to 255."""
    table = matplotlib.colormaps[name](np.arange(256))[:, :3]
    return (255 * table).round().astype(int).tolist()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("dataset")
    parser.add_argument("out")
    given = parser.parse_args()
    print(build(given.model, given.dataset, given.out))
