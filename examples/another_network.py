# Runs in CI.
# A small convolutional network in place of a WaveLiT: trained, trained further and judged in the
# same way; `wavelit.load("run", model=network())` gives it back. It sees 4 normalised frames as
# channels and returns the increment in units of its spread.
import numpy as np
import torch

import wavelit

x, t = 2 * np.pi * np.arange(32) / 32, 0.2 * np.arange(20)[:, None]
phase = np.random.default_rng(0).uniform(0, 6, (12, 1, 1))
u = np.sin(x + phase - t) + 0.5 * np.sin(2 * x - phase + 2 * t)  # (12 trajectories, 20 steps, 32)
shared = {"splits": {"train": 8, "valid": 2, "test": 2}, "boundary_conditions": ["periodic"]}
wavelit.write_dataset("waves", {"u": u}, name="waves", **shared)


def network():
    wrapped = {"kernel_size": 5, "padding": 2, "padding_mode": "circular"}
    first, last = torch.nn.Conv1d(4, 16, **wrapped), torch.nn.Conv1d(16, 1, **wrapped)
    return torch.nn.Sequential(first, torch.nn.GELU(), last)


wavelit.fit("run", "waves", network(), steps=60)
wavelit.resume("run", network(), steps=90)  # the same run, with a larger budget
print(wavelit.evaluate("run", split="test", model=network()))  # and run/report-test.html
