"""Reads MovieLens in its three layouts.

=============  =========  ==============================================================
file           separator  columns; films stand in
=============  =========  ==============================================================
ratings.csv    ``,``      userId, movieId, rating, timestamp, after a header; movies.csv
u.data         tab        the same without a header; u.item
ratings.dat    ``::``     the same without a header; movies.dat
=============  =========  ==============================================================
"""

import csv
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
from numpy.typing import NDArray

from infra.stream import catalogue
from marquee.errors import InputError

_COLUMNS = ("userId", "movieId", "rating", "timestamp")
_LAST_SECOND = 9_214_646_400  # 2262-01-01, where timestamps in nanoseconds end
_HALF_STARS = 2
_YEAR = re.compile(r"\((\d{4})\)\s*$")
# fmt: off
_ITEM_GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama",
    "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)
# fmt: on
_ITEM_FIRST_FLAG = 5


@dataclass(frozen=True)
class Layout:
    """One of the three: the files, the separator, and how many header lines stand before the rows."""

    ratings: str
    movies: str
    separator: bytes
    header_lines: int


LAYOUTS = (
    Layout("ratings.csv", "movies.csv", b",", 1),
    Layout("u.data", "u.item", b"\t", 0),
    Layout("ratings.dat", "movies.dat", b"::", 0),
)


@dataclass(frozen=True)
class Ratings:
    """Ratings in the order of their times, ties in the order of the file. All arrays have one length.

    Attributes
    ----------
    user_ids, movie_ids : int64, from 1.
    half_stars : int64, stars times two: 1 to 10.
    times : int64, seconds since the epoch.
    """

    user_ids: NDArray[np.int64]
    movie_ids: NDArray[np.int64]
    half_stars: NDArray[np.int64]
    times: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.times)


def find(path: Path) -> tuple[Path, Layout]:
    """The ratings file that ``path`` is or holds, and its layout; InputError when there is none."""
    names = ", ".join(layout.ratings for layout in LAYOUTS)
    if not path.exists():
        raise InputError("path", f"{path} does not exist; give a MovieLens folder or one of {names}")
    for layout in LAYOUTS:
        file = path / layout.ratings if path.is_dir() else path
        if file.name == layout.ratings and file.is_file():
            return file, layout
    raise InputError(
        "path", f"{path} is no MovieLens ratings: accepted is a folder with one of {names}, or it"
    )


def read_ratings(path: Path) -> Ratings:
    """All ratings of ``path`` (folder or file); InputError names the line of a row that makes no sense."""
    file, layout = find(path)
    try:
        columns = _parse(file, layout)
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise _broken(file, layout) from error
    users, movies, stars, times = columns
    half_stars = np.rint(stars * _HALF_STARS)
    bad = (users < 1) | (movies < 1) | (half_stars < 1) | (half_stars > 10)
    bad |= (half_stars != stars * _HALF_STARS) | (times < 0) | (times >= _LAST_SECOND)
    if bad.any():
        raise _broken(file, layout)
    if len(times) == 0:
        raise InputError("path", f"{file} holds no ratings")
    order = np.argsort(times, kind="stable")
    return Ratings(users[order], movies[order], half_stars[order].astype(np.int64), times[order])


def _parse(file: Path, layout: Layout) -> list[NDArray]:
    content = file.read_bytes()
    if len(layout.separator) > 1:
        content, separator = content.replace(layout.separator, b"\t"), "\t"
    else:
        separator = layout.separator.decode()
    types = dict(zip(_COLUMNS, (pa.int64(), pa.int64(), pa.float64(), pa.int64()), strict=True))
    table = pacsv.read_csv(
        pa.BufferReader(content),
        read_options=pacsv.ReadOptions(column_names=None if layout.header_lines else list(_COLUMNS)),
        parse_options=pacsv.ParseOptions(delimiter=separator),
        convert_options=pacsv.ConvertOptions(
            column_types=types, include_columns=list(_COLUMNS), null_values=[]
        ),
    )
    return [table[name].to_numpy() for name in _COLUMNS]


