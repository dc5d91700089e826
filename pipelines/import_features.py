"""Stage `import_features`: one ready feature set in the official baseline's layout, into the project's."""

import sys
from pathlib import Path

from mer_pnao.corpus.manifest import read_manifest
from mer_pnao.features.mertools import import_vectors
from mer_pnao.features.sets import write_identity
from mer_pnao.foundations.console import input_errors, progress
from mer_pnao.params.profile import load_params


def main(name: str) -> None:
    """Import the set of that name into `data/<profile>/features/<name>/<name>/`."""
    params = load_params()
    source = Path(params.corpus.root) / params.imported[name]
    out = params.data / "features" / name
    names = read_manifest(params.data / "manifest.csv")["name"].tolist()
    with progress(f"importing {name}", len(names)) as done:
        made = import_vectors(source, names, out / name, done)
    identity = {"kind": params.corpus.kind, "source": params.imported[name], "sets": {name: made.width}}
    write_identity(out, identity | {"averaged_over_frames": made.averaged}, made.remarks)


if __name__ == "__main__":
    with input_errors():
        main(sys.argv[1])
