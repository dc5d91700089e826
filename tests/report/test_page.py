import dataclasses
import html
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from mer_pnao.evaluation.bootstrap import Comparison
from mer_pnao.evaluation.calibration import SurestBranch
from mer_pnao.evaluation.scores import combine
from mer_pnao.report import page as page_module
from mer_pnao.report.calibration import _verdict, calibration
from mer_pnao.report.evidence import read_evidence
from mer_pnao.report.page import Setting, page
from mer_pnao.report.table import compare_all, compare_methods, results_table, verdict
from mer_pnao.report.words import number, percent, probability, signed

RESAMPLES = 200
LABELS = ["neutral", "angry", "happy", "sad", "worried", "surprise"]
VOID = {"meta", "link", "img", "br", "line", "circle"}


class Structure(HTMLParser):
    """Checks that tags nest, and collects them with their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def evidence(build, truth_of, tmp_path_factory):
    """Of three seeds: what a verdict asks for."""
    truth = truth_of(240, valence=True)
    return read_evidence(build(tmp_path_factory.mktemp("page") / "models", truth, seeds=(0, 1, 2)), truth, LABELS)


@pytest.fixture(scope="module")
def compared(evidence):
    return compare_all(evidence, RESAMPLES, 0)


@pytest.fixture(scope="module")
def calibrations(evidence):
    return {name: calibration(evidence, system, RESAMPLES, 0) for name, system in evidence.systems.items()}


@pytest.fixture
def rendered(evidence, compared, calibrations, skipped):
    def render(profile="mer2023", seeds=3, surest=None, of=evidence, **changes):
        changed = compared if of is evidence else compare_all(of, RESAMPLES, 0)
        changed = changed._replace(
            baseline=changed.baseline | changes,
            methods=changed.methods | changes if seeds == 3 else {},
            methods_probe=changed.methods_probe if seeds == 3 else {},
        )
        judged = {name: replace(each, surest=surest) if surest else each for name, each in calibrations.items()}
        table = results_table(of, changed)
        names = [f"{kind}_{name}" for kind in ("confusion", "rounds", "weights") for name in evidence.systems]
        pictures = dict.fromkeys([*names, "reliability", "speakers"], b"\x89PNG")
        return page(of, changed, table, judged, skipped, pictures, setting=Setting(profile, RESAMPLES, 0))

    return render


def comparison(gain, low, high, p):
    return Comparison(combine(0.6 + gain, None), 0.5, 0.7, gain, low, high, p)


def few(compared, by_chance):
    """Of fewer than ten speakers."""
    return dataclasses.replace(compared, p_sign_flip=by_chance)


def test_it_stands_alone_and_is_well_formed(rendered):
    text = rendered()
    structure = Structure()
    structure.feed(text)
    assert structure.open == []
    tags = [tag for tag, _ in structure.tags]
    assert not {"script", "link", "iframe", "object"} & set(tags)
    assert not re.search(r"https?://|@import|url\(", text)
    assert not re.search(r"\b(None|nan|Undefined)\b", text)
    for tag, attributes in structure.tags:
        for reference in ("src", "href"):
            assert (attributes.get(reference) or "#").startswith(
                ("#", "data:image/png;base64,", "search/index.html")
            ), tag
        if tag == "img":
            assert len(attributes["alt"]) > 20
        if tag == "svg":
            assert attributes["aria-label"].startswith("95 % interval from")
        if tag == "th":
            assert attributes["scope"] in ("col", "row")
    identifiers = {attributes["id"] for _, attributes in structure.tags if "id" in attributes}
    assert {a["href"][1:] for _, a in structure.tags if (a.get("href") or "").startswith("#")} <= identifiers


def test_text_from_data_is_escaped(rendered):
    assert "<script>alert(1)" not in rendered()
    assert "&lt;script&gt;alert(1)" in rendered()


def test_the_table_says_what_a_processor_does_to_it(rendered):
    assert "Another kind of processor moves a score by as much as another seed does" in rendered()


def test_only_the_demo_says_that_its_scores_mean_nothing(rendered):
    assert "say nothing about MER" in rendered(profile="demo")
    assert "say nothing about MER" not in rendered(profile="mer2023")


@pytest.mark.parametrize(
    ("final", "words"),
    [
        (comparison(0.02, -0.004, 0.044, 0.94), "within the noise"),
        (comparison(0.02, -0.001, 0.044, 0.96), "within the noise"),
        (comparison(0.02, 0.001, 0.044, 0.94), "within the noise"),
        (comparison(0.02, 0.001, 0.044, 0.98), "better"),
        (comparison(-0.02, -0.044, -0.001, 0.02), "worse"),
        (few(comparison(0.02, 0.001, 0.044, 0.98), 0.0625), "within the noise"),
        (few(comparison(-0.02, -0.044, -0.001, 0.02), 0.0625), "within the noise"),
        (few(comparison(0.02, 0.001, 0.044, 0.98), 0.03125), "better"),
    ],
)
def test_the_headline_does_not_claim_more_than_the_interval(rendered, final, words):
    assert verdict(final) == words
    lead = re.search(r'<p class="lead">(.*?)</p>', rendered(final=final), re.DOTALL).group(1)
    claims = re.findall("<strong>(.*?)</strong>", lead)
    assert claims == [words]
    heading = re.search("<h1>(.*?)</h1>", rendered(final=final), re.DOTALL).group(1)
    assert f"0.020 {'above' if final.gain > 0 else 'below'} the baseline" in " ".join(heading.split())


def test_one_seed_tells_of_these_models_and_gives_no_verdict(rendered):
    text = rendered(seeds=1, final=comparison(0.02, 0.001, 0.044, 0.98))
    lead = " ".join(re.search(r'<p class="lead">(.*?)</p>', text, re.DOTALL).group(1).split())
    assert lead.startswith("On 80 test clips of 12 speakers <strong>these two trained models</strong> differ by a gain")
    assert "only three seeds or more" in lead
    assert "Against baseline" not in text
    assert "Against baseline" in rendered()


def test_methods_are_compared_from_three_seeds_of_every_network_on(evidence):
    assert set(compare_methods(evidence, 50, 0)) == set(evidence.systems)
    for kept in (0, 1):
        pnao = evidence.systems["pnao"]
        systems = evidence.systems | {"pnao": dataclasses.replace(pnao, repeats=pnao.repeats[:kept])}
        assert compare_methods(dataclasses.replace(evidence, systems=systems), 50, 0) == {}


def test_of_few_speakers_the_sign_flip_test_is_told(rendered):
    words = "With so few speakers such intervals are too narrow; the exact sign-flip test"
    for seeds in (1, 3):
        assert words in " ".join(rendered(seeds=seeds, final=few(comparison(0.02, 0.001, 0.044, 0.98), 0.0625)).split())
        assert words not in " ".join(rendered(seeds=seeds).split())


def test_a_probe_that_wins_is_told(rendered):
    words = "the networks have not earned their size"
    assert words in " ".join(rendered(linear_probe=comparison(0.35, 0.3, 0.4, 1.0)).split())
    assert words not in " ".join(rendered().split())


def test_without_final_the_train_and_validation_score_chooses_the_headline(evidence):
    systems = {name: system for name, system in evidence.systems.items() if name != "final"}
    kept = page_module.Evidence(evidence.labels, systems, evidence.trainval, evidence.test, None)
    swapped = systems | {"enf": page_module.System("enf", *([*vars(systems["enf_pnao"]).values()][1:]))}
    assert page_module._headline_system(kept).name == "enf_pnao"
    only = {name: swapped[name] for name in ("linear_probe", "baseline", "enf", "pnao")}
    kept = page_module.Evidence(evidence.labels, only, evidence.trainval, evidence.test, None)
    assert page_module._headline_system(kept).name == "enf"


def choice(low, high, gain=0.1, clips=12):
    return SurestBranch(clips, 0.6, 0.6 - gain, gain, low, high)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (choice(0.02, 0.18), "In EnF <strong>it is</strong>: on the 12 of 160 training clips"),
        (choice(-0.18, -0.02, gain=-0.1), "In EnF <strong>it is not</strong>"),
        (choice(-0.02, 0.22), "In EnF this <strong>cannot be told</strong>"),
        (choice(None, None, clips=1), "EnF's branches decide differently on a single training clip"),
        (SurestBranch(0, None, None, None, None, None), "EnF's branches decide the same on every training clip"),
    ],
)
def test_whether_entropy_is_to_be_trusted_is_what_the_interval_says(rendered, found, words):
    text = html.unescape(" ".join(rendered(surest=found).split()))
    assert words in text
    assert ("the interval of the difference holds zero" in text) == (words.endswith("told</strong>"))


def test_the_calibration_of_a_system_is_its_test_predictions(evidence, calibrations):
    system, found = evidence.systems["enf"], calibrations["enf"]
    right = (system.test["discrete"] == evidence.test["discrete"]).to_numpy()
    sure = system.test["confidence"].to_numpy()
    assert found.accuracy == pytest.approx(right.mean())
    pairs = (sure[right][:, None] > sure[~right][None, :]).mean()  # no two are equal here
    assert found.separation == pytest.approx(pairs)
    assert list(found.branches) == ["hubert-18", "hubert-19", "hubert-20"]
    assert found.surest.clips > 10
    differ = np.ptp(system.single_branches.argmax(axis=2), axis=1) > 0  # out of fold, one network a clip
    assert found.surest.clips == differ.sum()
    assert len(differ) == len(evidence.trainval)
    probe = calibrations["linear_probe"]
    assert (probe.branches, probe.surest) == ({}, None)


def test_a_direction_is_named_only_where_it_makes_up_most_of_an_error_beyond_chance():
    judged = [_verdict(0.1, 0.12, 0.1), _verdict(0.1, 0.05, 0.1), _verdict(0.1, 0.05, -0.06), _verdict(0.1, 0.05, 0.03)]
    assert judged == ["calibrated", "overconfident", "underconfident", "uneven"]


def test_numbers_for_people():
    assert [number(-0.1234), number(None), signed(-0.02), signed(0.02)] == [
        "\N{MINUS SIGN}0.123", "\N{EN DASH}", "\N{MINUS SIGN}0.020", "+0.020",
    ]  # fmt: skip
    assert percent(0.384) == "38\N{NO-BREAK SPACE}%"
    assert [probability(p) for p in (0.999, 0.5, 0.001)] == [
        ">\N{NO-BREAK SPACE}0.99",
        "0.50",
        "<\N{NO-BREAK SPACE}0.01",
    ]


def test_the_gains_are_told_over_both_rivals_with_the_sign_flip_test_of_few_speakers(evidence, compared, rendered):
    def gains(text):
        part = re.search(r'aria-label="Gains over(.*?)</table>', text, re.DOTALL).group(1)
        return [re.findall(r"<td>(.*?)</td>", row) for row in part.split("<tr>")[2:]]

    def shown(each):
        return [signed(each.gain), f"{signed(each.gain_low)} to {signed(each.gain_high)}", probability(each.p_better)]

    for seeds, baseline, probe in ((1, *compared[:2]), (3, *compared[2:])):
        text = rendered(seeds=seeds)
        rows = dict(zip(evidence.systems, gains(text), strict=True))
        assert rows["final"] == [html.escape(word) for word in shown(baseline["final"]) + shown(probe["final"])]
        assert rows["baseline"] == 3 * ["\N{EN DASH}"] + [html.escape(word) for word in shown(probe["baseline"])]
        assert ("of the methods only three seeds or more tell" in text) == (seeds == 1)
        assert "Sign flip" not in text
    names = evidence.test["speaker"].map(lambda name: f"speaker-{int(name[-2:]) % 5}")
    fewer = replace(evidence, test=evidence.test.assign(speaker=names))
    text = rendered(of=fewer)
    each = compare_all(fewer, RESAMPLES, 0).methods_probe["final"]
    assert gains(text)[-1][4:] == [*(html.escape(word) for word in shown(each)), number(each.p_sign_flip)]


def test_the_calibration_error_has_its_interval(calibrations, rendered):
    each = calibrations["enf"]
    text = rendered()
    assert f"<td>{number(each.error)}</td><td>{number(each.low, 2)} … {number(each.high, 2)}</td>" in text
