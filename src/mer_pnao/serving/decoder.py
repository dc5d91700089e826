"""The process that decodes uploads, so that a file that crashes, hangs or swells a decoder takes nothing else along.

It reads requests from its standard input and writes answers to its standard output until the input ends. Each is a
line of JSON; an answer's arrays follow as plain bytes. Nothing is pickled: the service must not run what a subverted
decoder sends.
"""

import json
import os
import resource
import sys
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from mer_pnao.extraction.clip_reader import DecodedClip, DecodingPlan, SharedReader
from mer_pnao.foundations.errors import InputError
from mer_pnao.media.config import MediaLimits
from mer_pnao.media.container import ClipError, reasons

_MEMORY = 4 * 2**30  # of address space: several 4K frames fit, a bomb does not


def request_of(path: Path, root: Path, plans: Mapping[str, DecodingPlan]) -> bytes:
    """The message that asks for a clip to be decoded in several ways."""
    request = {"path": str(path), "root": str(root), "plans": {name: asdict(plan) for name, plan in plans.items()}}
    return _line(request)


def _line(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content).encode() + b"\n"


def main() -> None:
    """Answer until the input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a dump would hold a clip
    cv2.setNumThreads(1)
    # What a library prints must not get between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    for request in sys.stdin.buffer:
        _answer(json.loads(request), answers)
        answers.flush()


def _answer(request: Mapping[str, Any], out: BinaryIO) -> None:
    contents: dict[str, tuple[NDArray[Any], DecodedClip]] = {}
    try:
        for name, clip in _reader(json.dumps(request["plans"]), request["root"])(Path(request["path"])).items():
            with reasons():  # crops that are cut on demand are all cut now
                held = clip.content if isinstance(clip.content, np.ndarray) else np.stack(list(clip.content))
            contents[name] = np.ascontiguousarray(held), clip
    except (ClipError, InputError) as error:
        out.write(_line({"reason": str(error), "refused": isinstance(error, ClipError)}))
        return
    head = {
        name: {
            "dtype": str(content.dtype),
            "shape": content.shape,
            "whole_frame": clip.whole_frame,
            "remarks": clip.remarks,
        }
        for name, (content, clip) in contents.items()
    }
    out.write(_line({"contents": head}))
    for content, _ in contents.values():
        out.write(content.tobytes())


@cache
def _reader(plans: str, root: str) -> SharedReader:
    read = {
        name: DecodingPlan(**{**values, "limits": MediaLimits(**values["limits"])})
        for name, values in json.loads(plans).items()
    }
    return SharedReader(read, Path(root))


if __name__ == "__main__":
    main()
