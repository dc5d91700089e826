"""What the names of trainings tell apart."""

from types import SimpleNamespace

from mer_pnao.tracking.naming import _differences


def test_what_an_earlier_version_did_not_state_does_not_crowd_out_what_differs() -> None:
    """Its run is the oldest of an upgraded store, so every later name would begin with all of that."""
    settings = {"pnao.alpha": "0.1", "pnao.rule": "naor", "pnao.ratio": "0.2", "pnao.scorers": "False", "seed": "1"}
    finished = SimpleNamespace(record=SimpleNamespace(data_digest="d"))
    oldest = SimpleNamespace(
        data=SimpleNamespace(params={"pnao.alpha": "0.2", "seed": "0"}, tags={"data_digest": "d"}),
    )
    assert list(_differences(finished, settings, oldest)) == ["alpha 0.1", "seed 1"]  # type: ignore[arg-type]
