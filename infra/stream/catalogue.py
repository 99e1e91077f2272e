"""The films of a simulated or replayed service, as its catalogue API knows them.

They stand in a file, as JSON by id, which the stack's catalogue server reads when it changed.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from marquee.events.movies import MOVIES

SCHEMA = pa.schema([MOVIES.field(name) for name in ("movie_id", "title", "year", "genres", "minutes")])


def table(
    movie_ids: Sequence[str],
    titles: Sequence[str],
    years: Sequence[int | None],
    genres: Sequence[Sequence[str]],
    minutes: Sequence[int | None],
) -> pa.Table:
    """Columns as a table of ``SCHEMA``."""
    columns = (movie_ids, titles, years, genres, minutes)
    return pa.table(
        [pa.array(column, type=field.type) for column, field in zip(columns, SCHEMA, strict=True)], SCHEMA
    )


def served(movies: pa.Table) -> dict[str, dict[str, Any]]:
    """What the API answers, by movie id."""
    return {
        row["movie_id"]: {
            "id": row["movie_id"],
            "title": row["title"],
            "year": row["year"],
            "runtime": row["minutes"],
            "genres": [{"name": genre} for genre in row["genres"] or ()],
        }
        for row in movies.to_pylist()
    }


def publish(path: Path, movies: pa.Table) -> int:
    """Add ``movies`` (of ``SCHEMA``) to those of ``path`` and return how many those are now.

    A film that is there already is replaced; the file is replaced whole.
    """
    try:
        films = json.loads(path.read_text())
    except FileNotFoundError:
        films = {}
    films |= served(movies)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(films))
    partial.replace(path)
    return len(films)
