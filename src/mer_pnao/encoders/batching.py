"""Which stretches of sound go through a network together."""

from collections.abc import Sequence
from itertools import pairwise


def spans(frames: int, window: int) -> list[tuple[int, int]]:
    """Cuts a clip into the fewest stretches of at most `window` frames, as even as whole frames allow.

    Even, because a short rest would be encoded without any context.

    Args:
        frames: of the clip.
        window: 0 for the whole clip at once.

    Returns:
        First frame and frame past the last one of each stretch.
    """
    parts = -(-frames // window) if window else 1
    bounds = [frames * part // parts for part in range(parts + 1)]
    return list(pairwise(bounds))


def by_length(lengths: Sequence[int], most: int) -> list[list[int]]:
    """Groups of like lengths, none of which holds more than `most` once all are padded to the longest.

    Args:
        lengths: of what shall be encoded.
        most: of length times number in a group; something longer makes a group of its own. 0 for one group of
            everything in the given order.

    Returns:
        Positions in `lengths`, each once; the longest first, so that what takes most memory shows at once.
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
