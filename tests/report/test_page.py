import dataclasses
import html
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from mer_pnao.evaluation.bootstrap import Comparison
from mer_pnao.evaluation.fusion_effect import FusionEffect
from mer_pnao.evaluation.scores import combine
from mer_pnao.outs.record import Member, SingleNetworks
from mer_pnao.report import page as page_module
from mer_pnao.report.calibration import _verdict, calibration
from mer_pnao.report.evidence import read_evidence
from mer_pnao.report.page import Setting, page
from mer_pnao.report.table import compare_all, results_table, verdict
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
    def render(profile="mer2023", seeds=3, of=evidence, **changes):
        changed = compared if of is evidence else compare_all(of, RESAMPLES, 0)
        changed = changed._replace(
            baseline=changed.baseline | changes,
            methods=changed.methods | changes if seeds == 3 else {},
            methods_probe=changed.methods_probe if seeds == 3 else {},
        )
        table = results_table(of, changed)
        names = [f"{kind}_{name}" for kind in ("confusion", "rounds", "weights") for name in evidence.systems]
        pictures = dict.fromkeys([*names, "reliability", "speakers"], b"\x89PNG")
        return page(of, changed, table, calibrations, skipped, pictures, setting=Setting(profile, RESAMPLES, 0))

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
    assert set(compare_all(evidence, 50, 0).methods) == set(evidence.systems)
    for kept in (0, 1):
        pnao = evidence.systems["pnao"]
        systems = evidence.systems | {"pnao": dataclasses.replace(pnao, repeats=pnao.repeats[:kept])}
        assert compare_all(dataclasses.replace(evidence, systems=systems), 50, 0).methods == {}


def test_of_few_speakers_the_sign_flip_test_is_told(rendered):
    words = "With so few speakers such intervals are too narrow; the exact sign-flip test"
    for seeds in (1, 3):
        assert words in " ".join(rendered(seeds=seeds, final=few(comparison(0.02, 0.001, 0.044, 0.98), 0.0625)).split())
        assert words not in " ".join(rendered(seeds=seeds).split())


def test_a_probe_that_wins_is_told(rendered):
    words = "the networks have not earned their size"
    assert words in " ".join(rendered(linear_probe=comparison(0.35, 0.3, 0.4, 1.0)).split())
    assert words not in " ".join(rendered().split())


def with_probe(evidence):
    """Final mixes the linear probe, as `final.probe` asks for."""
    final = evidence.systems["final"]
    members = (Member(system="pnao", round=1, weight=0.5), Member(system="linear_probe", round=None, weight=0.5))
    settings = final.best.settings.model_copy(update={"members": members})
    changed = replace(final, best=final.best.model_copy(update={"settings": settings}))
    return replace(evidence, systems=evidence.systems | {"final": changed})


def test_a_final_with_the_probe_says_so_and_does_not_answer_for_the_networks(evidence, rendered):
    probe = comparison(0.35, 0.3, 0.4, 1.0)
    final = replace(probe, scores=combine(0.96, None))
    plain = " ".join(rendered(linear_probe=probe, final=final).split())
    assert "not earned their size" not in plain
    assert not re.search("Final with|the linear probe too|and the linear probe's", plain)
    text = " ".join(rendered(of=with_probe(evidence), linear_probe=probe, final=final).split())
    assert "<h1>Final with the probe scores Com" in text
    assert "Half of Final with the probe's decision is the linear probe's" in html.unescape(text)
    assert "The linear probe by itself does at least as well as EnF + PNAO (0.950 and" in text
    assert '<th scope="row">Final with the probe</th>' in text
    assert "its decision is the plain mean of that and the linear probe's. The linear probe is" in text
    assert "Final counts all that it mixes, the linear probe too." in text
    assert "the linear probe, the other half of its decision, has no branches" in text
    lost = rendered(of=with_probe(evidence), linear_probe=comparison(-0.5, -0.6, -0.4, 0.0), final=final)
    assert "not earned their size" not in " ".join(lost.split())


def test_without_final_the_train_and_validation_score_chooses_the_headline(evidence):
    systems = {name: system for name, system in evidence.systems.items() if name != "final"}
    kept = page_module.Evidence(evidence.labels, systems, evidence.trainval, evidence.test, None)
    swapped = systems | {"enf": page_module.System("enf", *([*vars(systems["enf_pnao"]).values()][1:]))}
    assert page_module._headline_system(kept).name == "enf_pnao"
    only = {name: swapped[name] for name in ("linear_probe", "baseline", "enf", "pnao")}
    kept = page_module.Evidence(evidence.labels, only, evidence.trainval, evidence.test, None)
    assert page_module._headline_system(kept).name == "enf"


