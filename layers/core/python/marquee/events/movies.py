"""What a movie is besides its id: the columns of ``lake/movies``, and the catalogue service's JSON as rows.

The service answers ``GET /movie/<id>,<id>…`` with an object for each movie that it knows::

    {"id": "alien+1979", "title": "Alien", "release_date": "1979-05-25", "runtime": 117,
     "genres": [{"name": "Horror"}, "Sci-Fi"]}

Types are taken strictly, absence is not: a value of another kind, or out of range, is null, never an error.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

MOVIES = pa.schema(
    [
        pa.field("movie_id", pa.string(), nullable=False),
        pa.field("title", pa.string()),
        pa.field("year", pa.int32()),
        pa.field("genres", pa.list_(pa.string())),
        pa.field("minutes", pa.int32()),
        pa.field("found", pa.bool_()),
        pa.field("fetched_at", pa.timestamp("us", "UTC")),
    ]
)
"""``found`` says whether the service knew the movie when it was asked, at ``fetched_at``."""

FIRST_YEAR, LAST_YEAR = 1800, 2200
MOST_MINUTES = 9_999
MOST_LETTERS = 1_000
"""A longer title or genre is none."""
_DATE = re.compile(r"([0-9]{4})(?:-[0-9]{1,2}(?:-[0-9]{1,2})?(?:T.*)?)?")
_MINUTES = re.compile(r" *([0-9]{1,4}) *(?:min)? *")


@dataclass(frozen=True)
class Film:
    """What the service says of one movie; None or empty where it says nothing that can be used."""

    title: str | None
    year: int | None
    genres: tuple[str, ...]
    minutes: int | None


def films_of(payload: bytes, asked: Sequence[str]) -> dict[str, Film] | None:
    """The movies of one answer, by id; None when it is no JSON object or list.

    An answer is one movie, a list of movies, or an object with movies under their ids. Of ``asked`` it may
    lack some or, as ``{"message": …}`` does, all; movies that were not asked for are left out.
    """
    try:
        answer = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    if not isinstance(answer, dict | list):
        return None
    wanted, found = set(asked), dict[str, Film]()
    for movie_id, movie in _movies(answer):
        if movie_id in wanted and movie_id not in found:
            found[movie_id] = _film(movie)
    return found


def rows_of(asked: Sequence[str], films: Mapping[str, Film], fetched_at: datetime) -> pa.Table:
    """A row of ``MOVIES`` for each of ``asked``, in their order; those not in ``films`` were not found."""
    unknown = Film(None, None, (), None)
    rows = [films.get(movie_id, unknown) for movie_id in asked]
    columns: dict[str, Sequence[Any]] = {
        "movie_id": asked,
        "title": [film.title for film in rows],
        "year": [film.year for film in rows],
        "genres": [list(film.genres) for film in rows],
        "minutes": [film.minutes for film in rows],
        "found": [movie_id in films for movie_id in asked],
        "fetched_at": [fetched_at] * len(asked),
    }
    return pa.table([pa.array(columns[field.name], field.type) for field in MOVIES], MOVIES)


def _movies(answer: dict[str, Any] | list[Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(answer, list):
        for movie in answer:
            if isinstance(movie, dict) and (movie_id := _id(movie)) is not None:
                yield movie_id, movie
    elif (movie_id := _id(answer)) is not None:
        yield movie_id, answer
    else:
        for key, movie in answer.items():
            if isinstance(movie, dict):
                yield key, movie


def _id(movie: dict[str, Any]) -> str | None:
    """A number counts as its digits: some services have numbers for ids."""
    value = movie.get("id")
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value)


def _film(movie: dict[str, Any]) -> Film:
    names = movie.get("genres")
    genres = (_text(name) for name in map(_genre, names)) if isinstance(names, list) else ()
    return Film(
        title=_text(movie.get("title")),
        year=_year(movie.get("release_date")) or _year(movie.get("year")),
        genres=tuple(dict.fromkeys(genre for genre in genres if genre)),
        minutes=_minutes(movie.get("runtime")),
    )


def _genre(value: Any) -> Any:
    return value.get("name") if isinstance(value, dict) else value


def _text(value: Any) -> str | None:
    """The text without the white space around it; half a surrogate pair, which JSON can write, is no text."""
    if not isinstance(value, str):
        return None
    text = value.strip()
    proper = 0 < len(text) <= MOST_LETTERS and not any("\ud800" <= letter <= "\udfff" for letter in text)
    return text if proper else None


def _year(value: Any) -> int | None:
    if isinstance(value, str):
        dated = _DATE.fullmatch(value.strip())
        number = int(dated[1]) if dated else None
    else:
        number = _whole(value)
    return number if number is not None and FIRST_YEAR <= number <= LAST_YEAR else None


def _minutes(value: Any) -> int | None:
    if isinstance(value, str):
        counted = _MINUTES.fullmatch(value)
        number = int(counted[1]) if counted else None
    else:
        number = _whole(value)
    return number if number is not None and 1 <= number <= MOST_MINUTES else None


def _whole(value: Any) -> int | None:
    """A JSON number that is whole, as 117 and 117.0 are."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not value.is_integer():  # nor are NaN and infinity
        return None
    return int(value)
