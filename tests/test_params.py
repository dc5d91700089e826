"""params.yaml: profiles fit the schema and state every value; whatever is wrong is refused by key, value and range."""

import json
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from mer_pnao.errors import InputError
from mer_pnao.params import Params, load_params

ROOT = Path(__file__).parents[1]
PROFILES = sorted((ROOT / "profiles").glob("*.yaml"))


def document(path: Path) -> dict[str, object]:
    return YAML(typ="safe", pure=True).load(path.read_text())  # type: ignore[no-any-return]


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_profiles_fit_the_schema_and_state_what_their_stages_read(path: Path) -> None:
    """DVC tracks values, not the schema's defaults: a default that no profile states could change unseen."""
    params = load_params(path)
    assert params.profile == path.stem
    stated = document(path)
    full = json.loads(params.model_dump_json())
    for section in ("seed", "corpus", "features", "folds", "network", "training", "pnao", "evaluation"):
        assert stated[section] == full[section], section
    if params.encoders:
        assert stated["media"] == full["media"]
        assert stated["encoders"] == full["encoders"]
    if params.synthesize:
        assert stated["synthetic"] == full["synthetic"]


def test_the_committed_params_are_the_demo() -> None:
    assert (ROOT / "params.yaml").read_bytes() == (ROOT / "profiles/demo.yaml").read_bytes()


def with_change(tmp_path: Path, *keys: str, value: object) -> Path:
    content = document(ROOT / "profiles/demo.yaml")
    here = content
    for key in keys[:-1]:
        here = here[key]  # type: ignore[assignment]
    here[keys[-1]] = value
    path = tmp_path / "params.yaml"
    path.write_text(json.dumps(content))
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
        (("network", "scorer"), "dot", r"network\.scorer must be one of linear, mlp, tanh, got 'dot'"),
        (("folds",), 1, r"folds: input should be greater than or equal to 2, got 1"),
        (("features", "acoustic"), ["hubert-99"], r"the set 'hubert-99', which no encoder makes"),
        (("encoders", "hubert", "kind"), "whale", r"encoders\.hubert\.kind.*got 'whale'"),
        (("corpus", "max_skipped"), -1, r"corpus\.max_skipped: .*got -1"),
        (("profile",), "../x", r"profile: .*got '\.\./x'"),
        (("seed",), None, r"seed: .*got None"),
    ],
)
def test_wrong_values_are_refused_by_name(tmp_path: Path, keys: tuple[str, ...], value: object, message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        load_params(with_change(tmp_path, *keys, value=value))
    assert str(raised.value).startswith(str(tmp_path / "params.yaml"))
    assert "\n" not in str(raised.value)


def test_missing_key_missing_file_and_bad_yaml(tmp_path: Path) -> None:
    content = document(ROOT / "profiles/demo.yaml")
    del content["features"]
    path = tmp_path / "params.yaml"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="features is missing"):
        load_params(path)
    path.write_text("a: [1, 2")
    with pytest.raises(InputError, match="is not readable YAML"):
        load_params(path)
    with pytest.raises(InputError, match="cannot be read: No such file"):
        load_params(tmp_path / "none.yaml")


def test_scientific_notation_is_a_number(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "profiles/demo.yaml").read_text().replace("learning_rate: 0.002", "learning_rate: 2e-3"))
    assert load_params(path).training.learning_rate == 0.002


def test_params_are_frozen() -> None:
    params: Params = load_params(ROOT / "profiles/demo.yaml")
    with pytest.raises(ValueError, match="frozen"):
        params.seed = 3  # type: ignore[misc]
