"""A model that reads words: from the command line, from Python and through the service."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import requests
import torch

from mer_pnao.encoders.config import EncoderConfig
from mer_pnao.extraction.clip_encoders import build_encoder
from mer_pnao.extraction.extract import extract
from mer_pnao.extraction.shards import Clip
from mer_pnao.features.provenance import read_provenance, write_settings
from mer_pnao.features.sets import load_sets
from mer_pnao.foundations.files import write_json
from mer_pnao.media.config import MediaLimits
from mer_pnao.network.emotion_network import EmotionNetwork
from mer_pnao.outs.names import ENCODERS
from mer_pnao.outs.networks import read_round, write_networks
from mer_pnao.predict import Predictor

MODEL = "models/enf_pnao/round-07"
WORDLESS = "it has no words, or none were given, so the answer goes by sound and picture"
SAID = ["i am happy", "so sad", "", "sadly", "today !"]


@pytest.fixture(scope="module")
def project(demo_project, bert, tmp_path_factory):
    """The demo's project with a model that also reads words."""
    project = Path(shutil.copytree(demo_project, tmp_path_factory.mktemp("words") / "project"))
    shutil.copytree(bert, project / "data/encoders/bert")
    config = EncoderConfig("text", "data/encoders/bert", precision="fp32", transcripts="said.csv", column="english")
    clips = sorted((project / "data/clips").glob("*.mp4"))
    rows = [f"{clip.stem},{said}" for clip, said in zip(clips, SAID, strict=True)]
    (project / "said.csv").write_text("\n".join(["name,english", *rows]))
    out = project / "data/features/words"
    spoken = [Clip(clip.stem, clip, text=said) for clip, said in zip(clips, SAID, strict=True)]
    extract(spoken, build_encoder("words", config, project), out, project / "work")
    write_settings(out, asdict(config), asdict(MediaLimits()))
    model = read_round(project / "models/enf_pnao/round-00")
    blueprint = replace(model.blueprint, widths={**model.blueprint.widths, "words": 16}, text=("words",))
    torch.manual_seed(5)
    network = EmotionNetwork(blueprint).eval()
    for name, part in load_sets(project / "data/features", list(blueprint.widths)).items():
        network.zscore[name].mean.copy_(torch.from_numpy(part.vectors.mean(axis=0)))
        network.zscore[name].std.copy_(torch.from_numpy(part.vectors.std(axis=0) + 1e-3))
    write_networks(project / MODEL, replace(model, number=7, blueprint=blueprint, networks=(network,)))
    write_json(project / MODEL / ENCODERS, read_provenance(project / "data/features", list(blueprint.widths)))
    return project


@pytest.fixture(scope="module")
def expected(project):
    """Clip -> valence, by the network on the stored features."""
    model = read_round(project / MODEL)
    found = load_sets(project / "data/features", list(model.blueprint.widths))
    decided = model.decide({name: torch.from_numpy(part.vectors) for name, part in found.items()})
    return dict(zip(found["words"].names, map(float, decided.valence), strict=True))


def answers(out):
    return {row["name"]: row for row in map(json.loads, out.splitlines())}


def test_transcripts_give_each_clip_its_words(mer, project, expected):
    options = ["--model", MODEL, "--transcripts", "said.csv", "--column", "english", "--json"]
    code, out, _ = mer(project, "predict", "data/clips", *options)
    assert code == 0
    found = answers(out)
    assert {name: row["valence"] for name, row in found.items()} == pytest.approx(expected, abs=1e-5)
    wordless = [name for name, row in found.items() if WORDLESS in row["warnings"]]
    assert wordless == [sorted(expected)[2]]


def test_the_words_of_one_clip_and_what_cannot_be_said(mer, project, expected):
    name = sorted(expected)[0]
    clip = f"data/clips/{name}.mp4"
    code, out, _ = mer(project, "predict", clip, "--model", MODEL, "--text", SAID[0], "--json")
    assert code == 0
    assert answers(out)[name]["valence"] == pytest.approx(expected[name], abs=1e-5)
    without = answers(mer(project, "predict", clip, "--model", MODEL, "--json")[1])[name]
    assert without["valence"] != pytest.approx(expected[name], abs=1e-5)
    assert WORDLESS in without["warnings"]
    for options, said in (
        (["data/clips", "--text", "i am"], "--text is for one clip, and 5 are named"),
        ([clip, "--text", "i", "--transcripts", "said.csv"], "only one of --text and --transcripts"),
        ([clip, "--transcripts", "said.csv"], "has no column 'text', only 'name', 'english'"),
        ([name, "--features", "data/features", "--text", "i"], "with --features no clip is encoded"),
    ):
        code, _, err = mer(project, "predict", *options, "--model", MODEL)
        assert code == 2
        assert said in err
    code, _, err = mer(project, "predict", clip, "--model", "models/enf_pnao/round-00", "--text", "i am")
    assert code == 2
    assert "reads no words" in err


def test_one_decoded_clip_with_its_words_is_the_same(project, expected):
    predictor = Predictor.load(project / MODEL, root=project)
    clip = sorted((project / "data/clips").glob("*.mp4"))[1]
    contents = {name: encoder.reader(clip) for name, encoder in predictor.encoders.items() if encoder.reader}
    assert contents.keys() == predictor.plans().keys()
    answer = predictor.predict_decoded(clip.stem, contents, SAID[1])
    assert answer.valence == pytest.approx(expected[clip.stem], abs=1e-5)
    assert WORDLESS not in answer.warnings


@pytest.mark.slow
def test_the_service_takes_the_field_text(project, expected, tmp_path, start_service, browser):
    with start_service(project, tmp_path, "--model", MODEL) as service:
        assert requests.get(f"{service.url}/model", timeout=120).json()["reads_words"] is True
        clip = sorted((project / "data/clips").glob("*.mp4"))[0]

        def post(**form):
            with clip.open("rb") as file:
                return requests.post(f"{service.url}/predict", files={"clip": file, **form.pop("files", {})}, **form)

        answer = post(data={"text": SAID[0]}, timeout=120).json()
        assert answer["valence"] == pytest.approx(expected[clip.stem], abs=1e-5)
        assert WORDLESS in post(timeout=120).json()["warnings"]
        long = post(data={"text": "a" * 10_001}, timeout=120)
        assert (long.status_code, long.json()["detail"]) == (422, "the field 'text' holds more than 10,000 characters")
        page = browser.new_page(viewport={"width": 390, "height": 900})
        page.goto(service.url)
        page.get_by_label("What is said in it").fill(SAID[0])
        page.set_input_files("#file", clip)
        page.locator("#prediction").wait_for(timeout=120_000)
        assert page.locator("#number").inner_text().startswith(f"{answer['valence']:+.2f}")
        assert "no words" not in page.locator("#warnings").inner_text()
        page.close()
        file = post(files={"text": b"words in a file"}, timeout=120)
        assert (file.status_code, file.json()["detail"]) == (422, "the field 'text' takes words, and no file")


def test_a_model_without_words_says_so(demo_project):
    assert not Predictor.load(demo_project / "models/enf_pnao/round-00", root=demo_project).reads_words
