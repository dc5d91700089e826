"""How well each speaker of the test clips is understood: `reports/speakers.csv`."""

from dataclasses import asdict

import numpy as np
import pandas as pd

from mer_pnao.corpus.manifest import speakers_of
from mer_pnao.evaluation.scores import recognition, score
from mer_pnao.outs.names import PROBE
from mer_pnao.report.evidence import Evidence

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
