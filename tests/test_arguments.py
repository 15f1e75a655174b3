"""What is passed wrongly is named in one line: every public function of judging, drawing,
measuring and reporting.
"""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from wavelit import metrics
from wavelit.benchmarks import (
    accuracy,
    baselines,
    compiled,
    entries,
    inference,
    scaling,
    solvers,
    speed,
    timing,
    training,
)
from wavelit.checks import arguments
from wavelit.cost import describe_cost
from wavelit.data.batch import Batch
from wavelit.data.pocketwell import generate
from wavelit.demo import demo
from wavelit.errors import WavelitError
from wavelit.evaluation import evaluate, evaluate_run, figures, films, rollout
from wavelit.evaluation.evaluate import Evaluation, Scores
from wavelit.evaluation.report import summary, write_report
from wavelit.evaluation.rollout import persistence

HISTORY = torch.zeros(2, 3, 2, 6, 5)
STATES = np.zeros((4, 2, 6, 5))
NAMES = ["a", "b"]
U = torch.zeros(2, 2, 6, 5)
BATCH = Batch(HISTORY, HISTORY, None, None, None, torch.zeros(2))


def scores(**changes):
    one = Scores(np.ones((3, 2)), np.ones((2, 4, 2)))
    entries = {
        "dataset": "waves",
        "split": "test",
        "model": "m",
        "field_names": ("a", "b"),
        "history": 4,
        "start": 4,
    }
    return Evaluation(**{**entries, "scores": {"m": one, "persistence": one}, **changes})


def rolled(step=persistence, history=HISTORY, n_steps=2, **options):
    return rollout.rollout(step, history, n_steps, **options)


def returning(value):
    return lambda fields, constants, scalars: value


def written(prediction=None, **changes):
    options = {
        "dataset": "w",
        "field_names": {0: ["a", "b"]},
        "boundary_conditions": [("wall", "wall")] * 2,
    }
    return rollout.write_rollout(
        "rollout.hdf5",
        torch.zeros(1, 4, 2, 6, 5) if prediction is None else prediction,
        **{**options, **changes},
    )


def page(**changes):
    options = {"truth": STATES, "prediction": STATES, "run_info": {}}
    return write_report("report.html", **{"evaluation": scores(), **options, **changes})


def drawn(truth=STATES, prediction=STATES, field_names=NAMES, **options):
    return figures.rollout_figure(truth, prediction, field_names, **options)


def film(**changes):
    options = {"truth": STATES, "prediction": STATES, "field_names": NAMES}
    return films.animation(**{"path": "film.gif", **options, **changes})


def cost(resolution=(32, 32), preset="nano", **options):
    return describe_cost(preset, resolution, **options)


def accuracies(**options):
    return list(accuracy.run(**options))


