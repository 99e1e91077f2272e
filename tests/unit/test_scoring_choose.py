"""Which ranking a model gets."""

from collections.abc import Iterator

import numpy as np
import pytest

from marquee.scoring import choose
from marquee.scoring.choose import measured_top_k, ranker_of
from marquee.scoring.pruned import PrunedTopK
from marquee.scoring.top_k import TopK


def factors(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, 4)).astype(np.float32)


class Watch:
    """A clock that a ranking moves on, by as many seconds as it is said to take."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def taking(self, seconds: Iterator[float]) -> type:
        watch = self

        class Slow:
            def __init__(self, items: np.ndarray) -> None:
                del items

            def __call__(self, user: np.ndarray, k: int) -> None:
                del user, k
                watch.now += next(seconds)

        return Slow


def test_the_faster_is_chosen_by_the_fastest_of_its_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch()
    # The first call and every third one are interrupted; in between pruning is the faster.
    dense = (5.0 if n % 3 == 0 else 40e-6 for n in range(10_000))
    pruned = (5.0 if n % 3 == 0 else 25e-6 for n in range(10_000))
    monkeypatch.setattr(choose, "METHODS", {"dense": watch.taking(dense), "pruned": watch.taking(pruned)})
    found = measured_top_k(factors(10), factors(7), watch)
    assert found == {"method": "pruned", "dense_us": 40.0, "pruned_us": 25.0}


def test_a_measurement_of_real_rankings_names_the_faster() -> None:
    found = measured_top_k(factors(600), factors(30))
    assert found["dense_us"] > 0 and found["pruned_us"] > 0
    assert found["method"] == ("pruned" if found["pruned_us"] < found["dense_us"] else "dense")


@pytest.mark.parametrize(("items", "users"), [(0, 3), (3, 0)])
def test_with_nothing_to_measure_the_method_is_dense(items: int, users: int) -> None:
    assert measured_top_k(factors(items), factors(users))["method"] == "dense"


@pytest.mark.parametrize(
    ("recorded", "kind"),
    [
        ({"method": "pruned"}, PrunedTopK),
        ({"method": "dense"}, TopK),
        ({"method": "quantum"}, TopK),
        (None, TopK),
    ],
)
def test_a_manifest_says_which_ranking_serves(recorded: dict[str, str] | None, kind: type) -> None:
    assert type(ranker_of(factors(3), recorded)) is kind
