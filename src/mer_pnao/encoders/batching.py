"""Which stretches of sound go through a network together."""

from collections.abc import Sequence
from itertools import pairwise


def spans(frames: int, window: int) -> list[tuple[int, int]]:
    """First frame, and frame past the last one, of the fewest stretches of a clip with at most `window` frames each.

    As even as whole frames allow, because a short rest would be encoded without any context. 0 never cuts.
    """
    parts = -(-frames // window) if window else 1
    bounds = [frames * part // parts for part in range(parts + 1)]
    return list(pairwise(bounds))


def by_length(lengths: Sequence[int], most: int) -> list[list[int]]:
    """Groups of positions in `lengths`, of like lengths, that hold at most `most` once all are padded to the longest.

    Something longer makes a group of its own; 0 makes one group of everything in the given order. The longest come
    first, so that what takes most memory shows at once.
    """
    if not most:
        return [list(range(len(lengths)))] if lengths else []
    groups: list[list[int]] = []
    longest = 0
    for position in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if not groups or longest * (len(groups[-1]) + 1) > most:
            groups.append([])
            longest = lengths[position]
        groups[-1].append(position)
    return groups
