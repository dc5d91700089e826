"""What the outputs are called, for those who write them and those who only read them."""

from pathlib import Path

SYSTEMS = ("linear_probe", "baseline", "enf", "pnao", "enf_pnao", "final")  # the rows of Table 1, in order
POSTERIOR, WEIGHT = "posterior_", "weight_"  # prefixes of predictions.csv's columns, before a label or a branch
PREDICTIONS, BRANCHES = "predictions.csv", "branches.csv"  # joint decisions, and the branches' posteriors beside them
TITLES = {
    "linear_probe": "Linear probe",
    "baseline": "Baseline",
    "enf": "EnF",
    "pnao": "PNAO",
    "enf_pnao": "EnF + PNAO",
    "final": "Final",
}
REGISTERED = ("pnao", "enf_pnao")  # the systems whose rounds become versions
FUSION = {"baseline": "attention", "enf": "entropy", "pnao": "attention", "enf_pnao": "entropy"}
DENSE = ("baseline", "enf")
MEMBERS = ("pnao", "enf_pnao")  # of the final system
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
