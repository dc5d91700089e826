"""How well each speaker is understood: `reports/speakers.csv`, and what each gains over the linear probe, drawn."""

from collections.abc import Mapping
from dataclasses import asdict

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mer_pnao.corpus.manifest import speakers_of
from mer_pnao.evaluation.scores import recognition, score
from mer_pnao.outs.names import PROBE
from mer_pnao.report.evidence import Evidence
from mer_pnao.report.style import BLUE, MUTED, VERMILLION, as_png

_COLUMNS = ["system", "speaker", "clips", "dis", "dim", "com", "uar"]


def speakers_table(evidence: Evidence) -> pd.DataFrame:
    """The scores on each speaker's test clips, a row for each system and speaker; none where no speaker is known."""
    truth = evidence.test
    speakers = speakers_of(truth)
    places = {} if speakers is None else truth.groupby(np.array(speakers)).indices
    rows = []
    for name, system in evidence.systems.items():
        for speaker, here in places.items():
            true, predicted = truth.iloc[here], system.test.iloc[here]
            scores = score(true["discrete"], predicted["discrete"], true["valence"], predicted["valence"])
            uar = recognition(true["discrete"], predicted["discrete"]).uar
            rows.append({"system": name, "speaker": speaker, "clips": len(here), **asdict(scores), "uar": uar})
    return pd.DataFrame(rows, columns=_COLUMNS).astype({"dim": float})


def gains_over_probe(evidence: Evidence) -> dict[str, dict[str, float]]:
    """Each other system's Com minus the linear probe's, by title and speaker; empty without a probe or two speakers."""
    if not evidence.speakers or PROBE not in evidence.systems:
        return {}
    coms = speakers_table(evidence).set_index(["system", "speaker"])["com"]
    gains = {name: coms[name] - coms[PROBE] for name in evidence.systems if name != PROBE}
    return {evidence.systems[name].title: dict(zip(gain.index, gain, strict=True)) for name, gain in gains.items()}


@as_png
def speakers_figure(gains: Mapping[str, Mapping[str, float]]) -> Figure:
    """A PNG with a row for each system and a dot for each speaker: its Com minus the linear probe's on his clips."""
    figure = Figure(figsize=(10.8, 0.6 * len(gains) + 1.2))
    axes = figure.subplots()
    spread = np.random.default_rng(0)  # upwards and downwards only, so that dots do not cover each other
    for place, each in enumerate(gains.values()):
        values = np.array(list(each.values()))
        axes.plot(values, place + spread.uniform(-0.22, 0.22, len(values)), "o", color=BLUE, alpha=0.55, mew=0)
        axes.plot([values.mean()] * 2, [place - 0.36, place + 0.36], color=VERMILLION)
    axes.axvline(0, color=MUTED, linewidth=1)
    axes.set_yticks(range(len(gains)), list(gains))
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.set_xlabel("a speaker's Com minus the linear probe's; the line is the mean over speakers")
    return figure
