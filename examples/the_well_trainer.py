"""Train a WaveLiT inside The Well's own benchmark trainer.

    make baselines   # The Well's benchmark dependencies
    .venv-baselines/bin/wavelit data generate shear_flow --size tiny
    .venv-baselines/bin/python examples/the_well_trainer.py datasets/pocketwell/tiny shear_flow

The trainer hands over frames stacked as channels, (B, T C + K, *S); `Stacked` takes them apart.
WaveLiT normalises inside, so The Well's normalisation stays off; its loss is relative, so that
units do not matter.
"""

import argparse
import tempfile

import torch
import wandb
from the_well.benchmark.metrics import NMSE
from the_well.benchmark.trainer import Trainer
from the_well.data import WellDataModule as TheWellDataModule
from torch import Tensor, nn

import wavelit


class Stacked(nn.Module):
    """A WaveLiT behind The Well's channels-first interface: (B, T C + K, *S) -> (B, C, *S)."""

    def __init__(self, model: wavelit.WaveLiT) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        config = self.model.config
        n_history = config.n_steps_input * config.n_fields
        fields = x[:, :n_history].unflatten(1, (config.n_steps_input, config.n_fields))
        constants = x[:, n_history:] if config.n_constant_fields else None
        return self.model(fields, constants)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("base", help="folder of datasets")
    parser.add_argument("dataset", help="name of a dataset of The Well")
    parser.add_argument("--epochs", type=int, default=1)
    options = parser.parse_args()

    # Statistics come from the dataset; the trainer passes no scalars. It adds no noise to what the
    # model reads, which the convolutions at full resolution need for stable rollouts (docs/log.md):
    # blocks take their place.
    data = wavelit.WellDataModule(f"{options.base}/{options.dataset}")
    model = wavelit.build_model(data, "nano", condition=False, detail_dim=0, depth=4)

    wandb.init(mode="disabled")
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            checkpoint_folder=folder,
            artifact_folder=folder,
            viz_folder=folder,
            formatter="channels_first_default",
            model=Stacked(model),
            datamodule=TheWellDataModule(
                options.base, options.dataset, batch_size=4, n_steps_input=4, data_workers=0, rank=0
            ),
            optimizer=torch.optim.AdamW(model.parameters(), lr=2e-3),
            loss_fn=NMSE(),
            epochs=options.epochs,
            checkpoint_frequency=0,
            val_frequency=1,
            rollout_val_frequency=options.epochs,
            max_rollout_steps=8,
            short_validation_length=4,
            make_rollout_videos=False,
            num_time_intervals=2,
            device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
        )
        before, _ = trainer.validation_loop(trainer.datamodule.val_dataloader())
        loss, _ = trainer.train_one_epoch(1, trainer.datamodule.train_dataloader())
        after, _ = trainer.validation_loop(trainer.datamodule.val_dataloader())
    print(
        f"training NMSE {loss:.4f}; validation NMSE {before:.4f} before, {after:.4f} after one "
        "epoch"
    )


if __name__ == "__main__":
    main()
