"""Stage `manifest`: the one table of clips, from the corpus's own labels."""

from pathlib import Path

from mer_pnao.console import input_errors
from mer_pnao.corpus.labelled_folder import read_folder
from mer_pnao.corpus.manifest import write_manifest
from mer_pnao.corpus.mertools import read_features_folder
from mer_pnao.corpus.noisy_twins import with_noisy_twins
from mer_pnao.params import load_params


def main() -> None:
    """Read the labels of the profile's corpus and write `data/<profile>/manifest.csv`."""
    params = load_params()
    read = {"labelled_folder": read_folder, "mertools": read_features_folder}[params.corpus.kind]
    table = with_noisy_twins(read(Path(params.corpus.root), params.corpus.labels), params.corruption)
    write_manifest(table, params.data / "manifest.csv")


if __name__ == "__main__":
    with input_errors():
        main()
