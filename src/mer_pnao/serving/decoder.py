"""The process that decodes uploads, so that a file that crashes, hangs or swells a decoder takes nothing else along.

It reads requests from its standard input and writes answers to its standard output until the input ends. Each is a
line of JSON; an answer's arrays follow as plain bytes. A clip gets one answer, a recording one a stretch and one at its
end; while nobody reads them, the pipe is full and decoding waits. Nothing is pickled: the service must not run what a
subverted decoder sends.
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
from mer_pnao.extraction.stretch_reader import StretchReader
from mer_pnao.foundations.errors import InputError
from mer_pnao.media.config import MediaLimits
from mer_pnao.media.container import ClipError, opened, reasons

_MEMORY = 4 * 2**30  # of address space: several 4K frames fit, a bomb does not
_POLITE = 5  # by how much a recording's decoder stands back behind those of clips


def request_of(path: Path, root: Path, plans: Mapping[str, DecodingPlan], **recording: float) -> bytes:
    """The message that asks for a clip to be decoded in several ways.

    Or for the stretches of a recording, of `length` samples each, which lasts no longer than `most_seconds`.
    """
    said = {name: asdict(plan) for name, plan in plans.items()}
    return _line({"path": str(path), "root": str(root), "plans": said, **recording})


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
        asked = json.loads(request)
        (_answer_recording if "length" in asked else _answer)(asked, answers)
        answers.flush()


def _answer(request: Mapping[str, Any], out: BinaryIO) -> None:
    contents: dict[str, tuple[NDArray[Any], DecodedClip]] = {}
    try:
        for name, clip in _reader(json.dumps(request["plans"]), request["root"])(Path(request["path"])).items():
            with reasons():  # crops that are cut on demand are all cut now
                held = clip.content if isinstance(clip.content, np.ndarray) else np.stack(list(clip.content))
            contents[name] = np.ascontiguousarray(held), clip
    except (ClipError, InputError) as error:
        out.write(_reason(error))
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


def _answer_recording(request: Mapping[str, Any], out: BinaryIO) -> None:
    path = Path(request["path"])
    os.nice(_POLITE)
    try:
        reader = StretchReader(_plans(request["plans"]), Path(request["root"]))
        with opened(path, reader.limits, request["most_seconds"]):
            pass  # too long by its header
        for stretch in map(reader.find_faces, reader.read(path, request["length"])):
            arrays: list[NDArray[Any]] = [stretch.sound]
            faces = {}
            for name, one in stretch.faces.items():
                arrays += [one.crops, one.times, one.seen]
                faces[name] = {"count": len(one.crops), "whole_frame": one.whole_frame}
            head = {"end": stretch.end, "samples": len(stretch.sound), "faces": faces, "remarks": stretch.remarks}
            out.write(_line({**head, "reason": stretch.reason}))
            for array in arrays:
                out.write(array.tobytes())
            out.flush()
    except (ClipError, InputError) as error:
        out.write(_reason(error))
    else:
        out.write(_line({"whole": True}))


def _reason(error: ClipError | InputError) -> bytes:
    return _line({"reason": str(error), "refused": isinstance(error, ClipError)})


@cache
def _reader(plans: str, root: str) -> SharedReader:
    return SharedReader(_plans(json.loads(plans)), Path(root))


def _plans(values: Mapping[str, Mapping[str, Any]]) -> dict[str, DecodingPlan]:
    return {name: DecodingPlan(**{**plan, "limits": MediaLimits(**plan["limits"])}) for name, plan in values.items()}


if __name__ == "__main__":
    main()
