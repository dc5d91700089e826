"""A model's networks as one ONNX file, for programs without torch.

ONNX and ONNX Runtime are an optional extra.

Legend of shapes: N clips, C emotions, M branches.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.files import replacing, write_text
from mer_pnao.foundations.onnx_files import onnx_libraries, write_onnx
from mer_pnao.network.emotion_network import ZScore
from mer_pnao.outs.networks import RoundModel
from mer_pnao.predict import caveats_of

NETWORK, README = "network.onnx", "README.md"
OUTPUTS = ("posterior", "valence", "weight")  # (N, C), (N,) and (N, M)
_CLIPS, _APART = 64, 1e-4  # random clips that both runtimes answer, and how far they may be apart
_USE = """# {title}

`{network}` is the mean of {folds} networks, z-scores inside. It takes vectors as `mer extract` makes them, float32
(N, width) for each feature set, and needs ONNX Runtime and NumPy alone:

```python
import json
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("{network}")
facts = session.get_modelmeta().custom_metadata_map
labels, widths = json.loads(facts["labels"]), json.loads(facts["feature_widths"])
clip = {{name: np.zeros((1, width), np.float32) for name, width in widths.items()}}  # your vectors
posterior, valence, weight = session.run(["posterior", "valence", "weight"], clip)
for row, value in zip(posterior, valence):
    print(labels[row.argmax()], dict(zip(labels, row.round(3).tolist())), value)
```

Feature sets: {sets}.
`weight` is what each branch has in the decision: {branches}.
{valence}{caveats}
"""


class Ensemble(nn.Module):
    """The fold networks of a round as one, whose decisions are averaged."""

    def __init__(self, model: RoundModel) -> None:
        super().__init__()
        self.sets, self.networks = tuple(model.blueprint.widths), nn.ModuleList(model.networks)

    def forward(self, *vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Posterior (N, C), valence (N,) and weight (N, M) of vectors (N, width), a set each."""
        features = dict(zip(self.sets, vectors, strict=True))
        each = [network(features) for network in self.networks]
        parts = zip(*((one.posterior, one.valence, one.weights.T) for one in each), strict=True)
        posterior, valence, weight = (torch.stack(part).mean(dim=0) for part in parts)
        return posterior, valence, weight


def export_onnx(model: RoundModel, version: str, folder: Path) -> None:
    """Write `network.onnx`, with labels, widths and warnings as metadata, and a README that says how to run it.

    Any number of clips goes in at a time. Raises InputError where ONNX is not installed, the
    folder cannot be written, or ONNX Runtime's answers to random clips are not torch's.
    """
    onnx, onnxruntime = onnx_libraries("mer export")
    widths, branches = model.blueprint.widths, list(model.blueprint.branches())
    facts = {
        "version": version,
        "system": model.system,
        "round": model.number,
        "labels": model.labels,
        "feature_widths": dict(widths),
        "branches": branches,
        "valence_range": model.trained_on.valence if model.trained_on else None,
        "warnings": caveats_of(model),
    }
    clips = _like_trained(model)
    try:
        with replacing(folder / NETWORK) as path:
            write_onnx(Ensemble(model), {name: torch.from_numpy(each) for name, each in clips.items()}, OUTPUTS, path)
            exported = onnx.load(path)
            onnx.helper.set_model_props(exported, {name: json.dumps(fact) for name, fact in facts.items()})
            onnx.save(exported, path)
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            _refuse_another_answer(model, clips, dict(zip(OUTPUTS, session.run(list(OUTPUTS), clips), strict=True)))
        write_text(folder / README, _readme(model, version, branches))
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror}") from error


def _like_trained(model: RoundModel) -> dict[str, NDArray[np.float32]]:
    """Random clips as far apart as those that the first network was trained on."""
    random, clips = torch.Generator().manual_seed(0), {}
    for name, zscore in model.networks[0].zscore.items():
        assert isinstance(zscore, ZScore)
        spread = torch.where(zscore.std.isfinite(), zscore.std, 0)  # infinite of what was constant
        clips[name] = (zscore.mean + spread * torch.randn(_CLIPS, len(spread), generator=random)).float().numpy()
    return clips


def _refuse_another_answer(
    model: RoundModel, clips: Mapping[str, NDArray[np.float32]], found: Mapping[str, NDArray[np.float32]]
) -> None:
    asked = model.decide({name: torch.from_numpy(vectors) for name, vectors in clips.items()})
    for name, wanted in zip(OUTPUTS, asked.arrays, strict=False):
        apart = float(np.abs(found[name] - wanted).max(initial=0) / max(1.0, np.abs(wanted).max(initial=0)))
        if not apart <= _APART:
            raise InputError(f"ONNX Runtime's {name} is {apart:.1e} from torch's: the network is not exported")


def _readme(model: RoundModel, version: str, branches: list[str]) -> str:
    learnt = model.trained_on.valence if model.trained_on else None
    valence = "Valence was learnt from {:+.2f} to {:+.2f}.".format(*learnt) if learnt else "No valence was learnt."
    return _USE.format(
        title=f"mer-pnao {version}",
        network=NETWORK,
        folds=len(model.networks),
        sets=", ".join(f"{name} ({width})" for name, width in model.blueprint.widths.items()),
        branches=", ".join(branches),
        valence=valence,
        caveats="".join(f"\n\n**Mind**: {caveat}." for caveat in caveats_of(model)),
    )
