"""`best_params.yaml`: the chosen trial's values, written by a search and brought into `params.yaml`."""

import io
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML

from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.files import replacing, write_text
from mer_pnao.outs.finished import flat
from mer_pnao.params.document import read_mapping
from mer_pnao.params.profile import load_params
from mer_pnao.params.search_space import SECTIONS, Knob, Value
from mer_pnao.pruning.pnao import algorithm_version
from mer_pnao.search.record import StudyRecord
from mer_pnao.search.trial import by_section, load_task, settings_of

BEST = Path("best_params.yaml")
_HEAD = """\
# What `mer search` found. `mer search apply` writes `values` into params.yaml; `searched_with` is what else they were
# found with, and has to stand there still; the digests are of the training clips and of the science's code.
"""


class BestParams(BaseModel):
    """The file's content."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    profile: str
    study: str
    trial: int
    trainval_com: float
    parameters: int
    values: dict[str, dict[str, Value]]  # section -> name -> value
    searched_with: dict[str, Any]
    training_data: str
    code: str


def write_best(record: StudyRecord, path: Path) -> None:
    """Write the chosen trial of a study, whole or not at all. Raises InputError when no trial ran to its end."""
    chosen = record.chosen
    if chosen is None:
        cause = f" ({record.diverged} diverged)" if record.diverged else ""
        raise InputError(
            f"the study {record.name} has no trial that ran to its end{cause}, and so nothing to write to {path}"
        )
    content = BestParams(
        profile=record.profile,
        study=record.name,
        trial=chosen.number,
        trainval_com=round(chosen.best.com, 6),
        parameters=chosen.best.parameters,
        values=by_section(chosen.values),
        searched_with=json.loads(json.dumps(record.settings)),  # without tuples
        training_data=record.data_digest,
        code=algorithm_version(),
    )
    text = io.StringIO()
    yaml = YAML()
    yaml.dump(content.model_dump(), text)
    write_text(path, _HEAD + text.getvalue())


def apply_best(root: Path) -> list[tuple[str, Value, Value]]:
    """Write the values of `best_params.yaml` into `params.yaml`, whose comments and order stay.

    Returns what has changed: key, value before, value now. Raises InputError, and changes nothing, when there is no
    such file, when it is another profile's, or when anything that the values depend on is not as it was during the
    search: the rest of params.yaml, the training clips, the code of the science.
    """
    path, params_file = root / BEST, root / "params.yaml"
    if not path.exists():
        raise InputError(f"{path} is not there: run `mer search` or `make search` first")
    best, params = _read(path), load_params(params_file)
    if best.profile != params.profile:
        raise InputError(f"{path} is of the profile {best.profile!r}, and {params_file} holds {params.profile!r}")
    drawn = [Knob(name, ()) for section in best.values.values() for name in section]
    now = dict(flat(settings_of(params, drawn)))
    then = dict(flat(best.searched_with))
    for key in sorted(now.keys() | then.keys()):
        if now.get(key) != then.get(key):
            raise InputError(
                f"{path} was found with {key} = {then.get(key)}, and {params_file} has {now.get(key)}: "
                "search again, or set it back"
            )
    if algorithm_version() != best.code:
        raise InputError(f"{path} was found with other code of the science than this: search again")
    if load_task(params, ()).train.digest() != best.training_data:
        raise InputError(f"{path} was found with other training clips or features than {params.data} has: search again")
    return _change(params_file, best, path)


def _read(path: Path) -> BestParams:
    try:
        best = BestParams.model_validate_json(json.dumps(read_mapping(path)))
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(map(str, problem["loc"]))
        raise InputError(f"{path}: {key}: {problem['msg'][0].lower()}{problem['msg'][1:]}") from error
    for section, values in best.values.items():
        for name in values:
            if SECTIONS.get(name) != section:
                raise InputError(f"{path}: values.{section}.{name} is nothing that a search finds")
    return best


def _change(params_file: Path, best: BestParams, path: Path) -> list[tuple[str, Value, Value]]:
    yaml = YAML()  # keeps comments, order and the style of lists
    yaml.preserve_quotes = True
    yaml.width = 4096
    document = yaml.load(params_file.read_text(encoding="utf-8"))
    changed: list[tuple[str, Value, Value]] = []
    for section, values in best.values.items():
        for name, value in values.items():
            before = document[section][name]
            if before != value:
                document[section][name] = value
                changed.append((f"{section}.{name}", before, value))
    if changed:
        text = io.StringIO()
        yaml.dump(document, text)
        with replacing(params_file) as partial:
            partial.write_text(text.getvalue(), encoding="utf-8")
            try:
                load_params(partial)
            except InputError as error:
                said = str(error).removeprefix(f"{partial}: ")
                raise InputError(f"{path} would make a wrong params.yaml: {said}") from error
    return changed
