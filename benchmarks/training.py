"""How fast Table 1 is trained at the size of MER 2023, against a plain loop that does the same updates.

    python benchmarks/training.py [--epochs 8] [--repeats 3]   # an epoch of the five folds, both ways, and the ratio
    python benchmarks/training.py --table1 [--precision bf16]  # all of Table 1: its time, and the time of each round

2698 clips, three acoustic sets of 1024, visual sets of 1024 and 2048, six emotions and a valence; a fold trains on four
fifths of the clips, batch 32, hidden 256, D 128. The features can be learnt: each emotion has places of its own in some
dimensions, of which every set is a random map plus noise. So a training has a length, as on a real corpus.

Speed is also told as a share of what the processor can do at all: the matrix products of a training, counted by torch,
a second, against the fastest product of two large matrices, measured here.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import get_args

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from mer_pnao.foundations.parallel import parallel_map, usable_cores
from mer_pnao.foundations.placement import number_type
from mer_pnao.foundations.precision import Precision
from mer_pnao.network.blueprint import Blueprint, NetworkConfig
from mer_pnao.network.emotion_network import EmotionNetwork
from mer_pnao.pruning.config import PnaoConfig
from mer_pnao.pruning.pnao import optimise_in_step
from mer_pnao.pruning.rounds import FoldResult, MapFolds, Optimisation, Round
from mer_pnao.training.config import TrainingConfig
from mer_pnao.training.examples import Examples
from mer_pnao.training.fit import fit, score_of, warm_cosine
from mer_pnao.training.folds import make_folds
from mer_pnao.training.objective import UncertaintyWeights, emotion_loss, uncertainty_weighted, valence_loss

CLIPS, CLASSES = 2698, 6
WIDTHS = {"hubert-18": 1024, "hubert-19": 1024, "hubert-20": 1024, "manet": 1024, "resnet": 2048}
ACOUSTIC, VISUAL = ("hubert-18", "hubert-19", "hubert-20"), ("manet", "resnet")
BLUEPRINTS = [
    Blueprint(WIDTHS, ACOUSTIC, VISUAL, CLASSES, fusion, NetworkConfig()) for fusion in ("attention", "entropy")
]
ALPHA = 1e-4


LATENT, WAYS = 32, 6  # dimensions that a clip shows in; ways to show one emotion


def corpus(clips: int = CLIPS, seed: int = 0) -> Examples:
    """Features that can be learnt, though not at once: an emotion has several places, among those of the others."""
    random = np.random.default_rng(seed)
    emotion, way = random.integers(CLASSES, size=clips), random.integers(WAYS, size=clips)
    valence = (random.normal(size=CLASSES)[emotion] + 0.5 * random.normal(size=clips)).astype(np.float32)
    shown = random.normal(size=(CLASSES, WAYS, LATENT))[emotion, way] + 0.3 * valence[:, None] * random.normal(
        size=LATENT
    )
    features = {}
    for name, width in WIDTHS.items():
        seen = shown + 1.5 * random.normal(size=shown.shape)  # each set sees the clip in its own way
        noise = random.standard_normal((clips, width), dtype=np.float32)
        features[name] = (seen @ random.normal(size=(LATENT, width)) / LATENT**0.5).astype(np.float32) + noise
    return Examples(tuple(map(str, range(clips))), features, emotion, valence, None, CLASSES)


class Clips(Dataset[tuple[dict[str, Tensor], Tensor, Tensor]]):
    """One clip at a time, as a tutorial would have it."""

    def __init__(self, examples: Examples) -> None:
        self.features, self.emotion = examples.tensors(), torch.tensor(examples.emotion)
        self.valence = torch.tensor(examples.valence)

    def __len__(self) -> int:
        return len(self.emotion)

    def __getitem__(self, clip: int) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        return {name: values[clip] for name, values in self.features.items()}, self.emotion[clip], self.valence[clip]


def naive_fit(
    network: EmotionNetwork, train: Examples, validation: Examples, config: TrainingConfig, alpha: float, seed: int
) -> None:
    """The same updates as `fit`'s: a DataLoader, z-scores of each batch, L1 in the graph, an unfused optimiser."""
    torch.manual_seed(seed)
    loader = DataLoader(Clips(train), config.batch, shuffle=True, drop_last=True)
    uncertainty = UncertaintyWeights(train.has_valence)
    matrices = network.weight_matrices()
    others = [parameter for parameter in network.parameters() if parameter.ndim < 2]
    optimiser = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": config.weight_decay},
            {"params": [*others, *uncertainty.parameters()], "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
        fused=False,
        foreach=False,
    )
    held_out = validation.tensors()
    step, steps = 0, config.epochs * len(loader)
    for _ in range(config.epochs):
        network.train()
        for features, emotion, valence in loader:
            for group in optimiser.param_groups:
                group["lr"] = warm_cosine(step, steps, config)
            prediction = network(features)
            loss = uncertainty_weighted(
                emotion_loss(prediction, emotion), valence_loss(prediction, valence), *uncertainty()
            )
            loss = loss + alpha * sum(matrix.abs().sum() for matrix in matrices)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            step += 1
        network.eval()
        with torch.no_grad():
            score_of(network(held_out), validation)


