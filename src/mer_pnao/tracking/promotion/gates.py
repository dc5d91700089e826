"""What a version must show before it becomes the champion: pure rules over plain numbers, without MLflow."""

from dataclasses import dataclass
from typing import NamedTuple

from mer_pnao.evaluation.bootstrap import Comparison
from mer_pnao.params.profile import PromotionParams

# Sums in float32 come out in another order on another processor or number of threads, which moves a posterior by about
# 1e-6. A hundred times that is let pass, and is a hundred times less than what the report prints.
TOLERANCE = 1e-4


class Gate(NamedTuple):
    """A rule's verdict, and the numbers behind it in a sentence."""

    name: str
    passed: bool
    sentence: str


@dataclass(frozen=True)
class Unknown:
    """What could not be measured: why, and what to do about it. No gate passes on it."""

    reason: str


@dataclass(frozen=True)
class Side:
    """What the registry says about a version."""

    version: int
    data_digest: str  # SHA-256 of the data that it was trained and measured on; "" where the version does not tell
    parameters: int | None
    rolled_back: str | None = None  # when it was taken out of use


@dataclass(frozen=True)
class Repetition:
    """What a fresh process predicts, beside what was recorded."""

    clips: int
    difference: float  # the largest of any posterior, valence, confidence or weight
    other_emotions: int  # clips with another decision, where the recorded one was no tie


@dataclass(frozen=True)
class Latency:
    """Milliseconds for one clip, medians measured in turns on one machine."""

    candidate: float
    champion: float


@dataclass(frozen=True)
class Measured:
    """Everything that the gates look at."""

    candidate: Side
    champion: Side | None
    repetition: Repetition | Unknown
    comparison: Comparison | Unknown  # the candidate on the split, against the champion or else the linear probe
    latency: Latency | Unknown | None  # None without a champion
    split: str = "test"
    earlier: int = 0  # promotions that the split has judged before, passed or not


def judge(measured: Measured, limits: PromotionParams) -> tuple[Gate, ...]:
    """Every gate that applies: those against the champion, or the one against the linear probe where there is none."""
    candidate, champion = measured.candidate, measured.champion
    gates = repeats_its_predictions(measured.repetition), was_not_rolled_back(candidate)
    if champion is None:
        return (*gates, beats_the_linear_probe(measured, limits))
    better = better_or_smaller(measured, champion, limits)
    return (*gates, same_data(candidate, champion), better, not_slower(measured.latency, limits))


def repeats_its_predictions(measured: Repetition | Unknown) -> Gate:
    """The version works outside the process that trained it."""
    name = "reloads"
    if isinstance(measured, Unknown):
        return Gate(name, False, measured.reason)
    passed = measured.difference <= TOLERANCE and measured.other_emotions == 0  # NaN is not within it
    what = f"predictions of {measured.clips} clips in a fresh process differ from the recorded ones by at most"
    others = f", with {measured.other_emotions} other emotions" if measured.other_emotions else ""
    return Gate(name, passed, f"{what} {measured.difference:.1g}{others} (allowed {TOLERANCE:g})")


def was_not_rolled_back(candidate: Side) -> Gate:
    """A person has judged it already, on what no test split showed."""
    when = candidate.rolled_back
    back = f"it was champion, and was rolled back at {when}: only by force again"
    return Gate("not rolled back", when is None, back if when else "it was never taken out of use")


def same_data(candidate: Side, champion: Side) -> Gate:
    """Scores on other clips, labels or features are no comparison."""
    mine, other = candidate.data_digest, champion.data_digest
    if mine and mine == other:
        return Gate("same data", True, f"both were measured on the data {mine[:12]}")
    sentence = (
        f"version {candidate.version} was measured on the data {mine[:12] or 'unknown'}, the champion "
        f"{champion.version} on {other[:12] or 'unknown'}"
    )
    return Gate("same data", False, sentence)


