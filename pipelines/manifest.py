"""Stage `manifest`: the one table of clips, from the corpus's own labels."""

from pathlib import Path

from mer_pnao.corpus.manifest import write_manifest
from mer_pnao.corpus.noisy_twins import with_noisy_twins
from mer_pnao.corpus.readers.sources import read_corpus
from mer_pnao.foundations.console import input_errors
from mer_pnao.params.profile import load_params


def main() -> None:
    """Read the labels of the profile's corpus and write `data/<profile>/manifest.csv`."""
    params = load_params()
    table = read_corpus(params.corpus, Path(params.corpus.root), params.seed)
    table = with_noisy_twins(table, params.corruption)
    write_manifest(table, params.data / "manifest.csv", params.corpus.shares_speakers)


if __name__ == "__main__":
    with input_errors():
        main()