# Name, call, what the message names.
WRONG = [
    # Rollouts.
    ("n_steps 0", lambda: rolled(n_steps=0), "n_steps"),
    ("n_steps -1", lambda: rolled(n_steps=-1), "n_steps"),
    ("n_steps 2.5", lambda: rolled(n_steps=2.5), "n_steps"),
    ("n_steps text", lambda: rolled(n_steps="3"), "n_steps"),
    ("n_steps true", lambda: rolled(n_steps=True), "n_steps"),
    ("n_steps 1e20", lambda: rolled(n_steps=10**20), "n_steps.*GiB"),
    ("n_steps 1e5000", lambda: rolled(n_steps=10**5000), "n_steps.*GiB"),
    ("history list", lambda: rolled(history=[1, 2]), "history"),
    ("history integer", lambda: rolled(history=HISTORY.int()), "history"),
    ("history complex", lambda: rolled(history=HISTORY.cfloat()), "history"),
    ("history of objects", lambda: rolled(history=np.array([["x"]])), "history"),
    ("history 3-D", lambda: rolled(history=HISTORY[0, 0]), "history"),
    ("history empty", lambda: rolled(history=HISTORY[:, :0]), "history"),
    ("step text", lambda: rolled("model"), "emulator.*'model'"),
    (
        "step gives numpy",
        lambda: rolled(returning(np.zeros((2, 2, 6, 5)))),
        r"next state.*\(2, 2, 6, 5\).*ndarray",
    ),
    ("step gives a tuple", lambda: rolled(returning((U,))), "next state"),
    ("step gives None", lambda: rolled(returning(None)), "next state.*None"),
    ("step gives integers", lambda: rolled(returning(U.long())), "next state.*int64"),
    ("step gives another shape", lambda: rolled(returning(U[:, :1])), "next state"),
    ("step gives another device", lambda: rolled(returning(U.to("meta"))), "next state.*meta"),
    ("constants list", lambda: rolled(constants=[1.0]), "constants"),
    ("constants of another grid", lambda: rolled(constants=torch.zeros(2, 1, 6, 4)), "constants"),
    ("scalars of another batch", lambda: rolled(scalars=torch.zeros(3, 1)), "scalars"),
    (
        "scalars on another device",
        lambda: rolled(scalars=torch.zeros(2, 1, device="meta")),
        "scalars",
    ),
    ("valid of numbers", lambda: rolled(valid=torch.ones(2, 1, 6, 5)), "valid"),
    ("valid without channel", lambda: rolled(valid=torch.ones(2, 6, 5, dtype=torch.bool)), "valid"),
    ("rotation text", lambda: rollout.rotation("pressure_re"), "field_names"),
    ("write_rollout numbers", lambda: written(3), "prediction"),
    (
        "write_rollout without numbers",
        lambda: written(torch.zeros(1, 4, 2, 6, 5, device="meta")),
        "prediction: .*without plain storage",
    ),
    ("write_rollout 3-D", lambda: written(torch.zeros(2, 3, 2)), "prediction"),
    ("write_rollout order 3", lambda: written(field_names={3: ["a", "b"]}), "field_names"),
    ("write_rollout axes", lambda: written(axes=("x",)), "axes"),
    ("write_rollout dataset", lambda: written(dataset=None), "dataset"),
    # Evaluation.
    ("predict tensor", lambda: evaluate.predict(persistence, HISTORY), "trajectory"),
    ("predict start 3.5", lambda: evaluate.predict(persistence, BATCH, 3.5), "start"),
    ("predict start 1e9", lambda: evaluate.predict(persistence, BATCH, 10**9), "start"),
    ("predict None", lambda: evaluate.predict(returning(None), BATCH), "next state"),
    (
        "one_step numpy",
        lambda: evaluate.one_step({"m": returning(np.zeros(3))}, [BATCH]),
        "next state",
    ),
    ("one_step no emulator", lambda: evaluate.one_step({}, [BATCH]), "emulators"),
    ("one_step tensors", lambda: evaluate.one_step({"m": persistence}, [HISTORY]), "batches"),
    (
        "one_step device",
        lambda: evaluate.one_step({"m": persistence}, [BATCH], "cuda:99"),
        "device 'cuda:99'",
    ),
    (
        "roll_out device",
        lambda: evaluate.roll_out({"m": persistence}, [BATCH], device="tpu"),
        "device 'tpu'",
    ),
    ("roll_out list", lambda: evaluate.roll_out([persistence], [BATCH]), "emulators"),
    ("evaluate data", lambda: evaluate.evaluate(persistence, "data"), "data"),
    ("evaluate emulator", lambda: evaluate.evaluate(None, None), "emulator"),
    (
        "average of what holds no numbers",
        lambda: evaluate.average(torch.ones(2, 2, 2, device="meta"), "mean"),
        "values: .*without plain storage",
    ),
    ("average shape", lambda: evaluate.average(np.ones((2, 2)), "mean"), "values"),
    ("average how", lambda: evaluate.average(np.ones((2, 2, 2)), "mode"), "how"),
    ("window 0", lambda: evaluate.Window(0, 3), "first"),
    ("window backwards", lambda: evaluate.Window(5, 3), "last"),
    ("format_score text", lambda: evaluate.format_score("1"), "value"),
    ("format_table dict", lambda: evaluate.format_table({}), "evaluation"),
    (
        "scores without persistence",
        lambda: scores(scores={"m": scores().scores["m"]}),
        "persistence",
    ),
    ("scores of other fields", lambda: scores(field_names=("a",)), "scores of m"),
    ("scores of a field all", lambda: scores(field_names=("a", "all")), "'all'"),
    ("scores history", lambda: scores(history=0), "history"),
    ("scores from []", lambda: Evaluation.from_dict([]), "evaluation"),
    ("scores from null", lambda: Evaluation.from_dict(None), "evaluation"),
    ("scores from {}", lambda: Evaluation.from_dict({}), "evaluation.*'scores'"),
    (
        "scores from text",
        lambda: Evaluation.from_dict({"scores": {"m": {"one_step": "x", "rollout": 1}}}),
        "evaluation",
    ),
    (
        "scores without names",
        lambda: Evaluation.from_dict(scores().to_dict() | {"field_names": None}),
        "field_names",
    ),
    # Run folders.
    ("evaluate_run folder", lambda: evaluate_run.evaluate_run(5), "folder"),
    ("evaluate_run blank", lambda: evaluate_run.evaluate_run(" "), "folder .*' '"),
    ("evaluate_run NUL", lambda: evaluate_run.evaluate_run("a\0b"), "folder"),
    (
        "evaluate_run split",
        lambda: evaluate_run.evaluate_run("runs", split="train"),
        "split 'train'",
    ),
    ("evaluate_run weights", lambda: evaluate_run.evaluate_run("runs", weights="x"), "weights 'x'"),
    ("evaluate_run data", lambda: evaluate_run.evaluate_run("runs", data=3), "data"),
    (
        "evaluate_run meta",
        lambda: evaluate_run.evaluate_run("runs", device="meta"),
        "device 'meta'",
    ),
    ("evaluate_run device 3", lambda: evaluate_run.evaluate_run("runs", device=3), "device 3"),
    (
        "evaluate_run device empty",
        lambda: evaluate_run.evaluate_run("runs", device=""),
        "device ''",
    ),
    ("record split", lambda: evaluate_run.record_rollout("runs", split=["valid"]), "split"),
    (
        "record trajectory -1",
        lambda: evaluate_run.record_rollout("runs", trajectory=-1),
        "trajectory",
    ),
    (
        "record trajectory 1.5",
        lambda: evaluate_run.record_rollout("runs", trajectory=1.5),
        "trajectory",
    ),
    ("record weights", lambda: evaluate_run.record_rollout("runs", weights=None), "weights"),
    ("record pretrained", lambda: evaluate_run.record_pretrained_rollout(None, "."), "system"),
    (
        "record pretrained folder",
        lambda: evaluate_run.record_pretrained_rollout("shear_flow", None),
        "folder",
    ),
    # Metrics.
    ("vrmse numpy", lambda: metrics.vrmse(U.numpy(), U, 2), "prediction"),
    ("vrmse complex", lambda: metrics.vrmse(U, U.cfloat(), 2), "target"),
    ("vrmse axes", lambda: metrics.vrmse(U, U, 4), "spatial"),
    ("vrmse too few axes", lambda: metrics.vrmse(U[0, 0], U[0, 0], 2), "prediction"),
    ("vrmse empty", lambda: metrics.vrmse(U[..., :0], U[..., :0], 2), "prediction"),
    ("vrmse eps", lambda: metrics.vrmse(U, U, 2, eps=-1), "eps"),
    ("vrmse device", lambda: metrics.vrmse(U, U.to("meta"), 2), "target on meta"),
    (
        "vrmse mask of another batch",
        lambda: metrics.vrmse(U, U, 2, valid=torch.ones(3, 1, 6, 5)),
        "mask",
    ),
    ("vrmse mask of lists", lambda: metrics.vrmse(U, U, 2, valid=[1]), "valid"),
    ("nrmse eps", lambda: metrics.nrmse(U, U, 2, eps=math.nan), "eps"),
    ("pearson eps", lambda: metrics.pearson(U, U, 2, eps="x"), "eps"),
    ("linf shape", lambda: metrics.linf(U, U[:1], 2), "one shape"),
    (
        "bins falling",
        lambda: metrics.binned_spectral_mse(U, U, 2, bins=torch.tensor([1.0, 0.0])),
        "bins",
    ),
    ("bins list", lambda: metrics.binned_spectral_mse(U, U, 2, bins=[0, 1]), "bins"),
    ("spectrum axes", lambda: metrics.isotropic_spectrum(U, 0), "spatial"),
    ("spectrum numpy", lambda: metrics.isotropic_spectrum(U.numpy(), 2), "field"),
    ("metric names", lambda: metrics.VRMSE("ab", 2), "field_names"),
    ("metric no names", lambda: metrics.VRMSE([], 2), "field_names"),
    ("metric axes", lambda: metrics.NRMSE(NAMES, "2"), "spatial"),
    ("metric update", lambda: metrics.VRMSE(NAMES, 2).update(U[0, 0], U[0, 0]), "prediction"),
    # Pictures.
    ("figure 2-D", lambda: drawn(STATES[0, 0], STATES[0, 0]), "truth"),
    ("figure empty", lambda: drawn(STATES[:0], STATES[:0]), "truth"),
    ("figure complex", lambda: drawn(STATES.astype(complex)), "truth"),
    ("figure text", lambda: drawn(prediction="x"), "prediction"),
    ("figure ragged", lambda: drawn(prediction=[[1], [1, 2]]), "prediction"),
    ("figure names", lambda: drawn(field_names="ab"), "field_names"),
    ("figure field", lambda: drawn(field="c"), "field"),
    ("figure field 3", lambda: drawn(field=3), "field"),
    (
        "figure long names",
        lambda: drawn(
            np.zeros((3, 200, 4, 4)), np.zeros((3, 200, 4, 4)), ["n" * 4000] * 200, field="c"
        ),
        "field",
    ),
    ("figure step 2.5", lambda: drawn(steps=[2.5]), "steps"),
    ("figure no steps", lambda: drawn(steps=[]), "steps"),
    ("figure too many steps", lambda: drawn(steps=[1] * 9), "steps"),
    ("figure evaluation", lambda: drawn(evaluation={}), "evaluation"),
    ("figure valid", lambda: drawn(valid=np.ones((5, 6), bool)), "valid"),
    ("animation no frames", lambda: film(truth=STATES[:0], prediction=STATES[:0]), "truth"),
    ("animation fields", lambda: film(fields="ab"), "fields"),
    ("animation no fields", lambda: film(fields=[]), "fields"),
    ("animation unknown field", lambda: film(fields=["c"]), "field"),
    ("animation frames 0", lambda: film(frames_per_second=0), "frames_per_second"),
    ("animation first step", lambda: film(first_step=-1), "first_step"),
    ("animation path", lambda: film(path="."), "path"),
    ("save text", lambda: figures.save("figure", "a.png"), "figure"),
    ("save dpi", lambda: figures.save(Figure(), "a.png", dpi=10**6), "dpi"),
    ("training figure", lambda: figures.training_figure(None), "path"),
    ("report evaluation", lambda: page(evaluation=None), "evaluation"),
    ("report run_info", lambda: page(run_info=[]), "run_info"),
    ("report truth", lambda: page(truth=STATES[:, :1]), "truth"),
    ("summary", lambda: summary(None), "evaluation"),
    # Cost, demo, benchmarks.
    ("cost resolution 0", lambda: cost((0, 32)), "resolution"),
    ("cost resolution -8", lambda: cost((-8,)), "resolution"),
    ("cost resolution 1e9", lambda: cost((10**9, 32)), "resolution"),
    ("cost resolution number", lambda: cost(32), "resolution"),
    ("cost four axes", lambda: cost((8, 8, 8, 8)), "resolution"),
    ("cost preset", lambda: cost(preset=["nano"]), "preset"),
    ("cost batch 0", lambda: cost(batch=0), "batch"),
    ("cost batch 1e9", lambda: cost(batch=10**9), "batch"),
    ("cost fields 0", lambda: cost(n_fields=0), "fields"),
    ("cost fields 1e9", lambda: cost(n_fields=10**9), "fields"),
    ("cost flops -1", lambda: cost(flops_per_second=-1.0, bytes_per_second=1.0), "flops"),
    (
        "cost bandwidth nan",
        lambda: cost(flops_per_second=1.0, bytes_per_second=math.nan),
        "bandwidth",
    ),
    ("demo system", lambda: demo("atlantis"), "system 'atlantis'"),
    ("demo size", lambda: demo(size="huge"), "size 'huge'"),
    ("demo threads", lambda: demo(threads=0), "threads"),
    ("demo more threads than there can be", lambda: demo(threads=100_000), "threads .* to "),
    ("demo train", lambda: demo(train=5), "train"),
    ("speed part", lambda: speed.run(["nonsense"]), "part 'nonsense'"),
    ("speed text", lambda: speed.run("reader"), "parts"),
    ("speed threads", lambda: speed.run(["startup"], threads=0), "threads"),
    ("speed 1000 threads", lambda: speed.run(["startup"], threads=100_000), "threads .* to "),
    ("accuracy stage", lambda: accuracies(stages=["warm"]), "stage 'warm'"),
    ("accuracy model", lambda: accuracies(models=["Transolver"]), "model 'Transolver'"),
    ("accuracy system", lambda: accuracies(systems=["atlantis"]), "system 'atlantis'"),
    ("accuracy reference", lambda: accuracies(reference="x"), "model 'x'"),
    ("accuracy minutes", lambda: accuracies(minutes=math.nan), "minutes"),
    ("accuracy processes", lambda: accuracies(processes=1.5), "processes"),
    ("accuracy seeds", lambda: accuracies(seeds=[-1]), "seeds"),
    ("accuracy best_lr", lambda: accuracy.best_lr("x", "."), "model 'x'"),
    ("contestant", lambda: entries.build("x", None, 0), "model 'x'"),
    ("rival", lambda: baselines.rival("x", 1, 1, (8, 8)), "model 'x'"),
    ("scaling preset", lambda: scaling.measure(preset="x"), "preset 'x'"),
    ("scaling one side", lambda: scaling.measure(sides=(64,)), "sides"),
    ("scaling exponent", lambda: scaling.exponent([1.0], [1.0]), "sizes"),
    ("solvers system", lambda: solvers.measure(("atlantis",)), "system 'atlantis'"),
    ("solvers size", lambda: solvers.measure(size="huge"), "size 'huge'"),
    ("inference preset", lambda: inference.measure(presets=("x",)), "preset 'x'"),
    ("inference side", lambda: inference.prediction("nano", 0), "side"),
    ("training batches", lambda: training.measure({}), "batches"),
    ("training preset", lambda: training.wavelit_model("x"), "preset 'x'"),
    ("compiled batch", lambda: compiled.measure(batch=0), "batch"),
    ("timing cases", lambda: timing.medians({}), "cases"),
    ("timing rounds", lambda: timing.medians({"a": int}, rounds=0), "rounds"),
    ("timing rows", lambda: timing.write_rows("a.csv", []), "rows"),
]


