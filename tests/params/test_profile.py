"""params.yaml: profiles fit the schema and state every value; whatever is wrong is refused by key, value and range."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import fields
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides
from ruamel.yaml import YAML

from mer_pnao.corpus.config import CorpusConfig
from mer_pnao.foundations.errors import InputError
from mer_pnao.params.profile import EvaluationParams, Params, load_params

ROOT = Path(__file__).parents[2]
PROFILES = sorted((ROOT / "profiles").glob("*.yaml"))
NOISE = {"noise": "speech", "snr_low": 5.0, "snr_high": 10.0, "blur": [1, 2, 4], "seed": 0}


def document(path: Path) -> dict[str, object]:
    return YAML(typ="safe", pure=True).load(path.read_text())  # type: ignore[no-any-return]


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_profiles_fit_the_schema_and_state_what_their_stages_read(path: Path) -> None:
    """DVC tracks values, not the schema's defaults: a default that no profile states could change unseen."""
    params = load_params(path)
    assert params.profile == path.stem
    stated = document(path)
    full = json.loads(params.model_dump_json(exclude_none=True))
    for section in (
        "seed",
        "corpus",
        "corruption",
        "features",
        "folds",
        "network",
        "training",
        "pnao",
        "controls",
        "evaluation",
        "promotion",
    ):
        assert stated[section] == full[section], section
    if params.encoders:
        assert stated["media"] == full["media"]
        for name, encoder in params.encoders.items():
            read = {key: value for key, value in full["encoders"][name].items() if key not in encoder.unread()}
            assert stated["encoders"][name] == read
    if params.synthesize:
        assert stated["synthetic"] == full["synthetic"]


def test_the_committed_params_are_the_demo() -> None:
    """The committed ones: `make run PROFILE=ravdess` writes the profile over those of the working tree."""
    show = subprocess.run(["git", "show", "HEAD:params.yaml"], cwd=ROOT, capture_output=True, check=False)
    if b"profile: demo\n" not in show.stdout:
        pytest.skip("no git, or another profile is committed")
    committed = subprocess.check_output(["git", "show", "HEAD:profiles/demo.yaml"], cwd=ROOT)
    assert show.stdout == committed


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_dvc_changes_the_one_line_that_it_is_asked_to(path: Path, tmp_path: Path) -> None:
    """`dvc exp run -S` writes the whole file anew, and lists in block style."""
    params = tmp_path / "params.yaml"
    shutil.copyfile(path, params)
    apply_overrides(params, ["pnao.naor=0.123"])
    before, after = path.read_text().splitlines(), params.read_text().splitlines()
    assert [new for old, new in zip(before, after, strict=True) if old != new] == ["  naor: 0.123"]


