"""The clips of a profile's manifest, as extraction takes them."""

from pathlib import Path

from mer_pnao.corpus.manifest import read_manifest
from mer_pnao.corpus.noisy_twins import noisy_split
from mer_pnao.extraction.shards import Clip
from mer_pnao.media.config import SPEECH, CorruptionConfig
from mer_pnao.media.corruption import ClipCorruption, corruption_of, noise_files


def clips_of_manifest(manifest: Path, root: Path, corruptions: dict[str, CorruptionConfig]) -> list[Clip]:
    """Every clip of a manifest whose paths are below `root`, a noisy twin with what is done to it.

    Raises InputError where the manifest or a folder of noise cannot be read.
    """
    table = read_manifest(manifest)
    drawn: dict[str, ClipCorruption] = {}
    for corruption, config in corruptions.items():
        speech = [root / path for path in table.loc[table["split"] == "train", "path"]]
        noise = speech if config.noise == SPEECH else noise_files(Path(config.noise))
        twins = table.loc[table["split"] == noisy_split(corruption), "name"]
        drawn |= {clip: corruption_of(config, noise, clip) for clip in twins}
    return [Clip(clip, root / path, drawn.get(clip)) for clip, path in zip(table["name"], table["path"], strict=True)]
