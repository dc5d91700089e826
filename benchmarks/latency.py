"""What pruning saves of the time for one clip: every round of a system in `models/`, measured in turns on one thread.

    python benchmarks/latency.py [models/enf_pnao] [--turns 60]
    python benchmarks/latency.py --real-size     # networks of MER 2023's widths with random weights, nodes drawn

A call runs all fold networks of a round on one clip of random features, as a prediction does: in torch, and exported by
`mer export` in ONNX Runtime. All of them take turns, so that whatever else the machine does meets all alike. Printed
are the medians, the middle half of torch's turns, the medians as shares of round 0's, and the exported file's size.
"""

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import onnxruntime
import torch
import typer

from mer_pnao.commands.onnx_export import NETWORK, export_onnx
from mer_pnao.foundations.console import input_errors, narrow_table, plain_console
from mer_pnao.foundations.errors import InputError
from mer_pnao.network.blueprint import Blueprint, NetworkConfig
from mer_pnao.network.emotion_network import EmotionNetwork
from mer_pnao.outs.networks import RoundModel, read_round
from mer_pnao.outs.record import round_directories

_CALLS = 5  # of a turn, of which the fastest counts


def milliseconds(call: Callable[[], object]) -> float:
    """The fastest of a turn's calls."""
    times = []
    for _ in range(_CALLS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1000 * min(times)


def in_torch(model: RoundModel, clip: dict[str, torch.Tensor]) -> Callable[[], object]:
    """A call of all fold networks."""
    return lambda: [network(clip) for network in model.networks]


def exported(model: RoundModel, clip: dict[str, torch.Tensor]) -> tuple[Callable[[], object], int]:
    """A call of the exported file on one thread, and its bytes."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    with TemporaryDirectory() as folder:
        export_onnx(model, "", Path(folder))
        file = (Path(folder) / NETWORK).read_bytes()
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    vectors = {name: values.numpy() for name, values in clip.items()}
    return lambda: session.run(None, vectors), len(file)


def of_real_size() -> list[RoundModel]:
    """Five networks as `profiles/mer2023.yaml` has them, and with .7 to .3 of each hidden layer's nodes."""
    widths = {"hubert-18": 1024, "hubert-19": 1024, "hubert-20": 1024, "manet": 1024, "resnet": 512}
    config = NetworkConfig(hidden=256, width=128)
    blueprint = Blueprint(widths, tuple(widths)[:3], tuple(widths)[3:], 6, "entropy", config)
    layers = EmotionNetwork(blueprint).kept()
    models = []
    for number, share in enumerate((1.0, 0.7, 0.5, 0.3)):
        kept = {name: torch.randperm(len(n))[: round(share * len(n))].sort().values for name, n in layers.items()}
        networks = tuple(EmotionNetwork(blueprint, kept).eval() for _ in range(5))
        models.append(RoundModel("random", number, blueprint, tuple("abcdef"), networks))
    return models


def main(
    system: Annotated[Path, typer.Argument(help="A folder with rounds.")] = Path("models/enf_pnao"),
    turns: Annotated[int, typer.Option(min=3, help="Turns of all rounds.")] = 60,
    real_size: Annotated[bool, typer.Option("--real-size", help="Random networks of MER 2023's widths.")] = False,
) -> None:
    """Print the latency of each round."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    folders = round_directories(system)
    if not folders and not real_size:
        raise InputError(f"{system} holds no finished round: run `make run` first")
    models = of_real_size() if real_size else [read_round(folder) for folder in folders]
    clip = {name: torch.randn(1, width) for name, width in models[0].blueprint.widths.items()}
    files = [exported(model, clip) for model in models]
    calls = [*(in_torch(model, clip) for model in models), *(call for call, _ in files)]
    with torch.inference_mode():
        for call in calls:  # the first calls are slower
            milliseconds(call)
        times = np.array([[milliseconds(call) for call in calls] for _ in range(turns)])
    low, median, high = np.percentile(times, [25, 50, 75], axis=0)
    table = narrow_table(["Round", "Parameters", "torch, ms", "middle half", "to 0", "ONNX, ms", "to 0", "file, MB"])
    for i, model in enumerate(models):
        parameters, o = sum(weight.numel() for weight in model.networks[0].parameters()), len(models)
        in_torch_ms = (f"{median[i]:.2f}", f"{low[i]:.2f}-{high[i]:.2f}", f"{median[i] / median[0]:.2f}")
        in_onnx = (f"{median[o + i]:.3f}", f"{median[o + i] / median[o]:.2f}", f"{files[i][1] / 1e6:.2f}")
        table.add_row(str(model.number), f"{parameters:,}", *in_torch_ms, *in_onnx)
    plain_console().print(table)


if __name__ == "__main__":
    with input_errors():
        typer.run(main)
