"""A fresh process around one registered version: `python -P reload_worker.py URI`, driven through its stdin.

It imports MLflow alone, and nothing of this project, so that what runs is the code that was packed with the model.
Each line of stdin is a request, answered by one line of JSON on stdout; the first answer says that the model is loaded.

    {"predict": "clips.safetensors", "out": "table.csv"}   every feature set (N, width); writes the predictions
    {"measure": 5}                                         milliseconds of so many predictions of one clip
"""

import json
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

_AT_ONCE = 512  # clips in one call; bounds the memory


def main() -> None:
    """Load, then answer until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever the libraries print is no answer
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.pyfunc

        model = mlflow.pyfunc.load_model(sys.argv[1])

    def answer(what: dict[str, Any]) -> None:
        print(json.dumps(what), file=answers, flush=True)

    answer({"loaded": True})
    for line in sys.stdin:
        request = json.loads(line)
        if "predict" in request:
            _predict(model, Path(request["predict"]), Path(request["out"]))
            answer({"done": True})
        else:
            answer({"ms": _measure(model, int(request["measure"]))})


def _predict(model: Any, clips: Path, out: Path) -> None:
    import pandas as pd
    from safetensors.numpy import load_file

    features = load_file(clips)
    total = len(next(iter(features.values())))
    parts = [
        model.predict({name: values[start : start + _AT_ONCE] for name, values in features.items()})
        for start in range(0, total, _AT_ONCE)
    ]
    pd.concat(parts).to_csv(out, index=False)


def _measure(model: Any, calls: int) -> list[float]:
    """What a caller waits for: checks of the input, networks, table. The clip is all zeros, which cost the same."""
    import numpy as np

    clip = {spec.name: np.zeros((1, spec.shape[1]), np.float32) for spec in model.metadata.signature.inputs}
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        model.predict(clip)
        times.append(1000 * (time.perf_counter() - start))
    return times


if __name__ == "__main__":
    main()
