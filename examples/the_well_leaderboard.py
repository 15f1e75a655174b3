# An entry for the community's leaderboard of the radiative layer, one step ahead
# (huggingface.co/spaces/napoles3d/leadpde), of a run on turbulent_radiative_layer_2D:
#
#     python examples/the_well_leaderboard.py runs/layer entry.zip --name "WaveLiT 1M"
#
# The space says that the archive holds submission.json and predictions.npz, with an array of shape
# (N, 1, 128, 384, 4). Under which key, and which entries the JSON has, it does not say: here the
# array is `predictions`, all test windows in their order, and the entries are those below.
import argparse
import io
import json
import zipfile

import numpy as np
import torch

import wavelit
from wavelit.training.run_folder import load_data

FIELDS = ["density", "pressure", "velocity_x", "velocity_y"]


def entry(run: str, out: str, name: str) -> None:
    model, data = wavelit.load(run), load_data(run)
    if data.field_names != FIELDS or data.n_steps_input != 4:
        raise SystemExit(
            f"{run} predicts {data.field_names} from {data.n_steps_input} states: the leaderboard "
            f"is of {FIELDS} from 4"
        )
    windows = data.windows("test")
    steps = []
    with torch.inference_mode():
        for batch in windows:
            following = model(batch.fields, *batch.beside())
            steps.append(following.movedim(1, -1)[:, None].numpy())
    predictions = io.BytesIO()
    np.savez_compressed(predictions, predictions=np.concatenate(steps))
    facts = {
        "model_name": name,
        "task": "turbulent_radiative_layer_2D_1step",
        "n_steps_input": 4,
        "n_steps_output": 1,
        "parameters": model.n_parameters,
        "wavelit_version": wavelit.__version__,
    }
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("submission.json", json.dumps(facts, indent=2))
        archive.writestr("predictions.npz", predictions.getvalue())
    print(f"{out}: {len(windows.dataset)} predictions")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="a run as an entry of the leaderboard")
    parser.add_argument("run", help="run folder")
    parser.add_argument("out", help="the .zip to write")
    parser.add_argument("--name", default="WaveLiT", help="of the model")
    options = parser.parse_args()
    entry(options.run, options.out, options.name)
