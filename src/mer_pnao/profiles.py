"""Choosing a profile: its `params.yaml`, and the link to the data that it reads."""

import shutil
from pathlib import Path

from mer_pnao.errors import InputError
from mer_pnao.params import Params, load_params


def choose_profile(root: Path, name: str | None, data: Path | None) -> Params:
    """Copy `profiles/<name>.yaml` over `params.yaml` and link the corpus root to the data folder.

    Without a name the present `params.yaml` stays as it is; without data the present link does.
    Raises InputError for an unknown or faulty profile, a data folder that is none, a real folder in the link's
    place, and for a profile whose corpus is neither there nor made by the profile itself.
    """
    params_file = root / "params.yaml"
    if name is not None:
        chosen = root / "profiles" / f"{name}.yaml"
        if not chosen.is_file():
            known = ", ".join(sorted(path.stem for path in (root / "profiles").glob("*.yaml")))
            raise InputError(f"there is no profile {name!r}; profiles/ holds {known}")
        load_params(chosen)
        if not params_file.is_file() or params_file.read_bytes() != chosen.read_bytes():
            shutil.copyfile(chosen, params_file)
    params = load_params(params_file)
    made = params.corpus.root in params.synthesize.values()
    corpus = root / params.corpus.root
    if data is not None:
        if made:
            raise InputError(f"the profile {params.profile} makes its own clips and takes no data folder, got {data}")
        _link(corpus, data)
    if not made and not corpus.is_dir():
        raise InputError(
            f"the profile {params.profile} reads {params.corpus.root}, which is not there: name the folder that holds "
            f"the corpus, as in `make run PROFILE={params.profile} DATA=<folder>`"
        )
    return params


def _link(link: Path, folder: Path) -> None:
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder")
    if link.is_symlink():
        link.unlink()
    elif link.exists():
        raise InputError(f"{link} is a folder already; move it away to link it to {folder}")
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(folder.resolve(), target_is_directory=True)
