"""Nested cross-validation: who is tested by whom, and that nothing of a tested speaker was seen before."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from mer_pnao.evaluation.scores import score
from mer_pnao.foundations.errors import InputError
from mer_pnao.nested.run import NESTED, OuterResult, run_nested, total_rounds
from mer_pnao.outs.names import FINAL, PROBE
from mer_pnao.params.profile import OuterConfig, Params
from mer_pnao.pruning.config import PnaoConfig
from mer_pnao.pruning.round_store import DiskRoundStore
from mer_pnao.report.nested import nested_table, pooled, print_nested, write_nested
from mer_pnao.systems.dataset import Dataset
from mer_pnao.training.examples import Examples

LABELS = ("angry", "neutral", "happy")


@pytest.fixture(scope="module")
def params(small_profile: Params) -> Params:
    changes = {"folds": 2, "seeds": (0, 1), "outer": OuterConfig(3), "pnao": PnaoConfig(naor=0.7, alpha=1e-3, rounds=1)}
    return small_profile.model_copy(update=changes)


@pytest.fixture(scope="module")
def dataset(examples: Examples) -> Dataset:
    rows = np.arange(len(examples))
    return Dataset(examples.select(rows[rows < 90]), examples.select(rows[rows >= 90]), LABELS)


@pytest.fixture(scope="module")
def run(params: Params, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[OuterResult]]:
    """Runs that share what they have trained."""
    folder = tmp_path_factory.mktemp("nested")
    store = DiskRoundStore(folder / "rounds")
    return lambda dataset, **options: list(run_nested(dataset, params, store, folder / "models", **options))


@pytest.fixture(scope="module")
def progress() -> list[int]:
    """What the first run says that it has done."""
    return []


@pytest.fixture(scope="module")
def tested(run: Callable[..., list[OuterResult]], dataset: Dataset, progress: list[int]) -> list[OuterResult]:
    return run(dataset, done=progress.append)


class NeverAsked(DiskRoundStore):
    """No training may have begun."""

    def __init__(self) -> None:
        pass

    def load(self, key: str) -> None:
        pytest.fail("a training was asked for")


def test_each_clip_is_tested_once_by_every_system_and_seed(tested: list[OuterResult], dataset: Dataset) -> None:
    everyone = sorted((*dataset.train.names, *dataset.test.names))
    for system in NESTED:
        for seed in (None,) if system == PROBE else (0, 1):
            parts = [each for each in tested if (each.system, each.seed) == (system, seed)]
            assert sorted(name for each in parts for name in each.clips.names) == everyone
            speakers = [set(each.clips.speakers or ()) for each in parts]
            assert not set.intersection(*speakers)
            assert sum(map(len, speakers)) == len(set.union(*speakers))
    assert len(tested) == 3 * (1 + 2 * 6)


def test_where_some_speakers_are_known_the_other_clips_are_kept_apart_from_them(dataset: Dataset) -> None:
    unknown = replace(dataset.test, speakers=None)
    pool = dataset.train.joined(unknown)
    assert pool.speakers is not None
    assert pool.speakers[: len(dataset.train)] == dataset.train.speakers
    assert len(set(pool.speakers[len(dataset.train) :])) == len(unknown)
    assert unknown.joined(unknown).speakers is None


def test_what_a_tested_speaker_says_changes_nothing_that_tests_him(
    tested: list[OuterResult], run: Callable[..., list[OuterResult]], dataset: Dataset, progress: list[int]
) -> None:
    """His labels turned round: the decisions of the fold that leaves him out are the same, those of the others not.

    What is remembered counts as progress like what is trained.
    """
    victim = (dataset.train.speakers or ())[0]

    def turned(part: Examples) -> Examples:
        his = np.array([speaker == victim for speaker in part.speakers or ()])
        return replace(part, valence=np.where(his, -part.valence, part.valence))

    finished: list[int] = []
    again = run(replace(dataset, train=turned(dataset.train), test=turned(dataset.test)), done=finished.append)
    assert sum(finished) == sum(progress)
    changed = {True: 0, False: 0}
    for before, after in zip(tested, again, strict=True):
        assert before.clips.names == after.clips.names
        of_victim = victim in (before.clips.speakers or ())
        changed[of_victim] += not np.array_equal(before.decisions.valence, after.decisions.valence)
    assert changed[True] == 0
    assert changed[False] == 2 * (1 + 2 * 6)


def test_scores_are_those_of_the_pooled_decisions(tested: list[OuterResult]) -> None:
    table = nested_table(pooled(tested), 100, 0)
    assert len(table) == 7 * 3  # two seeds and their mean
    for system in NESTED:
        coms = []
        for seed in (0, 1):
            wanted = None if system == PROBE else seed
            parts = [each for each in tested if (each.system, each.seed) == (system, wanted)]
            truth = [np.concatenate([getattr(each.clips, key) for each in parts]) for key in ("emotion", "valence")]
            chosen = np.concatenate([each.decisions.posterior.argmax(axis=1) for each in parts])
            valence = np.concatenate([each.decisions.valence for each in parts])
            (row,) = table[(table["system"] == system) & (table["seed"] == seed)].to_dict("records")
            coms.append(score(truth[0], chosen, truth[1], valence).com)
            assert row["com"] == pytest.approx(coms[-1])
            assert row["wa"] == pytest.approx((chosen == truth[0]).mean())
            recalls = [(chosen == truth[0])[truth[0] == label].mean() for label in np.unique(truth[0])]
            assert row["uar"] == pytest.approx(np.mean(recalls))
        (row,) = table[(table["system"] == system) & (table["seed"] == "mean")].to_dict("records")
        assert row["com"] == pytest.approx(np.mean(coms))
        if system in (PROBE, FINAL):
            assert np.isnan(row["single_com"])
        else:
            assert row["networks"] == 2
            assert row["decisions"] == 2 * 2 * 120  # seeds, networks, clips
            assert (row["changed"] == 0) == (system == "mean_fusion")
        assert 0 <= row["speakers_won"] <= row["speakers"]


def test_what_is_written_says_how_it_came_about(tested: list[OuterResult], tmp_path: Path) -> None:
    write_nested(tested, LABELS, "tiny", 100, 0, tmp_path)
    page = (tmp_path / "nested/index.html").read_text()
    assert "3 outer\n  folds leave speakers out in turn" in page
    assert "means of 2 training seeds" in page
    table = pd.read_csv(tmp_path / "nested.csv").set_index(["system", "seed"])
    enf = table.loc["enf", "mean"]
    assert f'{int(enf["changed"])} <span class="soft">of 480</span></td><td>{int(enf["better"])}' in page
    assert page.count("of 480") == 5  # systems that fuse branches, the plain mean among them
    assert len((tmp_path / "nested/predictions.csv").read_text().splitlines()) == 1 + 120 * (1 + 2 * 6)
    assert (tmp_path / "nested/speakers.png").read_bytes().startswith(b"\x89PNG")
    assert "Final with the probe" not in page
    alone = [each for each in tested if each.seed in (None, 0)]
    write_nested(alone, LABELS, "tiny", 100, 0, tmp_path / "one", probe_in_final=True)
    page = (tmp_path / "one/nested/index.html").read_text()
    assert '<th scope="row">Final with the probe</th>' in page
    assert "Half of Final's decision is the linear probe's" in page
    assert "One training seed: this tells of these trained models" in page


def test_of_unknown_speakers_clips_are_drawn_and_the_table_says_so(tested: list[OuterResult], tmp_path: Path) -> None:
    unknown = [replace(each, clips=replace(each.clips, speakers=None)) for each in tested if each.seed in (None, 0)]
    table = write_nested(unknown, LABELS, "tiny", 100, 0, tmp_path)
    page = (tmp_path / "nested/index.html").read_text()
    assert "120 clips, each tested once" in page
    assert "resamples of clips, for the speakers are unknown" in page
    assert not (tmp_path / "nested/speakers.png").exists()
    assert "clips, for the speakers are unknown" in shown(table)


def shown(table: pd.DataFrame) -> str:
    console = Console(file=io.StringIO(), width=80)
    print_nested(table, console)
    assert isinstance(console.file, io.StringIO)
    return " ".join(console.file.getvalue().split())


def test_the_terminal_has_the_means_over_the_seeds(tested: list[OuterResult]) -> None:
    table = nested_table(pooled(tested), 100, 0)
    text = shown(table)
    assert "120 clips, each tested once; mean of 2 seeds. Interval and P from resamples of 12 speakers." in text
    (row,) = table[(table["system"] == "enf") & (table["seed"] == "mean")].to_dict("records")
    measures = " ".join(f"{row[measure]:.3f}" for measure in ("uar", "wa", "dis", "com"))
    assert f"EnF {measures} {row['com_low']:.2f}…{row['com_high']:.2f}" in text
    assert f"{row['speakers_won']}/12" in text


def test_valence_that_one_outer_fold_could_not_learn_is_left_out_everywhere(
    params: Params, dataset: Dataset, tmp_path: Path
) -> None:
    """One speaker has valences: the systems that test him have learnt none."""
    alone = (dataset.train.speakers or ())[0]

    def known(part: Examples) -> Examples:
        his = np.array([speaker == alone for speaker in part.speakers or ()])
        return replace(part, valence=np.where(his, part.valence, np.nan).astype(np.float32))

    some = replace(dataset, train=known(dataset.train), test=known(dataset.test))
    brief = params.model_copy(update={"seeds": (0,)})
    tested = list(run_nested(some, brief, DiskRoundStore(tmp_path / "rounds"), tmp_path / "models"))
    assert not any(each.clips.has_valence for each in tested)
    assert nested_table(pooled(tested), 100, 0)["dim"].isna().all()


def test_progress_and_what_the_clips_do_not_allow(
    params: Params, tested: list[OuterResult], progress: list[int], dataset: Dataset, tmp_path: Path
) -> None:
    assert tested
    assert sum(progress) == total_rounds(params) == 3 * 2 * (3 + 2 * 2)
    emotion = dataset.train.emotion
    kept = np.append(np.flatnonzero(emotion != 2), np.flatnonzero(emotion == 2)[:5])
    others = np.flatnonzero(dataset.test.emotion != 2)
    few = replace(dataset, train=dataset.train.select(kept), test=dataset.test.select(others))
    strict = params.model_copy(update={"folds": 5})  # three outer folds leave less than five clips of the third emotion
    with pytest.raises(InputError, match="fewer than the"):
        next(run_nested(few, strict, NeverAsked(), tmp_path / "models"))
    many = params.model_copy(update={"outer": OuterConfig(40)})
    with pytest.raises(InputError, match="40"):
        next(run_nested(dataset, many, DiskRoundStore(tmp_path / "rounds"), tmp_path / "models"))
