"""Stage `import_features`: one ready feature set in the official baseline's layout, into the project's."""

import sys
from pathlib import Path

from mer_pnao.console import input_errors, progress
from mer_pnao.corpus.manifest import read_manifest
from mer_pnao.features.store import import_vectors
from mer_pnao.params import load_params


def main(name: str) -> None:
    """Import the set of that name into `data/<profile>/features/<name>/<name>/`."""
    params = load_params()
    source = Path(params.corpus.root) / params.imported[name]
    names = read_manifest(params.data / "manifest.csv")["name"].tolist()
    with progress(f"importing {name}", len(names)) as done:
        import_vectors(source, names, params.data / "features" / name / name, done)


if __name__ == "__main__":
    with input_errors():
        main(sys.argv[1])
