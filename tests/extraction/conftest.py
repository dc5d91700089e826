"""The demo's checkpoints, and an encoder so simple that its vectors can be told in advance."""

import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

from mer_pnao.extraction.clip_reader import DecodedClip
from mer_pnao.extraction.shards import Clip
from mer_pnao.media.container import ClipError
from mer_pnao.media.corruption import ClipCorruption


def vector_of(content: bytes) -> np.ndarray:
    """The stub's vector of a clip: the first bytes of a digest."""
    return np.frombuffer(hashlib.sha256(content).digest()[:3], np.uint8).astype(np.float32)


@dataclass
class StubEncoder:
    """Takes any text file for a clip; `bad...` is damaged, `odd...` has no face, `nan...` no vector, `two...` two."""

    name: str = "stub"
    batch: int = 2
    dies_after: int | None = None  # clips encoded before it is killed
    version: int = 1
    decoded: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def sets(self) -> dict[str, int]:
        return {"stub-a": 3, "stub-b": 3}

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    @property
    def identity(self) -> dict[str, object]:
        return {"kind": "stub", "version": self.version, "sets": self.sets}

    def reader(self, path: Path, corruption: ClipCorruption | None = None) -> DecodedClip:
        with self.lock:
            self.decoded.append(path.stem)
        content = path.read_bytes()
        if content.startswith(b"bad"):
            raise ClipError("is damaged")
        remarks = ("it has two",) if content.startswith(b"two") else ()
        return DecodedClip(np.frombuffer(content, np.uint8), content.startswith(b"odd"), remarks=remarks)

    def encode(self, clips: Sequence[DecodedClip]) -> dict[str, np.ndarray]:
        if self.dies_after is not None:
            self.dies_after -= len(clips)
            if self.dies_after < 0:
                raise KeyboardInterrupt
        rows = [vector_of(clip.content.tobytes()) for clip in clips]
        for row, clip in zip(rows, clips, strict=True):
            if clip.content.tobytes().startswith(b"nan"):
                row[1] = np.nan
        block = np.stack(rows) if rows else np.zeros((0, 3), np.float32)
        return {"stub-a": block, "stub-b": -block}


@pytest.fixture
def stub() -> type[StubEncoder]:
    return StubEncoder


@pytest.fixture
def expected_vector() -> Callable[[bytes], np.ndarray]:
    return vector_of


@pytest.fixture
def write_clips(tmp_path: Path) -> Callable[[Sequence[str]], list[Clip]]:
    """Files with these texts, as clips named after their place."""

    def write(texts: Sequence[str]) -> list[Clip]:
        folder = tmp_path / "clips"
        folder.mkdir(exist_ok=True)
        clips = [Clip(f"clip{number}", folder / f"clip{number}.mp4") for number in range(len(texts))]
        for clip, text in zip(clips, texts, strict=True):
            clip.path.write_text(text)
        return clips

    return write
