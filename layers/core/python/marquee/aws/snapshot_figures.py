"""What a dataset's manifest says of its events beyond counts: what watching is worth, and their profile.

All of it is asked of the table in SQL, in passes over a few columns. Thresholds are learnt from a sample of
the users where there are many events, so that the pairs of a very large table never stand in memory together.
"""

from typing import Any

from deltalake import DeltaTable

from marquee.aws.sql import query
from marquee.dataset.drift import activity_classes
from marquee.events.watching import WHOLE, Fit, fit_thresholds

_SAMPLED_EVENTS = 2_000_000
"""Thresholds are learnt from about as many events; if each is a pair of its own, they take a gigabyte."""

_PAIRS = """
    SELECT user_id, movie_id, count(minute) AS reports, min(minute) AS first, max(minute) AS last,
        last_value(rating ORDER BY time, partition, "offset") FILTER (WHERE kind = 'rate') AS rating
    FROM rows WHERE kind IN ('rate', 'watch') AND user_id % {one_in} = 0 GROUP BY user_id, movie_id
"""
_STEP = f"""
    SELECT median((last - first) / (reports - 1.0)) AS step FROM ({_PAIRS}) WHERE reports > 1
"""
_SEEN = "SELECT movie_id, max(minute) + 1 AS minutes FROM rows WHERE kind = 'watch' GROUP BY movie_id"
_LENGTHS = {
    False: _SEEN,
    True: f"""
        SELECT seen.movie_id,
            CASE WHEN movies.minutes > 0 THEN movies.minutes ELSE seen.minutes END AS minutes
        FROM ({_SEEN}) AS seen LEFT JOIN movies ON movies.movie_id = seen.movie_id
    """,
}
_CELLS = f"""
    SELECT CAST(rating AS BIGINT) AS rating,
        least({WHOLE}, {WHOLE} * least(reports * {{step}}, last - first + {{step}}) / lengths.minutes)
            AS share, count(*) AS pairs
    FROM ({_PAIRS}) AS pairs JOIN ({{lengths}}) AS lengths ON lengths.movie_id = pairs.movie_id
    WHERE rating IS NOT NULL AND reports > 0 GROUP BY 1, 2
"""


def watching_fit(
    events: DeltaTable, movies: DeltaTable | None, rows: int, sampled_events: int = _SAMPLED_EVENTS
) -> dict[str, Any]:
    """The manifest's ``implicit``: what watching is worth, and of which users that was learnt.

    Parameters
    ----------
    movies : the catalogue, whose ``minutes`` are a movie's length where they are known.
    rows : how many events there are; of more than ``sampled_events``, every n-th user's are taken.
    """
    one_in = max(1, round(rows / sampled_events))
    step = query(_STEP.format(one_in=one_in), rows=events)["step"][0].as_py()
    minutes_per_report = max(1, round(step or 1))
    lengths = _LENGTHS[movies is not None]
    asked = _CELLS.format(one_in=one_in, step=minutes_per_report, lengths=lengths)
    tables = {"rows": events} | ({"movies": movies} if movies is not None else {})
    found = query(asked, **tables)
    cells = {(row["rating"], row["share"]): row["pairs"] for row in found.to_pylist()}
    fit: Fit = fit_thresholds(cells, minutes_per_report)
    return {**fit.as_dict(), "users_one_in": one_in}


def profile(events: DeltaTable) -> tuple[dict[str, dict[str, int]], dict[str, int]]:
    """What drift is measured by: ``{"ratings", "activity"}``, counts by class; and events by movie id.

    An event is here one of watching or rating.
    """
    met = "FROM rows WHERE kind IN ('rate', 'watch')"
    ratings = query(
        "SELECT CAST(rating AS BIGINT) AS rating, count(*) AS n FROM rows WHERE kind = 'rate' GROUP BY 1"
        " ORDER BY 1",
        rows=events,
    )
    users = query(
        f"SELECT events, count(*) AS n FROM (SELECT count(*) AS events {met} GROUP BY user_id) GROUP BY 1",
        rows=events,
    )
    movies = query(f"SELECT movie_id, count(*) AS n {met} GROUP BY 1 ORDER BY 1", rows=events)
    told = {
        "ratings": {str(row["rating"]): row["n"] for row in ratings.to_pylist()},
        "activity": activity_classes({row["events"]: row["n"] for row in users.to_pylist()}),
    }
    return told, {row["movie_id"]: row["n"] for row in movies.to_pylist()}
