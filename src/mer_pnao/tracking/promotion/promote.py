"""`mer promote`: the gates are measured, judged and recorded, then the champion changes.

All of it happens within `opened`, whose lock lets one process in at a time: two promotions at once follow one
another, and the second one is judged against the first one's champion.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

from mlflow.entities.model_registry import ModelVersion

from mer_pnao.foundations.errors import InputError
from mer_pnao.params.profile import Params, load_params
from mer_pnao.tracking.card import with_judgement
from mer_pnao.tracking.connection import NAME, Store, reached
from mer_pnao.tracking.follow import follow_models
from mer_pnao.tracking.known import CANDIDATE, find_number, get_number, standing
from mer_pnao.tracking.promotion.aliases import (
    GATES,
    GATES_REPORT,
    JUDGED_ON,
    Change,
    Repair,
    change_champion,
    repair,
    title_of,
    utc_now,
)
from mer_pnao.tracking.promotion.gates import Gate, Measured, Unknown, earlier_promotions, judge
from mer_pnao.tracking.promotion.measure import Reload, gather, judgements
from mer_pnao.tracking.promotion.reload import reload as reload_afresh


@dataclass(frozen=True)
class Promotion:
    version: int
    title: str  # of the version, for people
    champion: int | None  # who was it before
    gates: tuple[Gate, ...]  # none where the version is the champion already
    promoted: bool
    report: str | None  # artifact of the version's run
    repaired: Repair | None  # what an earlier call had left


def promote(
    project: Path, version: int | None = None, reason: str | None = None, reload: Reload = reload_afresh
) -> Promotion:
    """Make a version the champion if every gate lets it pass; with a reason, whatever they say.

    The version is the candidate's by default; the gates are measured and recorded even where a reason forces it. Raises
    InputError when there is no such version or candidate, the split that is to judge is not among the data's, or MLflow
    cannot be used.
    """
    params = load_params(project / "params.yaml")
    with reached(project) as store:
        repaired = repair(store)
        follow_models(store, project)
        held = standing(store)
        number = held.candidate if version is None else version
        if number is None:
            raise InputError(f"{NAME} has no {CANDIDATE}: run `make run` or `mer register` first, or name a version")
        chosen = get_number(store, number)
        title = title_of(chosen)
        if held.champion == number:
            return Promotion(number, title, number, (), False, None, repaired)
        champion = None if held.champion is None else find_number(store, held.champion)
        measured = gather(store, chosen, champion, params, project.resolve(), reload)
        gates = judge(measured, params.promotion)
        passed = all(gate.passed for gate in gates)
        now = utc_now()
        report = _record(store, chosen, measured, gates, params, reason, now)
        if passed or reason is not None:
            change_champion(store, Change("promotion", number, held.champion, held.previous, now, reason))
        return Promotion(number, title, held.champion, gates, passed or reason is not None, report, repaired)


def _record(
    store: Store,
    version: ModelVersion,
    measured: Measured,
    gates: tuple[Gate, ...],
    params: Params,
    reason: str | None,
    now: str,
) -> str | None:
    """Write the gates' report to the version's run and the verdict to its tags; returns the report's place."""
    failed = [gate.name for gate in gates if not gate.passed]
    verdict = f"refused: {', '.join(failed)}" if failed else "passed"
    place = None
    if version.run_id:
        place = f"promotion/{now.replace(':', '')}.json"
        report = {
            "version": int(version.version),
            "when": now,
            "verdict": verdict,
            "forced": reason,
            "gates": [gate._asdict() for gate in gates],
            "evidence": asdict(measured),
            "limits": asdict(params.promotion),
            "bootstrap": {"resamples": params.evaluation.resamples, "seed": params.seed},
        }
        store.client.log_dict(version.run_id, report, place)
        store.client.set_model_version_tag(NAME, version.version, GATES_REPORT, place)
    store.client.set_model_version_tag(NAME, version.version, GATES, verdict)
    if not isinstance(measured.comparison, Unknown):  # else the split has not been looked at
        count = judgements(version.tags, measured.split) + 1
        store.client.set_model_version_tag(NAME, version.version, JUDGED_ON + measured.split, str(count))
        earlier = earlier_promotions(measured.earlier)
        sentence = f"{now} on the split `{measured.split}`, which {earlier} judged on: {verdict}."
        card = with_judgement(version.description or "", sentence)
        store.client.update_model_version(NAME, version.version, card)
    return place
