"""A latency is measured once for a machine and an architecture, and remembered.

Every other figure of a run repeats to the last digit on the same machine, so a table of rounds can be compared byte
by byte between two runs; a fresh measurement in each would break that and tell nothing new. The measurements lie in
`work/latency/`; deleting it measures anew.
"""

import hashlib
import json
import platform
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from mer_pnao.foundations.files import read_json, work_folder, write_json
from mer_pnao.outs.networks import RoundModel


def remembered_latency_ms(model: RoundModel, clip: dict[str, Tensor]) -> float:
    """Milliseconds for the model, all folds on one thread, to predict one clip; rounded to a microsecond."""
    shapes = [{name: list(value.shape) for name, value in n.state_dict().items()} for n in model.networks]
    machine = [platform.machine(), _processor(), torch.__version__]
    facts = json.dumps([machine, shapes, asdict(model.blueprint)], sort_keys=True)
    path = work_folder() / "latency" / f"{hashlib.sha256(facts.encode()).hexdigest()[:32]}.json"
    try:
        return float(read_json(path)["latency_ms"])
    except (ValueError, KeyError):
        measured = round(latency_ms(model.networks, clip), 3)
    with suppress(OSError):  # a folder that cannot be written to: the figure is measured each time
        write_json(path, {"latency_ms": measured})
    return measured


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


def parameters(network: nn.Module) -> int:
    """The number of trainable parameters (buffers, such as z-score statistics, are not counted)."""
    return sum(parameter.numel() for parameter in network.parameters())


def latency_ms(networks: Sequence[nn.Module], clip: Mapping[str, Tensor], repeats: int = 60) -> float:
    """Milliseconds on one thread for all the networks of a model to predict one clip.

    `clip` holds each set's features (1, width). The fastest of the repeats, which other load on the machine disturbs
    least; still a measurement, which differs a little from one call to the next.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            times = []
            for _ in range(repeats):
                start = time.perf_counter()
                for network in networks:
                    network(clip)
                times.append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    return 1000 * min(times)