@pytest.mark.parametrize(
    ("call", "named"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG]
)
def test_a_wrong_call_is_one_line_that_names_the_argument(call, named, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WavelitError, match=named) as caught:
        call()
    message = str(caught.value)
    assert len(message) < 400
    assert message.isprintable()
    assert list(tmp_path.iterdir()) == []


def test_what_an_error_shows_is_short():
    assert arguments.shown(torch.zeros(2, 3)) == "Tensor torch.float32 (2, 3)"
    assert arguments.shown(object()) == "a object"
    assert arguments.shown("\x1b[31m\n") == r"'\x1b[31m\n'"
    assert arguments.listed(str(n) for n in range(1000)).endswith(" and 948 more")
    assert arguments.require_whole("n", np.int64(3)) == 3
    assert arguments.require_device(torch.device("cpu")) == "cpu"


@pytest.mark.parametrize(
    "path", ["file:///dev/zero", "s3://bucket/run", Path("file:///dev/zero"), Path("s3://bucket")]
)
def test_an_address_is_no_path_to_write_to(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WavelitError, match="must be a path on this machine, not the address"):
        generate("shear_flow", "tiny", path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(WavelitError, match="run must be a path on this machine, not the address"):
        arguments.require_path("run", path)
    assert arguments.require_path("run", "a:b").name == "a:b"


@pytest.mark.parametrize("values", [[None], ["a", None], [1], "ab", None])
def test_names_are_texts(values):
    with pytest.raises(WavelitError, match="names must be a list of names"):
        arguments.require_names("names", values)
