"""Finished rounds on disk: a folder a round, named by its key, written beside and renamed into place."""

import json
import shutil
from pathlib import Path
from tempfile import mkdtemp

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mer_pnao.network.emotion_network import Prediction
from mer_pnao.pruning.pnao import FoldResult
from mer_pnao.training.fit import Epoch

_STATE, _HELD_OUT = "state.", "held_out."


class DiskRoundStore:
    """`<root>/<key>/` holds one safetensors file a fold and `folds.json` with the curves."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.hits = 0
        self.misses = 0

    def load(self, key: str) -> tuple[FoldResult, ...] | None:
        """The folds of a finished round; None when it is unknown or its files are damaged."""
        try:
            facts = json.loads((self.root / key / "folds.json").read_text())
            folds = tuple(_read_fold(self.root / key / f"fold-{i}.safetensors", fact) for i, fact in enumerate(facts))
        except (FileNotFoundError, SafetensorError, json.JSONDecodeError):
            self.misses += 1
            return None
        self.hits += 1
        return folds

    def save(self, key: str, folds: tuple[FoldResult, ...]) -> None:
        """Write a round whole or not at all; of two writers of one key, whose bytes are equal, either may win."""
        self.root.mkdir(parents=True, exist_ok=True)
        beside = Path(mkdtemp(prefix=f".{key[:12]}-", dir=self.root))
        for number, fold in enumerate(folds):
            tensors = {f"{_STATE}{name}": value for name, value in fold.state.items()}
            tensors |= {f"{_HELD_OUT}{name}": value for name, value in fold.held_out._asdict().items()}
            save_file({k: v.contiguous() for k, v in tensors.items()}, beside / f"fold-{number}.safetensors")
        facts = [{"pruned": fold.pruned, "curves": [list(epoch) for epoch in fold.curves]} for fold in folds]
        (beside / "folds.json").write_text(json.dumps(facts))
        try:
            beside.replace(self.root / key)
        except OSError:  # another writer was first, or a damaged round is in the way
            if self.load(key) is None:
                shutil.rmtree(self.root / key, ignore_errors=True)
                beside.replace(self.root / key)
            else:
                shutil.rmtree(beside, ignore_errors=True)


def _read_fold(path: Path, facts: dict[str, object]) -> FoldResult:
    state: dict[str, Tensor] = {}
    held_out: dict[str, Tensor] = {}
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118  (the handle is no mapping)
            part = state if name.startswith(_STATE) else held_out
            part[name.removeprefix(_STATE).removeprefix(_HELD_OUT)] = file.get_tensor(name)
    curves = facts["curves"]
    assert isinstance(curves, list)
    return FoldResult(state, tuple(Epoch(*row) for row in curves), int(str(facts["pruned"])), Prediction(**held_out))
