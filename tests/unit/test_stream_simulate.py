"""The simulated population behaves as people do: it has favourites, tastes, and a past before its future."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from infra.stream.audience import Asked
from infra.stream.lines import Answer
from infra.stream.population import Films, Population
from infra.stream.simulate import Simulation, batches, movies_of
from infra.stream.titles import GENRES, MOST_MOVIES, make_titles
from marquee.errors import InputError
from tests.unit import stream_oracle


def _read(simulation: Simulation) -> list[dict[str, str]]:
    values = [value for batch in batches(simulation) for value in batch.values]
    read = [stream_oracle.read(value, simulation.rating_scale) for value in values]
    return [fields for fields in read if fields is not None]


CLEAN = Simulation(users=300, movies=200, events=60_000, dirty_share=0.0, seed=3)


@pytest.fixture(scope="module")
def clean() -> list[dict[str, str]]:
    return _read(CLEAN)


def test_times_never_go_back(clean: list[dict[str, str]]) -> None:
    times = [fields["time"] for fields in clean]
    assert times == sorted(times)


def test_an_account_is_created_once_and_before_anything_else_its_user_does(
    clean: list[dict[str, str]],
) -> None:
    created: set[str] = set()
    for fields in clean:
        if fields["kind"] == "create_account":
            assert fields["user"] not in created
            created.add(fields["user"])
        else:
            assert fields["user"] in created
    assert len(created) == CLEAN.users


def test_a_film_is_watched_from_minute_zero_in_steps_and_rated_after_it(clean: list[dict[str, str]]) -> None:
    minutes: dict[tuple[str, str], list[int]] = {}
    for fields in clean:
        pair = (fields["user"], fields.get("movie", ""))
        if fields["kind"] == "watch":
            minutes.setdefault(pair, []).append(int(fields["minute"]))
        elif fields["kind"] == "rate":
            assert pair in minutes
    assert all(watched[0] == 0 for watched in minutes.values())
    assert all(minute % CLEAN.watch_every_minutes == 0 for watched in minutes.values() for minute in watched)


def test_popularity_follows_zipf_over_the_films_that_people_see() -> None:
    films = Films.make(1_000, np.random.default_rng(0))
    ordered = np.sort(films.popularity)[::-1]
    slope = np.polyfit(np.log(np.arange(1, 1_001)), np.log(ordered), 1)[0]
    assert slope == pytest.approx(-0.9)
    people = Population(5_000, 1_000, seed=1)
    draw = np.random.default_rng(2)
    chosen = people.choose(np.arange(5_000), draw)
    counts = np.sort(np.bincount(chosen, minlength=1_000))[::-1]
    assert counts[:100].sum() > 4 * counts[-500:].sum()


def test_people_watch_and_like_the_genres_of_their_taste() -> None:
    people = Population(2_000, 500, seed=4)
    users, draw = np.arange(2_000), np.random.default_rng(5)
    own = people.choose(users, draw)
    others = draw.permutation(own)
    assert people.liking(users, own).mean() > 2 * people.liking(users, others).mean()
    movies = draw.integers(0, 500, size=2_000)
    ratings = people.rate(users, movies, 10, draw)
    assert np.corrcoef(ratings, people.liking(users, movies))[0, 1] > 0.6
    assert ratings.min() >= 1
    assert ratings.max() <= 10


def test_nobody_watches_a_film_twice_while_there_is_another_among_their_choices() -> None:
    people = Population(50, 400, seed=1)
    draw = np.random.default_rng(0)
    users = np.arange(50)
    first = people.choose(users, draw, tries=1)
    people.mark_seen(users, first)
    second = people.choose(users, draw, tries=200)
    assert (first != second).all()


def test_the_catalogue_names_the_films_of_the_log(clean: list[dict[str, str]]) -> None:
    table = movies_of(CLEAN)
    ids = table["movie_id"].to_pylist()
    assert len(set(ids)) == CLEAN.movies
    assert {fields["movie"] for fields in clean if "movie" in fields} <= set(ids)
    row = table.slice(0, 1).to_pylist()[0]
    assert row["movie_id"] == f"{row['title'].lower().replace(' ', '+')}+{row['year']}"
    assert set(row["genres"]) <= set(GENRES)


def test_ids_stay_distinct_however_the_genres_fall_and_too_many_are_refused() -> None:
    one_genre = np.zeros(MOST_MOVIES, np.int64)
    titles, years = make_titles(one_genre, np.random.default_rng(0))
    assert len(set(zip(titles, years, strict=True))) == MOST_MOVIES
    with pytest.raises(InputError, match=str(MOST_MOVIES)):
        make_titles(np.zeros(MOST_MOVIES + 1, np.int64), np.random.default_rng(0))


def test_days_end_the_simulation_at_their_end() -> None:
    read = _read(Simulation(users=50, movies=50, events=None, days=2.0, dirty_share=0.0))
    assert read[-1]["time"] < "2026-01-03"
    assert read[-1]["time"] > "2026-01-02T12"


class _FakeRecommender:
    """Recommends one film to everybody."""

    def __init__(self, movie_id: str) -> None:
        self._movie_id = movie_id

    def ask(self, user_ids: Sequence[int]) -> list[Asked]:
        return [Asked(Answer("fake", 200, self._movie_id, 5), (self._movie_id,))] * len(user_ids)


def test_people_pick_what_was_recommended_more_often_than_they_would_by_themselves() -> None:
    simulation = Simulation(users=200, movies=300, events=8_000, dirty_share=0.0, requests_share=1.0)
    unpopular = movies_of(simulation)["movie_id"].to_pylist()[-1]

    def views(recommender: _FakeRecommender | None) -> Counter[str]:
        made = batches(simulation, recommender)
        read = [stream_oracle.read(value) or {} for batch in made for value in batch.values]
        return Counter(fields["movie"] for fields in read if fields.get("minute") == "0")

    alone, followed = views(None), views(_FakeRecommender(unpopular))
    assert followed[unpopular] > 0.5 * followed.total()
    assert alone[unpopular] < 0.1 * alone.total()
