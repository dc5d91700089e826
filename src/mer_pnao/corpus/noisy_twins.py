"""Noisy twins of the test clips: rows of the manifest whose clips `media.corruption` corrupts in extraction."""

from collections.abc import Iterable

import pandas as pd

from mer_pnao.foundations.errors import InputError


def noisy_split(corruption: str) -> str:
    """The split of a corruption's twins."""
    return f"test_{corruption}"


def noisy_name(name: str, corruption: str) -> str:
    """What the twin of a clip is called."""
    return f"{name}_{corruption}"


def with_noisy_twins(table: pd.DataFrame, corruptions: Iterable[str]) -> pd.DataFrame:
    """The manifest with each test clip once more for each corruption: `<name>_<corruption>`, of the same file.

    Raises InputError when a twin's name or split is taken.
    """
    clean = table[table["split"] == "test"]
    for corruption in corruptions:
        split = noisy_split(corruption)
        twins = clean.assign(name=[noisy_name(name, corruption) for name in clean["name"]], split=split)
        if taken := sorted(set(twins["name"]) & set(table["name"])):
            raise InputError(f"clip {taken[0]!r} has the name of a noisy twin; give corruption.{corruption} another")
        if split in set(table["split"]):
            raise InputError(f"the split {split!r} is taken; give corruption.{corruption} another name")
        table = pd.concat([table, twins], ignore_index=True)
    return table
