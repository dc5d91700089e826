"""Stage `features`: one encoder's feature sets for every clip of the manifest."""

import sys
from dataclasses import asdict
from pathlib import Path

from mer_pnao.console import input_errors, progress
from mer_pnao.features.clip_encoders import build_encoder
from mer_pnao.features.corpus_clips import clips_of_manifest
from mer_pnao.features.extract import extract
from mer_pnao.features.provenance import write_settings
from mer_pnao.params import load_params
from mer_pnao.workspace import work_folder


def main(name: str) -> None:
    """Extract with the encoder of that name into `data/<profile>/features/<name>/`."""
    params = load_params()
    clips = clips_of_manifest(params.data / "manifest.csv", Path(params.corpus.root), params.corruption)
    encoder = build_encoder(name, params.encoders[name], Path(), params.media)
    out = params.data / "features" / name
    with progress(f"extracting {name}", len(clips)) as done:
        extract(clips, encoder, out, work_folder(), max_skipped=params.corpus.max_skipped, progress=done)
    write_settings(out, asdict(params.encoders[name]), asdict(params.media))


if __name__ == "__main__":
    with input_errors():
        main(sys.argv[1])