def better_or_smaller(measured: Measured, champion: Side, limits: PromotionParams) -> Gate:
    """P(Com > the champion's) >= probability, or Com >= the champion's - margin with (1 - smaller) of its parameters.

    With fewer than ten speakers, of whom resamples promise too much, the exact sign-flip test has to agree.

    The margin bounds the measured loss, not its interval: on a test split of a hundred clips, where a difference of two
    good systems has a standard error of .03, no interval could show that two networks are equally good.
    """
    name, candidate, compared = "better or smaller", measured.candidate, measured.comparison
    if isinstance(compared, Unknown):
        return Gate(name, False, compared.reason)
    gain, p, text = _gain(compared, measured, f"the champion {champion.version}")
    by_chance = compared.p_sign_flip
    if p >= limits.probability and (by_chance is None or by_chance <= 1 - limits.probability + 1e-9):
        return Gate(name, True, f"{text} (asked for: P {limits.probability:g})")
    if candidate.parameters is None or champion.parameters is None:
        return Gate(name, False, f"{text} (asked for: P {limits.probability:g}), and a size is not known")
    share = candidate.parameters / champion.parameters
    sizes = f"{candidate.parameters:,} parameters, {share:.1%} of the champion's {champion.parameters:,}"
    # A share of exactly 1 - smaller counts as that much smaller, whatever the quotient rounds to.
    small = candidate.parameters <= (1 - limits.smaller) * champion.parameters + 1e-9
    if gain >= -limits.margin and small:
        return Gate(name, True, f"{text}; within the margin of {limits.margin:g} with {sizes}")
    sentence = (
        f"{text} (asked for: P {limits.probability:g}, or within {limits.margin:g} with at most "
        f"{1 - limits.smaller:.0%} of the parameters; it has {sizes})"
    )
    return Gate(name, False, sentence)


def not_slower(measured: Latency | Unknown | None, limits: PromotionParams) -> Gate:
    """A caller waits at most (1 + slower) times as long as for the champion."""
    name = "latency"
    if measured is None or isinstance(measured, Unknown):
        return Gate(name, False, "not measured" if measured is None else measured.reason)
    change = measured.candidate / measured.champion - 1
    sentence = (
        f"{measured.candidate:.2f} ms a clip, the champion {measured.champion:.2f} ms: {change:+.1%} "
        f"(allowed {limits.slower:+.0%})"
    )
    return Gate(name, measured.candidate <= (1 + limits.slower) * measured.champion, sentence)


def beats_the_linear_probe(measured: Measured, limits: PromotionParams) -> Gate:
    """Com above the probe's, with P >= probe_probability: a network that a linear model equals is not worth serving."""
    name, compared = "beats the linear probe", measured.comparison
    if isinstance(compared, Unknown):
        return Gate(name, False, compared.reason)
    gain, p, text = _gain(compared, measured, "the linear probe")
    asked = f"(asked for: more, and P {limits.probe_probability:g})"
    return Gate(name, gain > 0 and p >= limits.probe_probability, f"{text} {asked}")


def _gain(compared: Comparison, measured: Measured, rival: str) -> tuple[float, float, str]:
    """The gain in Com, P, and both in words."""
    gain, low, high, p = compared.gain, compared.gain_low, compared.gain_high, compared.p_better
    if gain is None or low is None or high is None or p is None:
        raise ValueError("a comparison without a rival tells no gain")
    com = compared.scores.com
    text = f"{measured.split} Com {com:.4f}, {rival} {com - gain:.4f}: {gain:+.4f} ({low:+.4f}…{high:+.4f}), P {p:.3f}"
    if compared.p_sign_flip is not None:
        text += f", sign-flip p {compared.p_sign_flip:.3f} over the few speakers"
    if measured.earlier:
        text += f", on a split that {earlier_promotions(measured.earlier)} judged on"
    return gain, p, text


def earlier_promotions(count: int) -> str:
    """So many of them, as the subject of a sentence."""
    if count == 1:
        return "one earlier promotion of this profile was"
    return f"{count} earlier promotions of this profile were" if count else "no earlier promotion of this profile was"
