"""Final's weight: by exhaustion, on the clips that it is given and no others."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, mean_squared_error

from mer_pnao.training.ensemble import choose_weight
from mer_pnao.training.examples import Examples


def examples_of(emotion: np.ndarray, valence: np.ndarray, classes: int) -> Examples:
    names = tuple(str(i) for i in range(len(emotion)))
    return Examples(names, {}, emotion, valence.astype(np.float32), None, classes)


def by_exhaustion(first: tuple[np.ndarray, ...], second: tuple[np.ndarray, ...], examples: Examples) -> list[float]:
    """All weights of the first system, in steps of 1/40, that give the best Com."""
    coms = {}
    known = ~np.isnan(examples.valence)
    for step in range(41):
        share = step / 40
        posterior = share * first[0] + (1 - share) * second[0]
        valence = share * first[1] + (1 - share) * second[1]
        com = f1_score(examples.emotion, posterior.argmax(axis=1), average="weighted", zero_division=0)
        if known.any():
            com -= 0.25 * mean_squared_error(examples.valence[known], valence[known])
        coms[share] = com
    return [share for share, com in coms.items() if com >= max(coms.values()) - 1e-12]


@pytest.mark.parametrize("has_valence", [True, False])
def test_the_weight_is_the_best_by_exhaustion_and_the_middlemost_of_equals(has_valence: bool) -> None:
    draw = np.random.default_rng(0)
    found = set()
    for _ in range(4):
        clips, classes = 30, int(draw.integers(2, 6))
        emotion = draw.integers(classes, size=clips)
        valence = draw.standard_normal(clips) if has_valence else np.full(clips, np.nan)
        leaning = draw.random(2)
        first, second = (
            (
                draw.dirichlet(np.ones(classes), size=clips) + lean * np.eye(classes)[emotion],
                np.nan_to_num(valence) + 2 * (1 - lean) * draw.standard_normal(clips),
            )
            for lean in leaning
        )
        examples = examples_of(emotion, valence, classes)
        best = by_exhaustion(first, second, examples)
        weight = choose_weight(first, second, examples)
        assert min(abs(weight - each) for each in best) < 1e-9
        assert abs(weight - 0.5) == pytest.approx(min(abs(each - 0.5) for each in best))
        found.add(round(weight, 3))
    assert len(found) > 1


def test_the_valence_is_weighed_as_the_posterior_is() -> None:
    """Equal posteriors; valences +1 and -3 with truth 0 cancel at w - 3 (1 - w) = 0, so at w = 3/4."""
    emotion = np.array([0, 1] * 5)
    posterior = np.eye(2)[emotion]
    examples = examples_of(emotion, np.zeros(10), 2)
    assert choose_weight((posterior, np.ones(10)), (posterior, np.full(10, -3.0)), examples) == pytest.approx(0.75)
