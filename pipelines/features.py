"""Stage `features`: one encoder's feature sets for every clip of the manifest."""

import sys
from pathlib import Path

import torch

from mer_pnao.console import input_errors, progress
from mer_pnao.corpus.manifest import read_manifest
from mer_pnao.corpus.noisy_twins import noisy_split
from mer_pnao.features.clip_encoders import build_encoder
from mer_pnao.features.extract import Clip, extract
from mer_pnao.media.corruption import SPEECH, ClipCorruption, corruption_of, noise_files
from mer_pnao.parallel import usable_cores
from mer_pnao.params import load_params
from mer_pnao.workspace import work_folder


def main(name: str) -> None:
    """Extract with the encoder of that name into `data/<profile>/features/<name>/`."""
    params = load_params()
    torch.set_num_threads(max(1, usable_cores() - 1))  # one core decodes; more threads than cores would spin
    root = Path(params.corpus.root)
    table = read_manifest(params.data / "manifest.csv")
    drawn: dict[str, ClipCorruption] = {}
    for corruption, config in params.corruption.items():
        speech = [root / path for path in table.loc[table["split"] == "train", "path"]]
        noise = speech if config.noise == SPEECH else noise_files(Path(config.noise))
        twins = table.loc[table["split"] == noisy_split(corruption), "name"]
        drawn |= {clip: corruption_of(config, noise, clip) for clip in twins}
    clips = [Clip(clip, root / path, drawn.get(clip)) for clip, path in zip(table["name"], table["path"], strict=True)]
    encoder = build_encoder(name, params.encoders[name], Path(), params.media)
    with progress(f"extracting {name}", len(clips)) as done:
        extract(
            clips,
            encoder,
            params.data / "features" / name,
            work_folder(),
            max_skipped=params.corpus.max_skipped,
            progress=done,
        )


if __name__ == "__main__":
    with input_errors():
        main(sys.argv[1])
