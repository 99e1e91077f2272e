"""MovieLens in its three layouts becomes one and the same log."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from infra.stream import movielens
from infra.stream.replay import Replay, batches, event_count
from marquee.errors import InputError
from tests.support import require_movielens
from tests.unit import stream_oracle

# user, movie, stars, time: a tie at 1000 keeps the file's order; user 2 comes back after two hours.
_ROWS = (
    (2, 50, "4.0", 1_000),
    (1, 7, "3.0", 1_000),
    (1, 50, "5.0", 900),
    (2, 7, "1.0", 8_300),
)
_ITEM = "|".join(
    ["7", "Café (1995)", "01-Jan-1995", "", "link", *("1" if n in (5, 8) else "0" for n in range(19))]
)


def _write(folder: Path, layout: str, rows: tuple[tuple[int, int, str, int], ...] = _ROWS) -> Path:
    separator = {"ratings.csv": ",", "u.data": "\t", "ratings.dat": "::"}[layout]
    lines = [separator.join(map(str, row)) for row in rows]
    if layout == "ratings.csv":
        lines.insert(0, "userId,movieId,rating,timestamp")
        (folder / "movies.csv").write_text('movieId,title,genres\n7,"Café (1995)",Comedy|Drama\n', "utf-8")
    elif layout == "u.data":
        lines = [line.replace(".0", "") for line in lines]
        (folder / "u.item").write_bytes(f"{_ITEM}\n".encode("latin-1"))
    else:
        (folder / "movies.dat").write_bytes("7::Café (1995)::Comedy|Drama\n".encode("latin-1"))
    (folder / layout).write_text("\n".join(lines) + "\n")
    return folder


def _values(options: Replay) -> list[bytes]:
    return [
        value for batch in batches(options, movielens.read_ratings(options.path)) for value in batch.values
    ]


_EXPECTED = [
    b"1970-01-01T00:15:00,1,GET /create_account",
    b"1970-01-01T00:15:00,1,recommendation request recommender, status 0, result: no recommender yet, 0 ms",
    b"1970-01-01T00:15:00,1,GET /data/m/50/0.mpg",
    b"1970-01-01T00:15:00,1,GET /data/m/50/130.mpg",
    b"1970-01-01T00:15:00,1,GET /rate/50=10",
    b"1970-01-01T00:16:40,2,GET /create_account",
    b"1970-01-01T00:16:40,2,recommendation request recommender, status 0, result: no recommender yet, 0 ms",
    b"1970-01-01T00:16:40,2,GET /data/m/50/0.mpg",
    b"1970-01-01T00:16:40,2,GET /data/m/50/117.mpg",
    b"1970-01-01T00:16:40,2,GET /rate/50=8",
    b"1970-01-01T00:16:40,1,GET /data/m/7/0.mpg",
    b"1970-01-01T00:16:40,1,GET /data/m/7/79.mpg",
    b"1970-01-01T00:16:40,1,GET /rate/7=6",
    b"1970-01-01T02:18:20,2,recommendation request recommender, status 0, result: no recommender yet, 0 ms",
    b"1970-01-01T02:18:20,2,GET /data/m/7/0.mpg",
    b"1970-01-01T02:18:20,2,GET /data/m/7/59.mpg",
    b"1970-01-01T02:18:20,2,GET /rate/7=2",
]


@pytest.mark.parametrize("layout", ["ratings.csv", "u.data", "ratings.dat"])
@pytest.mark.parametrize("whole_folder", [True, False])
def test_every_layout_gives_the_same_lines_in_the_order_of_time(
    tmp_path: Path, layout: str, whole_folder: bool
) -> None:
    folder = _write(tmp_path, layout)
    options = Replay(folder if whole_folder else folder / layout)
    assert _values(options) == _EXPECTED
    assert event_count(options, movielens.read_ratings(options.path)) == len(_EXPECTED)
    film = movielens.read_movies(options.path).to_pylist()
    assert film == [
        {
            "movie_id": "7",
            "title": "Café (1995)",
            "year": 1995,
            "genres": ["Comedy", "Drama"],
            "minutes": None,
        }
    ]


def test_watch_lines_go_from_the_first_to_the_last_minute(tmp_path: Path) -> None:
    folder = _write(tmp_path, "u.data", _ROWS[:1])

    def minutes(watch_lines: int) -> list[int]:
        read = [stream_oracle.read(value) or {} for value in _values(Replay(folder, watch_lines=watch_lines))]
        return [int(fields["minute"]) for fields in read if "minute" in fields]

    assert [minutes(lines) for lines in range(5)] == [[], [117], [0, 117], [0, 58, 117], [0, 39, 78, 117]]


def test_a_scale_of_five_takes_whole_stars_and_names_the_setting_for_half_ones(tmp_path: Path) -> None:
    folder = _write(tmp_path, "ratings.csv")
    rates = [line for line in _values(Replay(folder, rating_scale=5)) if b"/rate/" in line]
    assert [line.rsplit(b"=")[1] for line in rates] == [b"5", b"4", b"3", b"1"]
    halves = _write(tmp_path, "ratings.csv", ((1, 7, "3.5", 1),))
    with pytest.raises(InputError, match="RATING_SCALE=10"):
        _values(Replay(halves, rating_scale=5))
    assert _values(Replay(halves))[-1].endswith(b"GET /rate/7=7")


@pytest.mark.parametrize("layout", ["ratings.csv", "u.data", "ratings.dat"])
@pytest.mark.parametrize(
    "row",
    [(1, 7, "five", 1), (0, 7, "3", 1), (1, 7, "3.3", 1), (1, 7, "6", 1), (1, 7, "0", 1), (1, 7, "3", -1)],
)
def test_a_row_that_makes_no_sense_is_named_by_its_line(
    tmp_path: Path, layout: str, row: tuple[int, int, str, int]
) -> None:
    folder = _write(tmp_path, layout, (*_ROWS[:2], row))
    line = 4 if layout == "ratings.csv" else 3
    with pytest.raises(InputError, match=f"{layout}, line {line}: "):
        movielens.read_ratings(folder)


def test_a_row_with_a_field_too_few_is_named_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "u.data").write_text("1\t2\t3\t4\n1\t2\t3\n")
    with pytest.raises(InputError, match="line 2: "):
        movielens.read_ratings(tmp_path)
    (tmp_path / "u.data").write_text("")
    with pytest.raises(InputError, match="no "):
        movielens.read_ratings(tmp_path)


def test_a_missing_path_and_an_unknown_file_are_refused_with_what_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "my.csv").write_text("userId,movieId,rating,timestamp\n")
    for path in (tmp_path / "absent", tmp_path, tmp_path / "my.csv"):
        with pytest.raises(InputError, match=r"ratings\.csv, u\.data, ratings\.dat") as refused:
            movielens.read_ratings(path)
        assert refused.value.parameter == "path"


def test_films_without_a_file_or_genres_are_no_obstacle(tmp_path: Path) -> None:
    folder = _write(tmp_path, "ratings.csv")
    (folder / "movies.csv").write_text("movieId,title,genres\n7,Untitled,(no genres listed)\n")
    assert movielens.read_movies(folder).to_pylist()[0] == {
        "movie_id": "7",
        "title": "Untitled",
        "year": None,
        "genres": [],
        "minutes": None,
    }
    (folder / "movies.csv").unlink()
    assert movielens.read_movies(folder).num_rows == 0


@pytest.mark.movielens
def test_ml_latest_small_replays_whole_in_order_and_by_the_grammar() -> None:
    options = Replay(require_movielens())
    ratings = movielens.read_ratings(options.path)
    read = [stream_oracle.read(value) for value in _values(options)]
    kinds = Counter(fields["kind"] for fields in read if fields)
    assert kinds["rate"] == len(ratings) == 100_836
    assert kinds["watch"] == 2 * kinds["rate"]
    assert kinds["create_account"] == len(np.unique(ratings.user_ids)) == 610
    assert None not in read
    assert kinds.total() == event_count(options, ratings)
    times = [fields["time"] for fields in read if fields]
    assert times == sorted(times)
    assert movielens.read_movies(options.path).num_rows == 9_742


def test_the_same_seed_spoils_the_same_lines(tmp_path: Path) -> None:
    folder = _write(tmp_path, "u.data")
    assert _values(Replay(folder, dirty_share=0.5, seed=1)) == _values(
        Replay(folder, dirty_share=0.5, seed=1)
    )
    assert _values(Replay(folder, dirty_share=1.0)) != _EXPECTED
    assert not any(stream_oracle.read(value) for value in _values(Replay(folder, dirty_share=1.0)))