def same_updates(examples: Examples) -> float:
    """The largest difference of a weight after a few steps of both, without dropout and with the batches in order."""
    config = TrainingConfig(epochs=1, batch=32, weight_decay=0.01)
    blueprint = replace(BLUEPRINTS[1], config=replace(BLUEPRINTS[1].config, dropout=0.0))
    few = examples.select(np.arange(5 * config.batch))
    networks = []
    for _ in range(2):
        torch.manual_seed(0)
        network = EmotionNetwork(blueprint)
        network.fit_zscore(few.tensors())
        networks.append(network)
    ours, naive = networks
    # Both shuffle in their own way; the naive loop is handed the order that fit draws from its seed.
    order = np.random.default_rng(0).permutation(len(few))
    fitted = fit(ours, few, few, config, ALPHA, seed=0)
    with in_order():
        naive_fit(naive, few.select(order), few, config, ALPHA, seed=0)
    return max(float((fitted.state[name] - value).abs().max()) for name, value in naive.state_dict().items())


@contextmanager
def in_order() -> Iterator[None]:
    """Let a DataLoader hand out its clips in their order."""
    shuffled = torch.randperm
    torch.randperm = lambda n, **_: torch.arange(n)  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.randperm = shuffled


def naive_epochs(examples: Examples, folds: np.ndarray, config: TrainingConfig) -> None:
    """Both systems, their first folds alone, with all cores for each operation: the others would take as long."""
    for blueprint in BLUEPRINTS:
        torch.manual_seed(0)
        network = EmotionNetwork(blueprint)
        train = examples.select(np.flatnonzero(folds != 0))
        network.fit_zscore(train.tensors())
        naive_fit(network, train, examples.select(np.flatnonzero(folds == 0)), config, ALPHA, seed=0)


def our_epochs(examples: Examples, folds: np.ndarray, config: TrainingConfig, run: MapFolds) -> None:
    """Both systems in step, their folds in parallel processes with one thread each, as the stages do."""
    pnao = PnaoConfig(alpha=ALPHA, rounds=0)
    both = [Optimisation(blueprint, examples, folds, config, pnao, 0) for blueprint in BLUEPRINTS]
    for _ in optimise_in_step(both, Forgetful(), run):
        pass


def seconds(work: Callable[[], None]) -> float:
    """Wall time of the work."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


class Forgetful:
    """A round store that holds nothing, so that every round is trained."""

    def load(self, key: str) -> None:
        """Nothing is remembered."""

    def save(self, key: str, folds: tuple[FoldResult, ...]) -> None:
        """Nothing is kept."""


def peak(threads: int) -> float:
    """The fastest float32 product of two large matrices, GFLOP a second."""
    size, before = 2048, torch.get_num_threads()
    torch.set_num_threads(threads)
    one, other = torch.randn(size, size), torch.randn(size, size)
    fastest = min(seconds(lambda: one @ other) for _ in range(8))
    torch.set_num_threads(before)
    return 2 * size**3 / fastest / 1e9


def gflop_a_clip(examples: Examples, config: TrainingConfig) -> float:
    """The matrix products of one clip's part in an update, forward and backward, mean of both systems."""
    batch = {name: values[: config.batch] for name, values in examples.tensors().items()}
    with FlopCounterMode(display=False) as counter:
        for blueprint in BLUEPRINTS:
            prediction = EmotionNetwork(blueprint)(batch)
            (prediction.posterior.log().sum() + prediction.valence.sum()).backward()
    return counter.get_total_flops() / len(BLUEPRINTS) / config.batch / 1e9