def with_effect(evidence, name, effect):
    """Every training's best round has the effect, as records of this version tell it."""

    def told(system):
        single = {"test": SingleNetworks(scores=combine(0.5, None), fusion=effect)}
        best = system.best.model_copy(update={"round": system.best.round.model_copy(update={"single": single})})
        return replace(system, best=best, repeats=tuple(map(told, system.repeats)))

    return replace(evidence, systems=evidence.systems | {name: told(evidence.systems[name])})


def of_single_networks(text):
    """The section's sentences and its table's rows."""
    part = re.search("<h3>The surest branch(.*?)<h3>", text, re.DOTALL)
    if not part:
        return "", []
    rows = re.findall(r'<tr><th scope="row">(.*?)</tr>', part[1], re.DOTALL)
    return " ".join(html.unescape(part[1]).split()), [re.findall(r"<td>(.*?)</td>", row) for row in rows]


def test_what_the_fusion_changes_is_counted_in_single_networks_on_the_test_clips(evidence, rendered):
    of = with_effect(evidence, "enf", FusionEffect(400, 12, 7, 4, 50, 30, 20.0))
    told, rows = of_single_networks(rendered(of=of))
    assert "In EnF they decide differently in 150 of 1200 decisions" in told, "of three seeds"
    assert "the surest branch is then right in 60 %, a branch at random in 40 %" in told
    assert rows == [['150 <span class="soft">of 1200</span>', "60\xa0%", "40\xa0%", "36", "21", "12"]]
    assert "<strong>" not in told
    assert "of these trained models" not in told
    assert "of these trained models" in of_single_networks(rendered(of=of, seeds=1))[0]


def test_branches_that_decide_the_same_leave_nothing_to_the_fusion(evidence, rendered):
    told, rows = of_single_networks(rendered(of=with_effect(evidence, "enf", FusionEffect(400, 0, 0, 0, 0, 0, 0.0))))
    assert "EnF's branches decide the same on every clip" in told
    assert rows == [['0 <span class="soft">of 1200</span>', "\N{EN DASH}", "\N{EN DASH}", "0", "0", "0"]]


def test_attention_is_counted_and_not_asked_for_its_entropy(evidence, rendered):
    told, rows = of_single_networks(rendered(of=with_effect(evidence, "pnao", FusionEffect(400, 9, 5, 4, 5, 3, 2.0))))
    assert "In PNAO" not in told
    assert len(rows) == 1


def test_records_of_earlier_versions_tell_nothing_of_single_networks(rendered):
    assert of_single_networks(rendered()) == ("", [])


def test_the_calibration_of_a_system_is_its_test_predictions(evidence, calibrations):
    system, found = evidence.systems["enf"], calibrations["enf"]
    right = (system.test["discrete"] == evidence.test["discrete"]).to_numpy()
    sure = system.test["confidence"].to_numpy()
    assert found.accuracy == pytest.approx(right.mean())
    pairs = (sure[right][:, None] > sure[~right][None, :]).mean()  # no two are equal here
    assert found.separation == pytest.approx(pairs)
    assert list(found.branches) == ["hubert-18", "hubert-19", "hubert-20"]
    assert calibrations["linear_probe"].branches == {}


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
    of_fewer = compare_all(fewer, RESAMPLES, 0)
    row = results_table(fewer, of_fewer).set_index("system").loc["final"]
    flips = [row["p_sign_flip_seeds"], row["p_sign_flip_seeds_over_probe"]]
    assert flips == [each["final"].p_sign_flip for each in (of_fewer.methods, of_fewer.methods_probe)]
    each = of_fewer.methods_probe["final"]
    assert gains(text)[-1][4:] == [*(html.escape(word) for word in shown(each)), number(each.p_sign_flip)]


def test_the_calibration_error_has_its_interval(calibrations, rendered):
    each = calibrations["enf"]
    text = rendered()
    assert f"<td>{number(each.error)}</td><td>{number(each.low, 2)} … {number(each.high, 2)}</td>" in text
    assert "bootstrap<br>interval</th>" in text
    assert "with few speakers holds the true ECE less often than that" in " ".join(text.split())


def test_numbered_emotions_have_a_legend(rendered, monkeypatch):
    assert "1&nbsp;is" not in rendered()
    monkeypatch.setattr(page_module, "drawable", lambda names: [str(place) for place, _ in enumerate(names, 1)])
    told = "1&nbsp;is neutral, 2&nbsp;is angry, 3&nbsp;is happy, 4&nbsp;is sad, 5&nbsp;is worried, 6&nbsp;is surprise."
    assert told in rendered()
