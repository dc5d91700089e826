"""The rules alone: each can be the only one that refuses, and each holds exactly at its limit."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from mer_pnao.evaluation.bootstrap import Comparison
from mer_pnao.evaluation.scores import Scores
from mer_pnao.params.profile import PromotionParams
from mer_pnao.tracking.promotion.gates import TOLERANCE, Latency, Measured, Repetition, Side, Unknown, judge

LIMITS = PromotionParams()
DIGEST = "ab12" * 16


def gained(gain: float, p: float, com: float = 0.6) -> Comparison:
    return Comparison(Scores(com + 0.2, 0.8, com), com - 0.1, com + 0.1, gain, gain - 0.05, gain + 0.05, p)


FINE = Measured(
    Side(7, DIGEST, 1000),
    Side(3, DIGEST, 1000),
    Repetition(120, 1e-7, 0),
    gained(0.05, 0.97),
    Latency(3.0, 3.0),
)
FIRST = replace(FINE, champion=None, latency=None, comparison=gained(0.05, 0.7))


def refused(evidence: Measured) -> list[str]:
    return [gate.name for gate in judge(evidence, LIMITS) if not gate.passed]


def test_every_one_of_five_speakers_is_enough() -> None:
    assert refused(replace(FINE, comparison=replace(gained(0.05, 0.99), p_sign_flip=2**-5))) == []


def test_a_fine_version_passes_the_gates_that_apply() -> None:
    names = ["reloads", "not rolled back", "same data", "better or smaller", "latency"]
    assert [(gate.name, gate.passed) for gate in judge(FINE, LIMITS)] == [(name, True) for name in names]
    names = ["reloads", "not rolled back", "beats the linear probe"]
    assert [(gate.name, gate.passed) for gate in judge(FIRST, LIMITS)] == [(name, True) for name in names]


@pytest.mark.parametrize(
    ("change", "gate", "words"),
    [
        ({"repetition": Repetition(120, 2e-4, 0)}, "reloads", "120 clips in a fresh process differ .* 0.0002 "),
        ({"repetition": Repetition(120, 1e-7, 2)}, "reloads", "2 other emotions"),
        ({"repetition": Repetition(120, float("nan"), 0)}, "reloads", "nan"),
        ({"repetition": Unknown("run `dvc pull`")}, "reloads", "^run `dvc pull`$"),
        ({"candidate": Side(7, DIGEST, 1000, "2026-01-02")}, "not rolled back", "rolled back at 2026-01-02"),
        ({"champion": Side(3, "cd34" * 16, 1000)}, "same data", "version 7 .* ab12ab12ab12, the champion 3 on cd34"),
        ({"champion": Side(3, "", 1000), "candidate": Side(7, "", 1000)}, "same data", "unknown"),
        ({"comparison": gained(0.05, 0.949)}, "better or smaller", r"Com 0.6000, the champion 3 0.5500: \+0.0500 "),
        (
            {"comparison": replace(gained(0.05, 0.99), p_sign_flip=0.0625)},
            "better or smaller",
            "P 0.990, sign-flip p 0.062 over the few speakers",
        ),
        ({"comparison": gained(-0.2, 0.01)}, "better or smaller", "P 0.010 .*1,000 parameters, 100.0% of"),
        (
            {"comparison": gained(0.0, 0.5), "candidate": Side(7, DIGEST, None)},
            "better or smaller",
            "size is not known",
        ),
        ({"comparison": Unknown("other clips")}, "better or smaller", "^other clips$"),
        (
            {"latency": Latency(3.31, 3.0)},
            "latency",
            r"3.31 ms a clip, the champion 3.00 ms: \+10.3% \(allowed \+10%\)",
        ),
        ({"latency": Unknown("it died")}, "latency", "^it died$"),
    ],
)
def test_exactly_one_gate_refuses_with_its_numbers(change: dict[str, object], gate: str, words: str) -> None:
    evidence = replace(FINE, **change)  # type: ignore[arg-type]
    assert refused(evidence) == [gate]
    (sentence,) = (each.sentence for each in judge(evidence, LIMITS) if not each.passed)
    assert re.search(words, sentence), sentence


@pytest.mark.parametrize("comparison", [gained(-0.01, 0.9), gained(0.0, 0.5), gained(0.02, 0.49), Unknown("no probe")])
def test_the_first_champion_must_beat_the_linear_probe(comparison: Comparison | Unknown) -> None:
    assert refused(replace(FIRST, comparison=comparison)) == ["beats the linear probe"]


@pytest.mark.parametrize(
    ("earlier", "words"),
    [
        (0, r"P 0\.[79]\d* \(asked"),
        (1, ", on a split that one earlier promotion of this profile was judged on \\("),
        (3, "that 3 earlier .* were"),
    ],
)
def test_the_comparison_tells_its_split_and_how_often_it_has_judged(earlier: int, words: str) -> None:
    for evidence in (FINE, FIRST):
        gates = judge(replace(evidence, split="kept", earlier=earlier), LIMITS)
        (text,) = (gate.sentence for gate in gates if gate.name in ("better or smaller", "beats the linear probe"))
        assert text.startswith("kept Com 0.6000, the ")
        assert re.search(words, text), text


def test_every_limit_is_still_allowed() -> None:
    assert refused(replace(FINE, repetition=Repetition(1, TOLERANCE, 0))) == []
    assert refused(replace(FINE, comparison=gained(0.01, 0.95))) == []
    assert refused(replace(FINE, latency=Latency(3.3, 3.0))) == []
    smaller = replace(FINE, comparison=gained(-0.01, 0.3), candidate=Side(7, DIGEST, 900))
    assert refused(smaller) == []
    assert refused(replace(smaller, candidate=Side(7, DIGEST, 901))) == ["better or smaller"]
    assert refused(replace(smaller, comparison=gained(-0.0101, 0.3))) == ["better or smaller"]
    # (1 - 0.1) * 70 is 63.000000000000007 or 62.99..., by the rounding; 63 of 70 is 10 % smaller.
    for parameters in range(10, 100_000, 10):
        sizes = {"candidate": Side(7, DIGEST, parameters * 9 // 10), "champion": Side(3, DIGEST, parameters)}
        assert refused(replace(smaller, **sizes)) == [], parameters  # type: ignore[arg-type]


def test_the_limits_are_those_of_params() -> None:
    strict = replace(LIMITS, probability=0.99, probe_probability=0.8, margin=0.0, smaller=0.5, slower=0.0)

    def names(evidence: Measured) -> list[str]:
        return [gate.name for gate in judge(evidence, strict) if not gate.passed]

    assert names(replace(FINE, comparison=gained(0.05, 0.98))) == ["better or smaller"]
    assert names(replace(FINE, comparison=gained(0.05, 0.99), latency=Latency(3.01, 3.0))) == ["latency"]
    assert names(replace(FINE, comparison=gained(-0.001, 0.5), candidate=Side(7, DIGEST, 400))) == ["better or smaller"]
    assert names(replace(FINE, comparison=gained(0.0, 0.5), candidate=Side(7, DIGEST, 501))) == ["better or smaller"]
    assert names(FIRST) == ["beats the linear probe"]


def test_the_gates_know_no_mlflow() -> None:
    from mer_pnao.tracking.promotion import gates

    assert "mlflow" not in Path(gates.__file__).read_text().replace("without MLflow", "")
