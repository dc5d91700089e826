"""`Predictor`: the pipeline's own predictions again, in order, and nothing when an encoder is another one."""

import json
import shutil
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.parallel import usable_cores
from mer_pnao.predict import Prediction, Predictor, Refusal

MODEL = "models/enf_pnao/round-00"
DRAWN = "the model has learnt from drawn faces and synthetic voices, and knows nothing about people"


@pytest.fixture(scope="module")
def predictor(demo_project):
    return Predictor.load(demo_project / MODEL, root=demo_project)


def clips_of(project):
    return sorted((project / "data/clips").glob("*.mp4"))


@pytest.fixture
def copied(demo_project, tmp_path):
    return Path(shutil.copytree(demo_project, tmp_path / "project"))


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_clips_of_the_corpus_get_what_was_recorded(demo_project, predictor, recorded, assert_same):
    rows = recorded(demo_project / MODEL)
    answers = list(predictor.predict(clips_of(demo_project)))
    assert [answer.name for answer in answers] == sorted(rows)
    assert len({round(answer.valence, 5) for answer in answers}) == len(rows)  # they do tell the clips apart
    for answer in answers:
        assert_same(asdict(answer), rows[answer.name])
        assert answer.model_version == "enf_pnao/round-00"
        assert sum(answer.posteriors.values()) == pytest.approx(1, abs=1e-5)


def test_bad_clips_keep_their_place_and_say_why(demo_project, predictor, damaged, recorded, assert_same):
    good = clips_of(demo_project)
    order = [damaged["text"], good[0], damaged["empty"], damaged["truncated"], *good[1:], Path("gone.mp4")]
    answers = list(predictor.predict(order))
    assert [answer.name for answer in answers] == [path.stem for path in order]
    reasons = {answer.name: answer.reason for answer in answers if isinstance(answer, Refusal)}
    assert set(reasons) == {"text", "empty", "truncated", "gone"}
    assert reasons["empty"] == "is empty"
    assert reasons["gone"].startswith("cannot be opened (No such file")
    assert reasons["text"].startswith("is not a readable video file")
    rows = recorded(demo_project / MODEL)
    for answer in answers:
        if isinstance(answer, Prediction):
            assert_same(asdict(answer), rows[answer.name])


def test_clips_of_one_name_keep_their_own_answers(demo_project, predictor, damaged, tmp_path):
    one, other, *_ = clips_of(demo_project)
    twin = Path(shutil.copyfile(other, tmp_path / one.name))
    bad = Path(shutil.copyfile(damaged["empty"], damaged["empty"].with_name(one.name)))
    first, refused, second = predictor.predict([one, bad, twin])
    assert refused == Refusal(one.stem, "is empty")
    assert first.name == second.name == one.stem
    assert [answer.valence for answer in predictor.predict([one, other])] == pytest.approx(
        [first.valence, second.valence], abs=1e-5
    )
    assert abs(first.valence - second.valence) > 1e-3


def test_only_bad_clips_and_no_clips(predictor, damaged):
    assert all(isinstance(answer, Refusal) for answer in predictor.predict(damaged.values()))
    assert list(predictor.predict([])) == []


def test_a_clip_without_a_face_is_seen_whole_and_one_without_sound_refused(predictor, odd_clips):
    seen, refused = predictor.predict([odd_clips.no_face, odd_clips.no_audio])
    assert seen.warnings[-1] == "no face was found, so the whole frame was used"
    assert refused == Refusal("no_audio", "has no audio track")


@pytest.mark.parametrize("kind", ["audio", "video"])
def test_of_two_tracks_the_one_that_was_used_is_named(demo_project, predictor, with_a_track_twice, tmp_path, kind):
    clip = clips_of(demo_project)[1]
    both = with_a_track_twice(clip, tmp_path / clip.name, kind)
    (alone,), (one_of_two,) = predictor.predict([clip]), predictor.predict([both])
    used = f"it has 2 {kind} tracks, of which number 1 was used"
    assert one_of_two.warnings == (*alone.warnings, used)
    assert one_of_two.posteriors == pytest.approx(alone.posteriors, abs=1e-6)
    contents = {name: encoder.reader(both) for name, encoder in predictor.encoders.items()}
    assert predictor.predict_decoded(clip.stem, contents).warnings[-1] == used


def test_real_people_are_unlike_what_was_drawn(demo_project, predictor, real_clips):
    """And the answer says what the model has learnt from, and which valences it knows."""
    for answer in predictor.predict(clips_of(demo_project)):
        assert answer.novelty <= 1
        low, high = answer.valence_range
        assert high == 4
        beyond = f"its valence lies beyond that of the training clips, {low:+.2f} to +4.00"
        assert answer.warnings == ((DRAWN, beyond) if answer.valence < low else (DRAWN,))
    for answer in predictor.predict(real_clips[:4]):
        assert answer.novelty > 1
        assert [warning for warning in answer.warnings if "is unlike that of the training clips" in warning]


