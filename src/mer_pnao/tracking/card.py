"""A version's card, its description in Markdown: what it is, how good, from which data, and what it is not for.

After Mitchell et al. 2019, "Model Cards for Model Reporting".
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mer_pnao.corpus.manifest import read_manifest, speakers_of
from mer_pnao.evaluation.bootstrap import Predicted, paired_bootstrap
from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.files import read_json
from mer_pnao.outs.decisions import read_table
from mer_pnao.outs.finished import Finished
from mer_pnao.outs.names import CONFIG, ENCODERS, PREDICTIONS, TITLES, TRAINVAL
from mer_pnao.outs.record import Record
from mer_pnao.outs.trained_on import DRAWN
from mer_pnao.params.profile import load_params
from mer_pnao.tracking.lineage import Lineage

_JUDGED = "- **Judged**"
MODEL = """Emotion and valence of people in video clips, from sound and face: networks shrunk round by round (PNAO), a
version a round. A version's own card tells its scores, its data and its limits.

**Promote by `mer promote` and go back by `mer rollback`.** They judge a version before it becomes `champion`, and keep
`previous`; setting an alias here asks nobody. `candidate` follows the best round in `models/`.
"""


@dataclass(frozen=True)
class Clips:
    """What the data set says about the clips of a split."""

    count: int
    speakers: int  # 0 where none is known
    low: float | None  # 95 % interval of Com, from a bootstrap
    high: float | None


def read_clips(finished: Finished, project: Path) -> dict[str, Clips]:
    """Each scored split's clips, as the project's manifest tells of them; those that it has not are left out."""
    profile = finished.record.settings.profile
    try:
        params = load_params(project / "params.yaml")
        truth = read_manifest(project / "data" / profile / "manifest.csv").set_index("name")
        decided = read_table(finished.directory / PREDICTIONS, ["name", "split", "discrete", "valence"])
    except InputError:
        return {}
    found = {}
    for split in finished.record.scores:
        rows = decided[(decided["split"] == split) & decided["name"].isin(truth.index)]
        here = truth.loc[list(rows["name"])]
        labelled = (here["discrete"] != "").to_numpy()
        rows, here = rows[labelled], here[labelled]
        found[split] = _clips(finished, split, rows, here, params.evaluation.resamples, params.seed)
    return found


def _clips(finished: Finished, split: str, rows: pd.DataFrame, here: pd.DataFrame, resamples: int, seed: int) -> Clips:
    count, speakers = len(here), len(set(here["speaker"]) - {""})
    try:
        predicted = {split: Predicted(rows["discrete"], rows["valence"])}
        learnt = finished.record.scores[split].dim is not None
        truth = (here["discrete"], here["valence"] if learnt else np.full(count, np.nan))
        groups = speakers_of(here.reset_index())
        compared = paired_bootstrap(*truth, predicted, None, resamples, seed, groups=groups)[split]
    except ValueError:  # there are none, or a valence was not recorded
        return Clips(count, speakers, None, None)
    # The manifest may be of another day; then this would be another quantity.
    same = abs(compared.scores.com - finished.record.scores[split].com) < 1e-6
    return Clips(count, speakers, compared.com_low if same else None, compared.com_high if same else None)


def write_card(finished: Finished, clips: Mapping[str, Clips], lineage: Lineage) -> str:
    """The card of a registered round."""
    return "\n".join(_card(finished, clips, lineage))


def with_judgement(card: str, sentence: str) -> str:
    """The card with what its last promotion found, in the place of what an earlier one did."""
    kept = [line for line in card.splitlines() if not line.startswith(_JUDGED)]
    return "\n".join([*kept, f"{_JUDGED} {sentence}"])


def trained_on_of(finished: Finished) -> dict[str, Any]:
    """What a round's `config.json` says of the training clips."""
    return read_json(finished.directory / CONFIG).get("trained_on") or {}


def _headline(finished: Finished) -> str:
    record, of_round, asked = finished.record, finished.record.round, finished.record.settings
    assert of_round is not None
    title, size = TITLES[record.system], _share(record)
    scores = ", ".join(f"{_split(split)} Com {each.com:.3f}" for split, each in record.scores.items())
    if of_round.number == 0:
        return f"{title}, round 0, not pruned: {scores}, {size}"
    of = "" if asked.rounds is None else f" of {asked.rounds}"
    share = f"naor {asked.naor}" if asked.naor is not None else f"{asked.ratio} of the {asked.rule} a round"
    return f"{title}, round {of_round.number}{of}, {share}: {scores}, {size}"


def _card(finished: Finished, clips: Mapping[str, Clips], lineage: Lineage) -> Iterator[str]:
    record, asked = finished.record, finished.record.settings
    yield f"{_headline(finished)}\n"
    trained_on = trained_on_of(finished)
    if trained_on.get("drawn"):
        yield f"> It {DRAWN}.\n"
    yield "| split | clips | speakers | Dis | Dim | Com | 95 % |"
    yield "|---|---|---|---|---|---|---|"
    for split, scores in record.scores.items():
        known = clips.get(split)
        counts = f"{known.count} | {known.speakers or '?'}" if known else "? | ?"
        interval = "" if known is None or known.low is None else f"{known.low:.3f} to {known.high:.3f}"
        dim = "" if scores.dim is None else f"{scores.dim:.3f}"
        yield f"| {_split(split)} | {counts} | {scores.dis:.3f} | {dim} | {scores.com:.3f} | {interval} |"
    yield "\nDis: weighted F1. Dim: squared error of valence. Com = Dis - 0.25 Dim. Train&Val: out of fold. The rounds "
    yield "were compared by Train&Val alone; the interval holds the draw of the speakers (of the clips, where fewer "
    yield "than two are known) and not that of the seed.\n"
    yield f"- **Data**: profile `{asked.profile}`, digest `{record.data_digest[:12]}`{_valence(trained_on)}."
    yield f"- **Network**: {record.parameters:,} parameters a network, mean of {asked.folds} (one a fold), "
    yield f"whose decisions are averaged; sparsity alpha {asked.alpha}, {asked.fusion} fusion, seed {asked.seed}."
    sets = ", ".join((*(asked.acoustic or ()), *(asked.visual or ()), *(asked.text or ())))
    yield f"- **Features**: {sets}, by {_encoders(finished)}."
    commit = f"`{lineage.git_commit[:12]}`{' and changes' if lineage.git_dirty else ''}" if lineage.git_commit else "no"
    yield f"- **Made by** code `{asked.algorithm}`; registered at git commit {commit}."
    yield "- **Use**: `mer predict CLIP --model NUMBER`, `mer serve --model NUMBER`, or MLflow's `models:/` address."
    yield "- **Not for** judging single people, or clips unlike the training clips in language, camera, age or acting. "
    yield "In the EU, emotion recognition at work and in schools is forbidden but for medical or safety reasons "
    yield "(Regulation 2024/1689, Article 5)."
    yield "- **Promotion**: `mer promote NUMBER`, which measures gates first; an alias set by hand asks nobody."


def _valence(trained_on: Mapping[str, Any]) -> str:
    low, high = trained_on.get("valence") or (None, None)
    return "" if low is None else f", valence from {low:+.2f} to {high:+.2f}"


def _split(split: str) -> str:
    return "Train&Val" if split == TRAINVAL else split


def _share(record: Record) -> str:
    ratio = record.parameters_ratio
    return "of unknown share" if ratio is None else f"{ratio:.0%} of the parameters"


def _encoders(finished: Finished) -> str:
    path = finished.directory / ENCODERS
    return ", ".join(read_json(path)) if path.is_file() else "encoders that are not on record"
