"""What the outputs are called, for those who write them and those who only read them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class SystemSpec:
    """A row of Table 1."""

    name: str  # of its folder below models/ and of its rows in the tables
    title: str  # for people
    kind: Literal["probe", "dense", "pruned", "mixed"]  # pruned: shrunk by Algorithm 1; mixed: of other systems
    fusion: Literal["attention", "entropy", "mean"] | None = None  # of the branches of a network of its own


PROBE, BASELINE, FINAL = "linear_probe", "baseline", "final"
_TABLE = (
    SystemSpec(PROBE, "Linear probe", "probe"),
    SystemSpec(BASELINE, "Baseline", "dense", "attention"),
    SystemSpec("enf", "EnF", "dense", "entropy"),
    SystemSpec("pnao", "PNAO", "pruned", "attention"),
    SystemSpec("enf_pnao", "EnF + PNAO", "pruned", "entropy"),
    SystemSpec(FINAL, "Final", "mixed"),
)
_CONTROL = SystemSpec("mean_fusion", "Mean fusion", "dense", "mean")  # of EnF and of the baseline: no fusion at all
MEAN_FUSION = _CONTROL.name
SYSTEMS = tuple(each.name for each in _TABLE)  # the rows of Table 1, in order
TITLES = {each.name: each.title for each in (*_TABLE, _CONTROL)}
FUSION = {each.name: each.fusion for each in (*_TABLE, _CONTROL) if each.fusion}
DENSE = tuple(each.name for each in _TABLE if each.kind == "dense")
PRUNED = tuple(each.name for each in _TABLE if each.kind == "pruned")
MEMBERS = PRUNED  # of the final system
REGISTERED = PRUNED  # whose rounds become versions

RECORD = "record.json"  # settings and outcome of a round or of a system without rounds, the last file to be written
CONFIG = "config.json"  # of the networks beside it, or of what the final system mixes
ENCODERS = "encoders.json"  # what made the features that the networks read
NOVELTY = "novelty.safetensors"  # what the training clips' features are like
CURVES, WEIGHTS = "curves.csv", "weights.csv"  # the figures of every epoch; Figure 4's histogram
PREDICTIONS, BRANCHES = "predictions.csv", "branches.csv"  # joint decisions, and the branches' posteriors beside them
POSTERIOR, WEIGHT = "posterior_", "weight_"  # prefixes of predictions.csv's columns, before a label or a branch
TRAINVAL = "trainval"  # the split of the training clips, each predicted by the fold that it was held out of
_SEED = "seed-"


def seed_folder(system: Path, seed: int) -> Path:
    """Where a system's folder holds what a further seed made of it; the first seed's lies in the folder itself."""
    return system / f"{_SEED}{seed}"


def further_seeds(system: Path) -> dict[int, Path]:
    """The folders of the further seeds of a system's folder, by seed."""
    folders = {path.name.removeprefix(_SEED): path for path in system.glob(f"{_SEED}*") if path.is_dir()}
    return dict(sorted((int(seed), path) for seed, path in folders.items() if seed.isdecimal()))


def is_further_seed(folder: Path) -> bool:
    """Whether a folder is one of a system's further seeds, and not the system's own."""
    return folder.name.startswith(_SEED)
