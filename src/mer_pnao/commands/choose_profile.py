"""Choosing a profile: its `params.yaml`, and the link to the data that it reads."""

from itertools import count
from pathlib import Path

from mer_pnao.encoders.hub_name import hub_name
from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.files import write_bytes
from mer_pnao.params.profile import Params, load_params


def choose_profile(root: Path, name: str | None, data: Path | None, ready: bool = False) -> tuple[Params, Path | None]:
    """Copy `profiles/<name>.yaml` over `params.yaml` and link the corpus root to the data folder.

    Without a name the present `params.yaml` stays as it is; without data the present link does. Of a challenge's
    release the root is a folder of links to what is read of it, made anew each time. Returns the parameters and, where
    an edited `params.yaml` was replaced, which is one that is none of the profiles, the copy kept of it.

    Raises InputError for an unknown or faulty profile, a data folder that is none, a real folder in the link's place, a
    release that its reader refuses, and a profile whose corpus is neither there nor made by the profile itself, nor,
    where it must be `ready`, its encoders' checkpoints; `params.yaml` is then as it was.
    """
    params_file = root / "params.yaml"
    chosen = params_file
    if name is not None:
        known = sorted(path.stem for path in (root / "profiles").glob("*.yaml"))
        if name not in known:
            raise InputError(f"there is no profile {name!r}; profiles/ holds {', '.join(known)}")
        chosen = root / "profiles" / f"{name}.yaml"
    params = load_params(chosen)
    made = Path(params.corpus.root) in map(Path, params.synthesize.values())
    corpus = root / params.corpus.root
    if data is not None and made:
        raise InputError(f"the profile {params.profile} makes its own clips and takes no data folder, got {data}")
    linked = params.corpus.is_release and _link_release(corpus, data, params)
    if data is not None and not linked:
        _link(corpus, data)
    # What is linked may be out of its place for a moment, while another process links it anew.
    if not made and not linked and not corpus.is_dir():
        raise InputError(
            f"the profile {params.profile} reads {params.corpus.root}, which is not there: name the folder that holds "
            f"the corpus, as in `make run PROFILE={params.profile} DATA=<folder>`{_downloads(params, root, True)}"
        )
    if ready and (missing := missing_checkpoints(params, root)):
        raise InputError(
            f"the profile {params.profile} loads what is not there: {', '.join(missing.values())}"
            f"{_downloads(params, root, False)}"
        )
    before = params_file.read_bytes() if params_file.is_file() else None
    if before == chosen.read_bytes():
        return params, None
    profiles = [path.read_bytes() for path in (root / "profiles").glob("*.yaml")]
    kept = None if before is None or before in profiles else _keep(root, before)
    write_bytes(params_file, chosen.read_bytes())
    return params, kept


def missing_checkpoints(params: Params, root: Path) -> dict[str, str]:
    """By encoder, the checkpoints that are not there, unless the profile makes them itself."""
    if "checkpoints" in params.synthesize:
        return {}
    loaded = {name: encoder.checkpoint for name, encoder in params.encoders.items()}
    return {name: checkpoint for name, checkpoint in loaded.items() if not (root / checkpoint).exists()}


def _downloads(params: Params, root: Path, corpus: bool) -> str:
    """The lines that bring what is missing, the corpus or not, as far as a command can."""
    lines = []
    if corpus and params.corpus.kind == "ravdess":
        from mer_pnao.commands.ravdess_archives import PLACE

        place = params.corpus.root
        lines.append("mer fetch ravdess" + ("" if Path(place) == PLACE else f" --to {place}"))
    hub = [checkpoint for checkpoint in missing_checkpoints(params, root).values() if hub_name(checkpoint)]
    lines += [f"mer fetch {checkpoint}" for checkpoint in hub]
    return "\n  ".join(["\nWhat is missing and can be downloaded:", *lines]) if lines else ""


def _keep(root: Path, edited: bytes) -> Path:
    """Returns the file that holds the edited parameters: a new one, unless they have been kept before."""
    names = (root / f"params.edited-{number}.yaml" for number in count(1))
    kept = next(path for path in names if not path.exists() or path.read_bytes() == edited)
    if not kept.exists():
        write_bytes(kept, edited)
    return kept


def _link_release(place: Path, data: Path | None, params: Params) -> bool:
    """Whether there was a release to be linked."""
    from mer_pnao.commands.release_links import link_release, release_of  # with pandas: only if needed

    release = release_of(place)
    if data is not None and (release is None or _folder(data).resolve() != place.resolve()):
        release = _folder(data).resolve()
    if release is not None:
        link_release(place, release, params)
    return release is not None


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise InputError(f"{path} is not a folder")
    return path


def _link(link: Path, folder: Path) -> None:
    _folder(folder)
    target = folder.resolve()  # before the old link goes, through which the folder may have been named
    if link.is_symlink():
        link.unlink()
    elif link.exists():
        raise InputError(f"{link} is a folder already; move it away to link it to {folder}")
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(target, target_is_directory=True)
