"""`wavelit info` and `wavelit benchmark`: what models cost and how well they do."""

from __future__ import annotations

from typing import Any

from wavelit.cli.output import print_lines
from wavelit.cli.words import refuse_given

__all__ = ["benchmark_accuracy", "benchmark_accuracy2", "benchmark_speed", "info"]


def info(parser: Any, words: list[str]) -> None:
    parser.add_argument(
        "--preset", type=str | None, default=None, help="say what this preset costs"
    )
    parser.add_argument(
        "--joint",
        type=str | None,
        default=None,
        help="joint run or weights folder: what its systems share",
    )
    parser.add_argument(
        "--resolution",
        type=int,
        nargs="+",
        default=None,
        help="points per axis; 64 along each if absent",
    )
    parser.add_argument("--fields", type=int, default=4, help="field channels")
    parser.add_argument("--batch", type=int, default=1, help="samples of a step")
    parser.add_argument(
        "--flops",
        type=float | None,
        default=None,
        help="sustained FLOP/s of another device, for an estimate",
    )
    parser.add_argument(
        "--bandwidth", type=float | None, default=None, help="its memory bandwidth in bytes/s"
    )
    parser.add_argument(
        "--device-name",
        type=str | None,
        default=None,
        help="another device by name, for an estimate: h100, h200, a100, l40s, rtx4090",
    )
    options = parser.parse_args(words)
    estimate = ("fields", "batch", "flops", "bandwidth", "device_name")
    if options.joint is not None:
        refuse_given(parser, options, ("preset", *estimate), "says nothing of a joint model")
        _print_shares(options.joint, options.resolution)
    elif options.preset is not None:
        from wavelit.cost import describe_cost

        resolution = options.resolution or [64, 64]
        told = (options.fields, options.batch, options.flops, options.bandwidth)
        print(describe_cost(options.preset, resolution, *told, options.device_name))
    else:
        refuse_given(parser, options, ("resolution", *estimate), "needs --preset or --joint")
        _print_versions()


def _print_shares(name: str, resolution: list[int] | None) -> None:
    """What the systems of a joint model share."""
    from wavelit.cost import describe_shares
    from wavelit.model.foundation import JointWaveLiT
    from wavelit.model.pretrained import shipped

    model = JointWaveLiT.from_pretrained(shipped(name) or name)
    print_lines(describe_shares(model, resolution or [64] * model.config.architecture.spatial))


def _print_versions() -> None:
    """Versions, devices and presets."""
    import os
    import platform

    import torch

    from wavelit import __version__
    from wavelit.model.config import PRESETS, WaveLiTConfig
    from wavelit.model.joint_config import JOINT_PRESETS
    from wavelit.model.wavelit import WaveLiT

    print(f"wavelit {__version__}, torch {torch.__version__}, Python {platform.python_version()}")
    cuda = (
        ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())) or "none"
    )
    print(f"{os.cpu_count()} CPUs, {torch.get_num_threads()} threads, CUDA devices: {cuda}")
    print("presets, parameters for 4 fields and 4 steps in 2-D:")
    for name in PRESETS:
        config = WaveLiTConfig.preset(name, n_fields=4)
        with torch.device("meta"):
            count = sum(p.numel() for p in WaveLiT(config).parameters())
        print(
            f"  {name:5s} {count / 1e6:6.2f}M  E {config.embed_dim}, {config.num_heads} heads, "
            f"{config.depth} blocks"
        )
    print(f"joint presets: {', '.join(JOINT_PRESETS)}; what one's systems share: --joint FOLDER")


def benchmark_speed(parser: Any, words: list[str]) -> None:
    parser.add_argument(
        "parts", nargs="*", default=[], help="parts to measure; all if none is named"
    )
    parser.add_argument(
        "--output", type=str, default="results/speed", help="folder of the CSV files"
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument(
        "--keep_memory", type=bool, default=True, help="keep freed memory, as other commands do"
    )
    options = parser.parse_args(words)
    from wavelit.benchmarks.speed import run

    for path in run(options.parts, options.output, options.threads, options.keep_memory):
        print_lines(path)


def benchmark_accuracy2(parser: Any, words: list[str]) -> None:
    parser.add_argument(
        "stages", nargs="*", default=[], help="rates, lr, final; all in turn if none is named"
    )
    for name, kind, default, meaning in (
        ("models", str, [], "contestants; those of the second protocol if absent"),
        ("systems", str, [], "of PocketWell; the eight if absent"),
        ("seeds", int, [0], "seeds of the final runs"),
    ):
        parser.add_argument(f"--{name}", type=kind, nargs="+", default=default, help=meaning)
    parser.add_argument("--minutes", type=float, default=5.0, help="core-minutes of a final run")
    for name, place, meaning in (
        ("output", "results/accuracy2", "folder of the results"),
        ("root", "datasets/pocketwell/small", "folder of the datasets"),
        ("weights", "runs/accuracy2", "folder of the run folders"),
    ):
        parser.add_argument(f"--{name}", type=str, default=place, help=meaning)
    parser.add_argument(
        "--tuning",
        type=str | None,
        default=None,
        help="folder whose rates and learning rates are taken; --output if absent",
    )
    options = vars(parser.parse_args(words))
    from wavelit.benchmarks.protocol import STAGES
    from wavelit.benchmarks.second import run

    for path in run(options.pop("stages") or STAGES, **options):
        print_lines(path)


def benchmark_accuracy(parser: Any, words: list[str]) -> None:
    parser.add_argument(
        "stages", nargs="*", default=[], help="rates, lr, final; all in turn if none is named"
    )
    parser.add_argument(
        "--models", type=str, nargs="+", default=[], help="contestants; all if absent"
    )
    parser.add_argument(
        "--systems", type=str, nargs="+", default=[], help="of PocketWell; the eight if absent"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds of the final runs")
    parser.add_argument("--minutes", type=float, default=5.0, help="core-minutes of a final run")
    parser.add_argument(
        "--output", type=str, default="results/accuracy", help="folder of the results"
    )
    parser.add_argument(
        "--root", type=str, default="datasets/pocketwell/small", help="folder of the datasets"
    )
    parser.add_argument(
        "--weights", type=str, default="runs/accuracy", help="folder of the trained weights"
    )
    parser.add_argument(
        "--processes", type=int, default=1, help="runs side by side, one thread each"
    )
    parser.add_argument(
        "--tuning",
        type=str | None,
        default=None,
        help="folder whose rates and learning rates are taken; --output if absent",
    )
    parser.add_argument(
        "--reference", type=str, default="WaveLiT", help="who rates are measured in turns with"
    )
    options = vars(parser.parse_args(words))
    from wavelit.benchmarks.accuracy import run
    from wavelit.benchmarks.protocol import STAGES

    for path in run(options.pop("stages") or STAGES, **options):
        print_lines(path)