def with_change(tmp_path: Path, *keys: str, value: object, profile: str = "demo") -> Path:
    content = document(ROOT / f"profiles/{profile}.yaml")
    here = content
    for key in keys[:-1]:
        here = here[key]  # type: ignore[assignment]
    here[keys[-1]] = value
    path = tmp_path / "params.yaml"
    with path.open("w", encoding="utf-8") as file:
        YAML(typ="safe", pure=True).dump(content, file)
    return path


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("pnao", "naor"), 1.5, r"pnao\.naor must lie in \[0, 1\], got 1\.5"),
        (("pnao", "naorr"), 0.1, r"pnao\.naorr is not a known parameter; did you mean 'naor'\?"),
        (("trainign",), {}, r"trainign is not a known parameter; did you mean 'training'\?"),
        (("training", "epochs"), "many", r"training\.epochs: .*integer, got 'many'"),
        (("training", "epochs"), 2.5, r"training\.epochs: .*integer, got 2\.5"),
        (("training", "learning_rate"), True, r"training\.learning_rate: .*number, got True"),
        (("network", "scorer"), "dot", r"network\.scorer must be one of linear, mean, mlp, tanh, got 'dot'"),
        (("folds",), 1, r"folds must lie in \[2, 20\], got 1$"),
        (("features", "acoustic"), ["hubert-99"], r"the set 'hubert-99', which no encoder makes"),
        (("encoders", "hubert", "kind"), "whale", r"encoders\.hubert\.kind.*got 'whale'"),
        (("corpus", "max_skipped"), -1, r"corpus\.max_skipped must lie in \[0, 1\], got -1"),
        (("profile",), "../x", r"profile must be lower-case letters, .*got '\.\./x'$"),
        (("seed",), None, r"seed: .*got None"),
        (("seed",), 2**32, r"seed must lie in \[0, 4294967295\], got 4294967296$"),
        (("training", "learning_rate"), float("inf"), r"training\.learning_rate must be finite, got inf$"),
        (("training", "learning_rate"), float("nan"), r"training\.learning_rate must be finite, got nan$"),
        (("pnao", "alpha"), float("inf"), r"pnao\.alpha must be finite, got inf$"),
        (("evaluation", "probe_c"), float("inf"), r"evaluation\.probe_c must be finite, got inf$"),
        (("corpus", "labels"), ["happy", "sad", "happy"], r"corpus\.labels must name each emotion once, got 'happy'"),
        (("corpus", "labels"), ["happy", float("inf")], r"corpus\.labels\.1 must be finite, got inf"),
        (("network", "hidden"), 10**30, r"network\.hidden must lie in \[1, 65536\], got 10{30}$"),
        (("training", "epochs"), 10**400, r"training\.epochs must lie in \[1, 100000\], got 10{400}$"),
        (("seeds",), [], r"seeds must name at least one seed, got none$"),
        (("seeds",), [0, 3, 0], r"seeds must name each seed once, got 0 twice$"),
        (("seeds",), [-1], r"seeds must lie in \[0, 4294967295\], got -1$"),
        (
            ("seeds",),
            [2**32],
            r"seeds must lie in \[0, 4294967295\], got 4294967296$",
        ),
        (("seeds",), [0, 1.5], r"seeds\.1: .*integer, got 1\.5$"),
        (("seeds",), [True], r"seeds\.0: .*integer, got True$"),
        (("seeds",), ["1"], r"seeds\.0: .*integer, got '1'$"),
        (("seeds",), "0", r"seeds: .*array, got '0'$"),
        (("seeds",), 0, r"seeds: .*array, got 0$"),
        (("corpus", "labels"), ["happy"], r"corpus\.labels must be at least two emotions, or none, got only 'happy'$"),
        (("corpus", "test_share"), 0.0, r"corpus\.test_share must lie in \(0, 0\.5\], got 0\.0$"),
        (("corpus", "test_share"), 0.6, r"corpus\.test_share must lie in \(0, 0\.5\], got 0\.6$"),
        (("corpus", "label_file"), "../labels.csv", r"corpus\.label_file must be a relative path without '\.\.', got"),
        (("corpus", "label_file"), "", r"corpus\.label_file must be a relative path"),
        (("corpus", "kind"), "cinema", r"corpus\.kind.*got 'cinema'"),
        (
            ("corpus", "archive_labels"),
            ["joy", "joy"],
            r"corpus\.archive_labels must name each emotion once, got 'joy' tw",
        ),
        (("corpus", "archive_labels"), [" joy"], r"corpus\.archive_labels must be words .*, got ' joy'"),
        (("corpus", "validation"), "valid", r"corpus\.validation: .*'dev' or 'train', got 'valid'"),
        (("corpus", "speaker_in_name"), "(a", r"corpus\.speaker_in_name must be a regular expression, got '\(a' \("),
        (("evaluation", "submission"), "name", r"evaluation\.submission: .*'name,discrete' or .*, got 'name'"),
        (("corpus", "labels"), ["happy", ""], r"corpus\.labels must be words .*, got ''"),
        (("corpus", "labels"), ["happy", "sad "], r"corpus\.labels must be words .*, got 'sad '"),
        (
            ("synthesize", "clip"),
            "data/demo/x",
            r"synthesize\.clip is not a known parameter, only clips and checkpoints",
        ),
        (("features", "visual"), ["manet", "manet"], "features names a set twice"),
        (("controls", "rounds"), [5, 3], r"controls\.rounds must rise, got \[5, 3\]"),
        (("promotion", "probability"), 1, r"promotion\.probability must lie in \[0\.5, 1\), got 1\.0$"),
        (("promotion", "split"), "Test", r"promotion\.split must be lower-case letters, digits and '_', got 'Test'$"),
        (("promotion", "smaller"), 0.0, r"promotion\.smaller must lie in \(0, 1\), got 0\.0$"),
        (("promotion", "smaller"), 1.0, r"promotion\.smaller must lie in \(0, 1\), got 1\.0$"),
        (("evaluation", "resamples"), 99, r"evaluation\.resamples must lie in \[100, 100000\], got 99$"),
        (("features", "acoustic"), [], r"features\.acoustic must name at least one set, got none$"),
        (("corpus", "root"), "", r"corpus\.root must be a relative path"),
        (("search", "naor", "poinst"), 3, r"search\.naor\.poinst is not a known parameter; did you mean 'points'\?"),
        (("encoders", "hubert", "batsh"), 3, r"encoders\.hubert\.batsh is not a .*; did you mean 'batch'\?"),
        (("controls", "rounds"), [], r"controls\.rounds must name at least one round, got none"),
    ],
)
def test_wrong_values_are_refused_by_name(tmp_path: Path, keys: tuple[str, ...], value: object, message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        load_params(with_change(tmp_path, *keys, value=value))
    assert str(raised.value).startswith(str(tmp_path / "params.yaml"))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["log.mel", "..", "../../x", "", "-x", "a b", "x\n", "größe"])
