"""How each emotion of the test clips is recognised: `reports/confusion.csv` and `reports/emotions.csv`."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from mer_pnao.report.evidence import Evidence, System


def confusion(evidence: Evidence, system: System) -> NDArray[np.int64]:
    """Test clips by true and predicted emotion, (C, C)."""
    counts = confusion_matrix(evidence.test["discrete"], system.test["discrete"], labels=list(evidence.labels))
    return np.asarray(counts, dtype=np.int64)


def confusion_table(evidence: Evidence) -> pd.DataFrame:
    """`reports/confusion.csv`: a row for each system, true and predicted emotion, with the number of test clips."""
    rows = [
        (name, evidence.labels[true], evidence.labels[predicted], clips)
        for name, system in evidence.systems.items()
        for (true, predicted), clips in np.ndenumerate(confusion(evidence, system))
    ]
    return pd.DataFrame(rows, columns=["system", "true", "predicted", "clips"])


def emotions_table(evidence: Evidence) -> pd.DataFrame:
    """`reports/emotions.csv`: recall, precision and F1 of each emotion, a row for each system and emotion.

    There is no recall of an emotion without a test clip, no precision of one that is never predicted, and no F1 of one
    that is neither: NaN.
    """
    tables = []
    for name, system in evidence.systems.items():
        true, predicted, labels = evidence.test["discrete"], system.test["discrete"], list(evidence.labels)
        precision, recall, f1, clips = precision_recall_fscore_support(
            true, predicted, labels=labels, zero_division=np.nan
        )
        columns = {"clips": clips, "recall": recall, "precision": precision, "f1": f1}
        tables.append(pd.DataFrame({"system": name, "emotion": labels, **columns}))
    return pd.concat(tables, ignore_index=True)