def _broken(file: Path, layout: Layout) -> InputError:
    """The error for the first line of ``file`` that is no rating."""
    wanted = layout.separator.decode().join(_COLUMNS).replace("\t", " <tab> ")
    with file.open("rb") as rows:
        for number, row in enumerate(rows, start=1):
            text = row.rstrip(b"\r\n")
            if number <= layout.header_lines:
                if text.decode("utf-8-sig", "replace").split(",")[:4] == list(_COLUMNS):
                    continue
            elif not text or _is_rating(text.split(layout.separator)):
                continue
            shown = text[:80].decode("utf-8", "replace")
            return InputError(
                "path",
                f"{file}, line {number}: {shown!r} is not {wanted} with ids from 1, a rating from 0.5 to 5 "
                "in half stars, and a time in seconds since 1970",
            )
    return InputError("path", f"{file} is no table of {wanted}")


def _is_rating(fields: list[bytes]) -> bool:
    if len(fields) != len(_COLUMNS):
        return False
    try:
        user, movie, stars, seconds = int(fields[0]), int(fields[1]), float(fields[2]), int(fields[3])
    except ValueError:
        return False
    proper = 0.5 <= stars <= 5 and (stars * _HALF_STARS).is_integer()
    return proper and user >= 1 and movie >= 1 and 0 <= seconds < _LAST_SECOND


def read_movies(path: Path) -> pa.Table:
    """The films beside the ratings of ``path``, as catalogue rows; none when that file is not there."""
    file, layout = find(path)
    movies = file.with_name(layout.movies)
    if not movies.is_file():
        return catalogue.SCHEMA.empty_table()
    readers: dict[str, Callable[[str], list[tuple[str, str, list[str]]]]] = {
        "movies.csv": _movies_csv,
        "u.item": _u_item,
        "movies.dat": _movies_dat,
    }
    try:
        rows = readers[layout.movies](_decode(movies.read_bytes()))
    except (ValueError, IndexError, KeyError) as error:
        raise InputError("path", f"{movies} is not a MovieLens {layout.movies}: {error}") from error
    years = [int(found[1]) if (found := _YEAR.search(title)) else None for _, title, _ in rows]
    ids, titles, genres = zip(*rows, strict=True) if rows else ((), (), ())
    return catalogue.table(ids, titles, years, genres, [None] * len(rows))


def _decode(content: bytes) -> str:
    """Newer sets are UTF-8, the older ones Latin-1."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _lines(text: str) -> list[str]:
    """Lines that are not empty; str.splitlines would also break at characters that Latin-1 titles hold."""
    return [line.rstrip("\r") for line in text.split("\n") if line.strip()]


def _genres(joined: str) -> list[str]:
    return [] if joined == "(no genres listed)" else [genre for genre in joined.split("|") if genre]


def _movies_csv(text: str) -> list[tuple[str, str, list[str]]]:
    rows = csv.DictReader(io.StringIO(text))
    return [(str(int(row["movieId"])), row["title"], _genres(row["genres"] or "")) for row in rows]


def _movies_dat(text: str) -> list[tuple[str, str, list[str]]]:
    rows = (line.split("::") for line in _lines(text))
    return [(str(int(number)), title, _genres(genres)) for number, title, genres in rows]


def _u_item(text: str) -> list[tuple[str, str, list[str]]]:
    films = []
    for line in _lines(text):
        fields = line.split("|")
        flags = fields[_ITEM_FIRST_FLAG : _ITEM_FIRST_FLAG + len(_ITEM_GENRES)]
        genres = [genre for genre, flag in zip(_ITEM_GENRES, flags, strict=True) if flag == "1"]
        films.append((str(int(fields[0])), fields[1], [genre for genre in genres if genre != "unknown"]))
    return films
