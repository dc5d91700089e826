"""The clips of a profile's manifest, as extraction takes them."""

from pathlib import Path

from mer_pnao.corpus.manifest import read_manifest
from mer_pnao.corpus.noisy_twins import noisy_name, noisy_split
from mer_pnao.encoders.config import EncoderConfig
from mer_pnao.extraction.shards import Clip
from mer_pnao.extraction.transcripts import read_transcripts
from mer_pnao.media.config import SPEECH, CorruptionConfig
from mer_pnao.media.corruption import ClipCorruption, corruption_of, noise_files


def clips_of_manifest(
    manifest: Path, root: Path, corruptions: dict[str, CorruptionConfig], encoder: EncoderConfig
) -> list[Clip]:
    """Every clip of a manifest whose paths are below `root`, as an encoder takes it.

    A noisy twin bears what is done to it. An encoder of text takes a clip's words, which noise leaves as they are.
    Raises InputError where the manifest, a folder of noise or the transcripts cannot be read, or no clip has words.
    """
    table = read_manifest(manifest)
    drawn: dict[str, ClipCorruption] = {}
    words: dict[str, str] = {}
    if encoder.kind == "text":
        spoken = read_transcripts(root / encoder.transcripts, table["name"], encoder.column)
        words |= spoken
        for corruption in corruptions:
            words |= {noisy_name(name, corruption): said for name, said in spoken.items()}
    else:
        for corruption, config in corruptions.items():
            speech = [root / path for path in table.loc[table["split"] == "train", "path"]]
            noise = speech if config.noise == SPEECH else noise_files(Path(config.noise))
            twins = table.loc[table["split"] == noisy_split(corruption), "name"]
            drawn |= {clip: corruption_of(config, noise, clip) for clip in twins}
    return [
        Clip(name, root / path, drawn.get(name), words.get(name, ""))
        for name, path in zip(table["name"], table["path"], strict=True)
    ]