def test_clips_are_read_a_few_batches_ahead_and_no_more(demo_project, predictor):
    """However long the list is: what is decoded and waits is bounded by the batch."""
    one, taken = clips_of(demo_project)[0], []

    def endless():
        while True:
            taken.append(one)
            yield one

    answers = predictor.predict(endless())
    assert len(list(islice(answers, 3))) == 3
    answers.close()
    batch = max(encoder.batch for encoder in predictor.encoders.values())
    assert len(taken) <= 4 * usable_cores() * batch


def test_a_vector_that_is_not_finite_costs_that_clip_only(demo_project, predictor):
    encoder, clips = predictor.encoders["manet"], clips_of(demo_project)
    faces = encoder.reader(clips[2]).content

    def broken(contents):
        """No number for the faces of one clip."""
        vectors = encoder.encode(contents)
        vectors["manet"][[np.array_equal(one.content, faces) for one in contents]] = np.nan
        return vectors

    encoders = {**predictor.encoders, "manet": replace(encoder, encode=broken)}
    answers = list(replace(predictor, encoders=encoders).predict(clips))
    assert [isinstance(answer, Refusal) for answer in answers] == [False, False, True, False, False]
    assert answers[2].reason == "cannot be encoded: its vector of manet is not finite"
    contents = {name: one.reader(clips[2]) for name, one in encoders.items()}
    assert replace(predictor, encoders=encoders).predict_decoded(clips[2].stem, contents) == answers[2]


def test_one_decoded_clip_is_the_same_as_its_file(demo_project, predictor):
    path = clips_of(demo_project)[1]
    contents = {name: encoder.reader(path) for name, encoder in predictor.encoders.items()}
    alone = predictor.predict_decoded(path.stem, contents)
    (by_file,) = predictor.predict([path])
    np.testing.assert_allclose(list(alone.posteriors.values()), list(by_file.posteriors.values()), atol=1e-6)
    assert alone.name == by_file.name


def test_another_checkpoint_is_refused_with_both_digests(copied):
    record = json.loads((copied / MODEL / "encoders.json").read_text())
    checkpoint = copied / "data/encoders/manet.safetensors"
    data = bytearray(checkpoint.read_bytes())
    data[-1] ^= 1  # one bit of one weight
    checkpoint.write_bytes(bytes(data))
    with pytest.raises(InputError) as refused:
        Predictor.load(copied / MODEL, "7", copied)
    from mer_pnao.foundations.files import digest

    for part in ("encoder manet", "model 7", digest(checkpoint), record["manet"]["identity"]["checkpoint_sha256"]):
        assert part in str(refused.value)
    checkpoint.unlink()
    with pytest.raises(InputError, match=r"manet\.safetensors: no such checkpoint for manet.*model 7 was trained with"):
        Predictor.load(copied / MODEL, "7", copied)


def test_an_encoder_that_would_run_otherwise_is_refused(copied):
    edit(copied / MODEL / "encoders.json", lambda record: record["manet"]["config"].update(frames=5))
    with pytest.raises(InputError, match=r"the encoder manet would not run as when .*: frames is 5, and was 3"):
        Predictor.load(copied / MODEL, root=copied)


def test_the_precision_is_the_training_machines(copied):
    """`auto` may mean bfloat16 on another machine; the vectors must stay those of training."""
    edit(copied / MODEL / "encoders.json", lambda record: record["manet"]["config"].update(precision="auto"))
    assert Predictor.load(copied / MODEL, root=copied).encoders["manet"].identity["precision"] == "float32"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.unlink(), r"model 7 holds no encoders\.json.*--features"),
        (lambda path: path.write_text("[]"), r"encoders\.json is not a record of encoders"),
        (lambda path: edit(path, lambda record: record["manet"].pop("config")), "manet of model 7 was imported"),
        (
            lambda path: edit(path, lambda record: record.pop("hubert")),
            "names no encoder for the feature set hubert-18",
        ),
        (
            lambda path: edit(path, lambda record: record["manet"].pop("media")),
            r"how to run the encoder manet: 'media'",
        ),
        (
            lambda path: edit(path, lambda record: record["manet"]["config"].update(checkpoint="../x")),
            r"without '\.\.'",
        ),
    ],
)
def test_a_record_that_does_not_say_how_is_refused(copied, change, message):
    change(copied / MODEL / "encoders.json")
    with pytest.raises(InputError, match=message):
        Predictor.load(copied / MODEL, "7", copied)


def test_the_next_version_takes_over_encoders_that_are_the_same(demo_project, predictor):
    following = Predictor.load(demo_project / "models/enf_pnao/round-01", "2", demo_project, like=predictor)
    assert following.encoders["manet"] is predictor.encoders["manet"]
    assert following.version == "2"