@pytest.mark.parametrize("section", ["encoders", "imported"])
def test_names_that_could_leave_their_folder_are_refused(tmp_path: Path, section: str, name: str) -> None:
    value = "features/x"
    if section == "encoders":
        value = document(ROOT / "profiles/demo.yaml")["encoders"]["manet"]  # type: ignore[index]
    path = with_change(tmp_path, section, name, value=value)
    with pytest.raises(
        InputError, match=rf"a name in {section} must be letters, digits.*, got {re.escape(repr(name))}$"
    ):
        load_params(path)


@pytest.mark.parametrize("name", ["items", "keys", "pop", "update", "type", "training", "forward", "to", "_x"])
def test_sets_that_bear_a_name_of_torch_are_refused(tmp_path: Path, name: str) -> None:
    content = document(ROOT / "profiles/ravdess.yaml")
    content["imported"][name] = "features/x"  # type: ignore[index]
    content["features"]["visual"] = [name]  # type: ignore[index]
    path = tmp_path / "params.yaml"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=rf"'{name}' bears a name that torch uses|a name in imported .* got '{name}'"):
        load_params(path)


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("corpus", "root"), "../x", r"corpus\.root must be a relative path without '\.\.', got '\.\./x'"),
        (("corpus", "root"), "data/../../x", r"corpus\.root must be a relative path"),
        (("corpus", "root"), "/data/x", r"corpus\.root must be a relative path"),
        (("corpus", "root"), r"C:\data", r"corpus\.root must be a relative path"),
        (("corpus", "root"), "data/a\0b", r"corpus\.root must be a relative path"),
        (("corpus", "root"), "src", r"corpus\.root must lie below data/, got 'src'"),
        (("corpus", "root"), "data", r"corpus\.root must lie apart from data/demo/features, .* got 'data'"),
        (("corpus", "root"), "data/demo", r"corpus\.root must lie apart from data/demo/features"),
        (("corpus", "root"), "./data/demo/features/x/", r"corpus\.root must lie apart from data/demo/features"),
        (("corpus", "root"), "data/demo/manifest.csv", r"corpus\.root must lie apart from data/demo/manifest\.csv"),
        (("synthesize", "clips"), "/tmp/x", r"synthesize\.clips must be a relative path"),
        (("synthesize", "clips"), "src", r"synthesize\.clips must lie below data/, got 'src'"),
        (("synthesize", "checkpoints"), "data/demo/features", r"synthesize\.checkpoints must lie apart"),
        (
            ("synthesize", "checkpoints"),
            "data/demo/clips/x",
            r"synthesize\.checkpoints and synthesize\.clips must",
        ),
        (("encoders", "manet", "checkpoint"), "../x.pth", r"encoders\.manet\.checkpoint must be a path without '\.\.'"),
        (("imported", "x"), "../secrets", r"imported\.x must be a relative path without '\.\.', got '\.\./secrets'"),
        (("imported", "x"), "/etc", r"imported\.x must be a relative path"),
        (("imported", "manet"), "features/x", "encoders and imported both hold 'manet'"),
        (("imported", "hubert-18"), "features/x", "encoders and imported make the set 'hubert-18' twice"),
        (("media", "detector"), "models/x.onnx", r"media\.detector must lie below corpus\.root = data/demo/clips, got"),
        (("media", "crops"), "../faces", r"media\.crops must be a relative path without '\.\.', got '\.\./faces'"),
        (
            ("corruption",),
            {"noisy": NOISE | {"noise": "data/musan"}},
            r"corruption\.noisy\.noise must lie below corpus",
        ),
        (("corruption",), {"No isy": NOISE}, r"a name in corruption must be lower-case letters, .*got 'No isy'"),
    ],
)
def test_places_outside_their_root_or_in_an_output_are_refused(
    tmp_path: Path, keys: tuple[str, ...], value: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        load_params(with_change(tmp_path, *keys, value=value))


def test_noise_needs_clips_that_are_decoded_here(tmp_path: Path) -> None:
    path = with_change(tmp_path, "corruption", value={"noisy": NOISE, "loud_2": NOISE | {"snr_low": -5.0}})
    assert {name: each.snr_low for name, each in load_params(path).corruption.items()} == {"noisy": 5.0, "loud_2": -5.0}
    path = with_change(tmp_path, "corruption", value={"noisy": {k: v for k, v in NOISE.items() if k != "seed"}})
    with pytest.raises(InputError, match=r"corruption\.noisy\.seed is missing"):
        load_params(path)
    with pytest.raises(InputError, match=r"corruption\.noisy needs clips to corrupt"):
        load_params(with_change(tmp_path, "corruption", value={"noisy": NOISE}, profile="ravdess"))
    content = document(ROOT / "profiles/demo.yaml")
    content["media"]["crops"] = "data/demo/clips/faces"  # type: ignore[index]
    path.write_text(json.dumps(content | {"corruption": {"noisy": NOISE}}))
    with pytest.raises(InputError, match=r"corruption\.noisy blurs frames, and media\.crops are cut out of them"):
        load_params(path)


def test_a_checkpoint_may_lie_anywhere(tmp_path: Path) -> None:
    path = with_change(tmp_path, "encoders", "manet", "checkpoint", value="/models/manet.pth")
    assert load_params(path).encoders["manet"].checkpoint == "/models/manet.pth"


def leaves(content: object, keys: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every key of a document, sections before what they hold."""
    if isinstance(content, dict):
        for name, inner in content.items():
            yield (*keys, name)
            yield from leaves(inner, (*keys, name))


@pytest.mark.parametrize("profile", [path.stem for path in PROFILES])
def test_every_key_of_a_profile_is_required(profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """But the single encoder and set, and HuBERT's layers: their absence has sentences of its own.

    And but what is None where no profile states it. To parse the file without each key would take most of the time.
    """
    whole = document(ROOT / f"profiles/{profile}.yaml")
    none_where_absent = {
        (section, field.name)
        for section, config in (("corpus", CorpusConfig), ("evaluation", EvaluationParams))
        for field in fields(config)
        if field.default is None
    }
    chosen = {"encoders", "imported", "synthesize"}
    removed = [
        keys
        for keys in leaves(whole)
        if (len(keys) != 2 or keys[0] not in chosen)
        and keys[1:] != ("hubert", "layers")
        and keys not in none_where_absent
    ]
    assert len(removed) > 25
    for keys in removed:
        content = deepcopy(whole)
        here: dict[str, object] = content
        for key in keys[:-1]:
            here = here[key]  # type: ignore[assignment]
        del here[keys[-1]]
        monkeypatch.setattr("mer_pnao.params.profile.read_mapping", lambda _, content=content: content)
        with pytest.raises(InputError, match=re.escape(f"params.yaml: {'.'.join(keys)} is missing")):
            load_params()


def test_what_only_some_encoders_read_is_stated_by_those(tmp_path: Path) -> None:
    content = document(ROOT / "profiles/demo.yaml")
    encoders: dict[str, dict[str, object]] = content["encoders"]  # type: ignore[assignment]
    preparation = {
        "size": 224,
        "colours": "bgr",
        "scale": 255,
        "mean": [91, 103.9, 131.1],
        "std": [1, 1, 1],
        "output": "",
    }
    encoders["resnet"] |= {"kind": "onnx", "checkpoint": "data/demo/faces.onnx"} | preparation
    path = tmp_path / "params.yaml"
    path.write_text(json.dumps(content))
    assert load_params(path).encoders["resnet"].mean == (91.0, 103.9, 131.1)
    for key in preparation:
        encoders["resnet"].pop(key)
        path.write_text(json.dumps(content))
        with pytest.raises(InputError, match=rf"encoders\.resnet\.{key} is missing"):
            load_params(path)
        encoders["resnet"][key] = preparation[key]


def test_sections_that_no_stage_needs_may_be_absent(tmp_path: Path) -> None:
    content = document(ROOT / "profiles/ravdess.yaml")
    assert not {"media", "synthetic"} & content.keys()
    path = tmp_path / "params.yaml"
    path.write_text(json.dumps(content | {"media": {"max_seconds": 30.0}}))
    with pytest.raises(InputError, match=r"media\.min_seconds is missing"):
        load_params(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty$"),
        ("# only a comment\n", "is empty$"),
        ("- a\n- b\n", "must be a mapping of parameters, got a list$"),
        ("a: [1, 2", "is not readable YAML: line 1: "),
        ("seed: 0\nseed: 1\n", 'is not readable YAML: line 2: found duplicate key "seed"'),
        ("profile: 2024-01-01", "profile is a date, got 2024-01-01; quote it if it is text$"),
        ("profile: 2024-13-01", "is not readable YAML: month must be in 1..12"),
        ("corpus: {labels: [a, 2024-01-01]}", r"corpus\.labels\.1 is a date, got 2024-01-01"),
        ("encoders: {1: a}", "encoders has the key 1, which is no text; quote it$"),
        ("1: a", "the file has the key 1, which is no text"),
        ("a: &loop [*loop]", "is nested too deeply$"),
        ("[" * 500, "is nested too deeply$"),
        ("a: !!python/object:os.system {}", "is not readable YAML: line 1: could not determine a constructor"),
        (b"\xff\xfe", "is not readable YAML: "),
    ],
)
def test_files_that_are_no_profile_are_refused_in_one_sentence(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=message) as raised:
        load_params(path)
    assert str(raised.value).startswith(str(path))
    assert "\n" not in str(raised.value)


def test_seeds_keep_their_order_for_the_first_makes_the_models_of_record(tmp_path: Path) -> None:
    path = with_change(tmp_path, "seeds", value=[7, 0, 2**32 - 1])
    assert load_params(path).seeds == (7, 0, 2**32 - 1)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.yaml cannot be read: No such file"):
        load_params(tmp_path / "none.yaml")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        load_params(tmp_path)


def test_scientific_notation_is_a_number(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    text = (ROOT / "profiles/demo.yaml").read_text()
    path.write_text(re.sub(r"^  learning_rate: \d.*$", "  learning_rate: 2e-3", text, flags=re.M))
    assert load_params(path).training.learning_rate == 0.002


def test_params_are_frozen() -> None:
    params: Params = load_params(ROOT / "profiles/demo.yaml")
    with pytest.raises(ValueError, match="frozen"):
        params.seed = 3  # type: ignore[misc]
