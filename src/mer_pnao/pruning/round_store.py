"""Finished rounds on disk: a folder a round, named by its key, written aside and renamed into place."""

import json
import shutil
from pathlib import Path
from typing import Any
from uuid import uuid4

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mer_pnao.network.emotion_network import Prediction
from mer_pnao.pruning.rounds import FoldResult
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
        folds = self._read(key)
        self.hits += folds is not None
        self.misses += folds is None
        return folds

    def _read(self, key: str) -> tuple[FoldResult, ...] | None:
        try:
            facts = json.loads((self.root / key / "folds.json").read_text(encoding="utf-8"))
            paths = [self.root / key / f"fold-{number}.safetensors" for number in range(len(facts))]
            folds = tuple(_read_fold(path, fact) for path, fact in zip(paths, facts, strict=True))
        except (OSError, ValueError, KeyError, TypeError, SafetensorError):
            return None
        return folds or None

    def save(self, key: str, folds: tuple[FoldResult, ...]) -> None:
        """Write a round whole or not at all; of two writers of one key, whose bytes are equal, either may win."""
        # Neither `mkdtemp` nor `save_file`: what they make is closed to the other users of a shared disk.
        partial = self.root / f".{key[:12]}-{uuid4().hex}"
        partial.mkdir(parents=True)
        try:
            self._write(partial, folds)
            self._put_into_place(partial, key)
        finally:
            shutil.rmtree(partial, ignore_errors=True)  # gone already, unless something failed

    def _write(self, partial: Path, folds: tuple[FoldResult, ...]) -> None:
        for number, fold in enumerate(folds):
            tensors = {f"{_STATE}{name}": value for name, value in fold.state.items()}
            tensors |= {f"{_HELD_OUT}{name}": value for name, value in fold.held_out._asdict().items()}
            content = save({name: tensor.contiguous() for name, tensor in tensors.items()})
            (partial / f"fold-{number}.safetensors").write_bytes(content)
        facts = [{"pruned": fold.pruned, "curves": [list(epoch) for epoch in fold.curves]} for fold in folds]
        (partial / "folds.json").write_text(json.dumps(facts))

    def _put_into_place(self, partial: Path, key: str) -> None:
        try:
            partial.replace(self.root / key)
        except OSError:  # another writer was first, or a damaged round is in the way
            if self._read(key) is None:
                shutil.rmtree(self.root / key, ignore_errors=True)
                partial.replace(self.root / key)


def _read_fold(path: Path, facts: dict[str, Any]) -> FoldResult:
    state: dict[str, Tensor] = {}
    held_out: dict[str, Tensor] = {}
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118  (the handle is no mapping)
            part = state if name.startswith(_STATE) else held_out
            part[name.removeprefix(_STATE).removeprefix(_HELD_OUT)] = file.get_tensor(name)
    curves = tuple(Epoch(*row) for row in facts["curves"])
    return FoldResult(state, curves, int(facts["pruned"]), Prediction(**held_out))
