"""Stage `features`: one encoder's feature sets for every clip of the manifest."""

import sys
from dataclasses import asdict
from pathlib import Path

from mer_pnao.extraction.clip_encoders import build_encoder
from mer_pnao.extraction.corpus_clips import clips_of_manifest
from mer_pnao.extraction.extract import extract
from mer_pnao.features.provenance import write_settings
from mer_pnao.foundations.console import input_errors, progress
from mer_pnao.foundations.files import work_folder
from mer_pnao.params.profile import load_params


def main(name: str) -> None:
    """Extract with the encoder of that name into `data/<profile>/features/<name>/`."""
    params = load_params()
    config, root = params.encoders[name], Path(params.corpus.root)
    clips = clips_of_manifest(params.data / "manifest.csv", root, params.corruption, config)
    encoder = build_encoder(name, config, Path(), params.media)
    out = params.data / "features" / name
    with progress(f"extracting {name}", len(clips)) as done:
        extract(clips, encoder, out, work_folder(), max_skipped=params.corpus.max_skipped, progress=done)
    settings = {key: value for key, value in asdict(config).items() if key not in config.unread()}
    write_settings(out, settings, asdict(params.media))


if __name__ == "__main__":
    with input_errors():
        main(sys.argv[1])
