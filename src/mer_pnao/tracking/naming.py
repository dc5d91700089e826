"""What a training's run is called, so that runs can be told apart in a list."""

from collections import Counter
from collections.abc import Iterator, Mapping
from textwrap import shorten

from mlflow.entities import Run

from mer_pnao.outs.finished import Finished
from mer_pnao.tracking.connection import Store

_MOST = 3  # differences in a name
_UNSAID = {"profile", "pnao.naor", "algorithm", "members"}  # said in another way, or by what they are made of


def training_name(store: Store, finished: Finished) -> str:
    """The system, its NAOR, and what differs from the profile's oldest training of it: `enf_pnao naor 0.1 seed 1`.

    The profile follows where it is not the experiment's first one, and a number where another training bears the name.
    """
    system, settings = finished.record.system, finished.settings()
    asked, order = f"tags.system = '{system}' AND tags.round IS NULL", ["attributes.start_time ASC"]
    others = store.client.search_runs([store.experiment], asked, order_by=order)
    words = [system]
    if "pnao.naor" in settings:
        words.append(f"naor {settings['pnao.naor']}")
    if others and others[0].data.tags.get("profile") != settings["profile"]:
        words.append(settings["profile"])
    alike = [run for run in others if run.data.tags.get("profile") == settings["profile"]]
    if alike:
        differences = list(_differences(finished, settings, alike[0]))
        words += differences[:_MOST] + ["…"] * (len(differences) > _MOST)
    name = " ".join(words)
    taken = Counter(run.info.run_name for run in others)
    return next(each for each in (name, *(f"{name} ({i})" for i in range(2, len(others) + 2))) if not taken[each])


def _differences(finished: Finished, settings: Mapping[str, str], oldest: Run) -> Iterator[str]:
    before, tags = oldest.data.params, oldest.data.tags
    for name, value in settings.items():
        # What the oldest does not state, an earlier version trained it without; of that all later ones would differ.
        if name not in _UNSAID and before.get(name, value) != value:
            yield shorten(f"{name.rpartition('.')[2]} {value}", 32, placeholder=" …")
    if finished.record.data_digest != tags.get("data_digest"):
        yield f"data {finished.record.data_digest[:8]}"
    if settings.get("algorithm") != before.get("algorithm"):
        yield f"code {settings.get('algorithm', '')[:8]}"
