# Needs Ray: pip install 'wavelit[ray]'. Ray Tune searches a learning rate: four trainings, a core
# each, of which those that are behind are stopped. On a cluster they run on its machines.
from pathlib import Path

import numpy as np
from pytorch_lightning import Callback
from ray import tune

import wavelit

HERE = Path.cwd()


class Report(Callback):
    """Tells Tune of each validation but the one before any step."""

    def on_validation_end(self, trainer, module):
        if trainer.global_step:
            tune.report({"error": float(trainer.callback_metrics["val_vrmse"])})


def train(config):
    # Tune gives each trial a working directory of its own, which it removes.
    run = HERE / "runs" / f"{config['lr']:.2g}"
    wavelit.fit(run, HERE / "waves", callbacks=Report(), steps=60, validate_every=20, **config)


x, t = 2 * np.pi * np.arange(32) / 32, 0.2 * np.arange(20)[:, None]
waves = np.sin(x + np.random.default_rng(0).uniform(0, 6, (12, 1, 1)) - t)
wavelit.write_dataset(
    HERE / "waves",
    {"u": waves},
    splits={"train": 8, "valid": 2, "test": 2},
    name="waves",
    boundary_conditions=["periodic"],
)
goal = tune.TuneConfig(
    metric="error", mode="min", num_samples=4, scheduler=tune.schedulers.ASHAScheduler()
)
space = {"lr": tune.loguniform(1e-3, 3e-2)}
kept = tune.RunConfig(storage_path=str(HERE / "trials"))
results = tune.Tuner(train, param_space=space, tune_config=goal, run_config=kept).fit()
best = results.get_best_result()
print(f"learning rate {best.config['lr']:.2g}: error {best.metrics['error']:.3g}")
