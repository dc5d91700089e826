"""What pruning saves of the time for one clip: every round of a system in `models/`, measured in turns on one thread.

    python benchmarks/latency.py [models/enf_pnao] [--turns 60]

A call runs all fold networks of a round on one clip of random features, as a prediction does. The rounds take turns,
so that whatever else the machine does meets all of them alike. Printed are the median and the middle half of the
turns, and the median as a share of round 0's.
"""

import time
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from mer_pnao.foundations.console import input_errors, narrow_table, plain_console
from mer_pnao.foundations.errors import InputError
from mer_pnao.outs.networks import RoundModel, read_round
from mer_pnao.outs.record import Record, round_directories

_CALLS = 5  # of a turn, of which the fastest counts


def milliseconds(model: RoundModel, clip: dict[str, torch.Tensor]) -> float:
    """The fastest of a turn's calls."""
    times = []
    for _ in range(_CALLS):
        start = time.perf_counter()
        for network in model.networks:
            network(clip)
        times.append(time.perf_counter() - start)
    return 1000 * min(times)


def main(
    system: Annotated[Path, typer.Argument(help="A folder with rounds.")] = Path("models/enf_pnao"),
    turns: Annotated[int, typer.Option(min=3, help="Turns of all rounds.")] = 60,
) -> None:
    """Print the latency of each round."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    folders = round_directories(system)
    if not folders:
        raise InputError(f"{system} holds no finished round: run `make run` first")
    models = [read_round(folder) for folder in folders]
    clip = {name: torch.randn(1, width) for name, width in models[0].blueprint.widths.items()}
    with torch.inference_mode():
        for model in models:  # the first calls are slower
            milliseconds(model, clip)
        times = np.array([[milliseconds(model, clip) for model in models] for _ in range(turns)])
    low, median, high = np.percentile(times, [25, 50, 75], axis=0)
    table = narrow_table(["Round", "Parameters", "ms a clip", "middle half", "to round 0"])
    for i, folder in enumerate(folders):
        record = Record.read(folder)
        cells = [f"{record.parameters:,}", f"{median[i]:.2f}", f"{low[i]:.2f} to {high[i]:.2f}"]
        table.add_row(str(record.number), *cells, f"{median[i] / median[0]:.2f}")
    plain_console().print(table)


if __name__ == "__main__":
    with input_errors():
        typer.run(main)