def compare(epochs: int, repeats: int, console: Console) -> None:
    """Both ways, in turns; the medians, their ratio, and what they reach of the processor's peak."""
    console.print("making the clips ...")
    examples = corpus()
    folds = make_folds(examples.emotion, None, 5, 0)
    config = TrainingConfig(epochs=epochs, patience=epochs)
    console.print(f"largest weight difference after five equal steps: {same_updates(examples):.1e}")
    run, cores = parallel_map(usable_cores()), usable_cores()
    peaks = [peak(threads) for threads in dict.fromkeys((1, cores))]
    told = f"{peaks[0]:.0f} GFLOP/s on one thread, {peaks[-1]:.0f} on {cores}"
    console.print(f"float32 matrix products, the most: {told}")
    # Start the processes with real work: loky takes later growth beyond a first task for a leak, and starts new ones.
    console.print("starting the processes with a short training ...")
    our_epochs(examples, np.arange(CLIPS) % max(2, cores), replace(config, epochs=1), run)
    clips = int(sum((folds != fold).sum() for fold in range(5)))
    naive_clips = int((folds != 0).sum())
    ways: dict[str, tuple[int, Callable[[], None]]] = {
        "naive loop": (naive_clips, lambda: naive_epochs(examples, folds, config)),
        "this project, fp32": (clips, lambda: our_epochs(examples, folds, config, run)),
    }
    if multiplies_in_bf16():
        half = replace(config, precision="bf16")
        ways["this project, bf16"] = (clips, lambda: our_epochs(examples, folds, half, run))
    speeds: dict[str, list[float]] = {way: [] for way in ways}
    for repeat in range(repeats):
        for way, (trained, work) in ways.items():
            console.print(f"repeat {repeat + 1} of {repeats}: {way} ...")
            speeds[way].append(len(BLUEPRINTS) * trained * epochs / seconds(work))
            console.print(f"  {speeds[way][-1]:.0f} clips/s")
    title = "s an epoch of two systems' five folds"
    table = Table("way", "clips/s, median", "all", title, "ratio", f"of the peak on {cores} threads")
    medians = {way: statistics.median(each) for way, each in speeds.items()}
    gflop = gflop_a_clip(examples, config)
    for way, each in speeds.items():
        shown = " ".join(f"{speed:.0f}" for speed in each)
        epoch = f"{len(BLUEPRINTS) * clips / medians[way]:.2f}"
        ratio = f"{medians[way] / medians['naive loop']:.2f}"
        table.add_row(way, f"{medians[way]:.0f}", shown, epoch, ratio, f"{medians[way] * gflop / peaks[-1]:.0%}")
    console.print(table)


def table1(rounds: int, precision: Precision, console: Console) -> None:
    """Train the dense systems and ten rounds of PNAO with both fusions, as `dvc repro` does."""
    examples = corpus()
    folds = make_folds(examples.emotion, None, 5, 0)
    run = parallel_map(usable_cores())
    config = TrainingConfig(precision=precision)
    table = Table("round", "s, both fusions", "epochs", "ms a step", "parameters", "Com out of fold, each")
    start = time.perf_counter()
    for pnao in (PnaoConfig(alpha=0.0, rounds=0), PnaoConfig(rounds=rounds)):
        before = time.perf_counter()
        both = [Optimisation(blueprint, examples, folds, config, pnao, 0) for blueprint in BLUEPRINTS]
        of_round: list[Round] = []
        for _, finished in optimise_in_step(both, Forgetful(), run):
            of_round.append(finished)
            if len(of_round) < len(both):
                continue
            now = time.perf_counter()
            epochs = sum(len(fold.curves) for each in of_round for fold in each.folds)
            steps = epochs * (CLIPS * 4 // 5 // 32)
            networks = [network for each in of_round for network in each.networks()]
            size = np.mean([sum(p.numel() for p in network.parameters()) for network in networks])
            table.add_row(
                str(finished.number) if pnao.rounds else "dense",
                f"{now - before:.1f}",
                str(epochs),
                f"{1000 * (now - before) * usable_cores() / steps:.1f}",
                f"{size / 1e6:.2f} M",
                ", ".join(f"{each.scores.com:.3f}" for each in of_round),
            )
            console.print(f"round {finished.number}: {now - start:.0f} s so far", style="dim")
            before, of_round = now, []
    console.print(table)
    console.print(f"Table 1: {(time.perf_counter() - start) / 60:.1f} min on {usable_cores()} cores")


def multiplies_in_bf16() -> bool:
    """Whether the processor has such an instruction; without it bf16 takes many times as long as fp32."""
    return number_type("auto", torch.device("cpu")) == torch.bfloat16


def main() -> None:
    """Say what it runs on, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--table1", action="store_true")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--precision", choices=get_args(Precision), default="fp32", help="of Table 1")
    asked = parser.parse_args()
    console = Console()
    console.print(f"{platform.machine()}, {usable_cores()} cores, torch {torch.__version__}")
    if not multiplies_in_bf16():
        console.print("this processor does not multiply in bfloat16, so bf16 is left out")
    if asked.table1:
        if asked.precision == "bf16" and not multiplies_in_bf16():
            parser.error("this processor does not multiply in bfloat16")
        table1(asked.rounds, asked.precision, console)
    else:
        compare(asked.epochs, asked.repeats, console)


if __name__ == "__main__":
    main()
