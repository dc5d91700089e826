import io
import re

import pytest
from rich.console import Console

from mer_pnao.evaluation.bootstrap import Comparison
from mer_pnao.evaluation.scores import combine
from mer_pnao.foundations.errors import InputError
from mer_pnao.report.table import verdict
from mer_pnao.report.terminal import print_table
from mer_pnao.report.words import short_count

TABLE = """\
system,trainval_com,dis,dim,com,com_low,com_high,p_better_than_baseline,parameters,parameters_ratio,\
p_better_than_probe,p_sign_flip,uar,wa,macro_f1,clips,speakers,\
gain_low,gain_high,gain_over_probe_low,gain_over_probe_high,p_sign_flip_over_probe,\
parameters_total,single_com
linear_probe,,,,,,,,,,,,,,,,,,,,,,,
baseline,0.626700,0.828700,0.603300,0.677875,0.634000,0.721000,0.500000,32400,1.000000,0.7,1,0.8,0.8,0.8,120,5,-0.1,0.1,0.2,0.3,0.5,162000,0.6
pnao,0.648100,0.830100,,0.830100,0.642000,0.728000,0.912500,12312,0.380000,0.8,0.0625,0.8,0.8,0.8,120,5,-0.1,0.1,0.2,0.3,0.5,162000,0.6
"""


def printed(tmp_path, table):
    (tmp_path / "table.csv").write_text(table)
    console = Console(file=io.StringIO(), width=80)
    print_table(tmp_path / "table.csv", console)
    return console.file.getvalue()


def test_the_table_fits_eighty_columns_and_keeps_its_numbers(tmp_path):
    text = printed(tmp_path, TABLE)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert not re.search(r"…(?!-?\d)", text)  # nothing is cut
    (baseline,) = (line for line in lines if "Baseline" in line)
    assert re.split(r" {2,}", baseline.strip()) == [
        "Baseline", "0.627", "0.829", "0.603", "0.678", "0.63…0.72", "\N{EN DASH}", "\N{EN DASH}", "32.4k 100%",
    ]  # fmt: skip
    (pnao,) = (line for line in lines if "PNAO" in line)
    assert re.split(r" {2,}", pnao.strip())[3:] == [
        "\N{EN DASH}", "0.830", "0.64…0.73", "0.91", "0.06", "12.3k 38%",
    ]  # fmt: skip
    assert "Linear probe" not in text  # it was not trained
    assert "Another kind of processor moves Com as another seed does" in text
    told = " ".join(text.split())
    assert (
        "Com = Dis - 0.25 Dim on 120 test clips of 5 speakers. Interval and P (better than the baseline) from" in told
    )
    assert "from resamples of speakers. Of one seed they tell of these trained models." in told
    assert "p: exact sign-flip test over the speakers" in told
    many = printed(tmp_path, TABLE.replace(",0.0625,", ",,").replace(",0.7,1,", ",0.7,,"))
    assert "sign-flip" not in many
    assert re.search("0.91 +12.3k 38%", many)
    nobody = " ".join(printed(tmp_path, TABLE.replace(",120,5,", ",120,0,")).split())
    assert "on 120 test clips. Interval" in nobody
    assert "from resamples of clips." in nobody


def test_low_scores_are_not_cut_either(tmp_path):
    low = (
        TABLE
        + "enf_pnao,-13.767247,0.492935,57.040728,-13.767247,-21.067122,-17.263990,0.9999,1645555,1.0"
        + ",,,,,,120,5,,,,,,,\n"
    )
    text = printed(tmp_path, low)
    assert max(map(len, text.splitlines())) <= 80
    assert not re.search(r"…(?!-?\d)", text)
    for number in ("EnF + PNAO", "-13.767", "57.041", "-21.07…-17.26", ">\N{NO-BREAK SPACE}0.99", "1.6M 100%"):
        assert number in text


SEEDS = """\
,seeds,trainval_com_mean,trainval_com_std,dis_mean,dis_std,dim_mean,dim_std,com_mean,com_std,\
com_seeds_low,com_seeds_high,gain_seeds_low,gain_seeds_high,gain_seeds_over_probe_low,gain_seeds_over_probe_high,\
p_seeds_better_than_baseline,p_seeds_better_than_probe,p_sign_flip_seeds,p_sign_flip_seeds_over_probe
,,,,,,,,,,,,,,,,,,,
,3,-0.630000,0.010400,0.830000,0.012000,11.603300,0.200000,-0.678000,0.101200,-0.8,-0.5,0,0,0.1,0.2,0.5,0.9,1,0.5
,1,0.648100,,0.830100,,,,0.830100,,,,,,,,,,,
"""


def test_several_seeds_are_shown_below_with_mean_and_deviation(tmp_path):
    both = "".join(a + b + "\n" for a, b in zip(TABLE.splitlines(), SEEDS.splitlines(), strict=True))
    text = printed(tmp_path, both)
    assert text.startswith(printed(tmp_path, TABLE))
    below = text.removeprefix(printed(tmp_path, TABLE)).splitlines()
    assert max(map(len, below)) <= 80
    assert not any("…" in line for line in below)  # nothing is cut
    rows = [re.split(r" {2,}", line.strip()) for line in below]
    assert ["Baseline", "3", "-0.630±0.010", "0.830±0.012", "11.603±0.200", "-0.678±0.101"] in rows
    assert ["PNAO", "1", "0.648", "0.830", "\N{EN DASH}", "0.830"] in rows
    assert "Linear probe" not in " ".join(below)
    assert "sample standard deviation" in " ".join(below)
    with pytest.raises(InputError, match=r"table\.csv lacks the column 'com_std'"):
        printed(tmp_path, both.replace("com_std", "x").replace("trainval_x", "trainval_com_std"))


def test_each_further_split_is_a_table_of_its_own(tmp_path):
    head, *rows = TABLE.splitlines()
    further = [f"{row},{split}" for split in ("test", "null", "semi") for row in rows if split != "semi"]
    further += [f"{name}{21 * ','},semi" for name in ("linear_probe", "baseline")]  # nothing there has a label
    text = printed(tmp_path, "\n".join([f"{head},split", *further]).replace("0.677875", "0.555", 1) + "\n")
    lines = [line.strip() for line in text.splitlines()]
    assert max(map(len, lines)) <= 80
    places = [place for place, line in enumerate(lines) if line.startswith("Split")]
    assert [lines[place] for place in places] == ["Split test", "Split null"]  # a split may be called so
    assert [re.split(r" {2,}", line)[4] for line in lines if line.startswith("Baseline")] == ["0.555", "0.678"]
    assert sum(line.startswith("PNAO") for line in lines) == 2
    assert "Com = Dis - 0.25 Dim on its split" in text


def test_a_wrong_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no\.csv is not a readable table"):
        print_table(tmp_path / "no.csv", Console())
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"other\.csv lacks the column 'system'"):
        print_table(tmp_path / "other.csv", Console())


@pytest.mark.parametrize(("count", "words"), [(999, "999"), (12_312, "12.3 k"), (1_500_000, "1.5 M")])
def test_short_counts(count, words):
    assert short_count(count) == words


def test_there_is_no_verdict_without_a_baseline():
    with pytest.raises(ValueError, match="no verdict"):
        verdict(Comparison(combine(0.5, None), 0.4, 0.6, None, None, None, None))
