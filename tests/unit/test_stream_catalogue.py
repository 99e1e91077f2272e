"""The simulated service's catalogue API: what it knows grows, and its answers are those that ingest reads."""

import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import pytest
import urllib3

from infra.processes import running
from infra.stream import catalogue, catalogue_server
from infra.stream.catalogue_server import CatalogueServer, FilmsOfFile
from infra.stream.simulate import Simulation, movies_of
from marquee.aws.catalogue_client import CatalogueClient
from marquee.settings import CatalogueSettings

MARQUEE = Path(sys.executable).parent / "marquee"


def films(*movie_ids: str, title: str) -> Any:
    count = len(movie_ids)
    return catalogue.table(movie_ids, [title] * count, [None] * count, [["Drama"]] * count, [90] * count)


@contextmanager
def serving(known: Callable[[], catalogue_server.Films], rate: float = 1_000.0) -> Iterator[str]:
    with CatalogueServer(known, 0, rate) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.url
        finally:
            server.shutdown()
            thread.join()


def get(url: str) -> tuple[int, Any]:
    response = urllib3.request("GET", url, retries=False, timeout=30)
    return response.status, response.json()


def test_publishing_unites_by_id_and_the_new_film_wins(tmp_path: Path) -> None:
    path = tmp_path / "films.json"
    assert catalogue.publish(path, films("b", "a", title="old")) == 2
    assert catalogue.publish(path, films("c", "b", title="new")) == 3
    titles = {movie_id: film["title"] for movie_id, film in json.loads(path.read_text()).items()}
    assert titles == {"a": "old", "b": "new", "c": "new"}
    assert list(tmp_path.iterdir()) == [path]


def test_one_movie_several_and_none_are_answered_as_the_service_does() -> None:
    known = catalogue.served(films("a+1", "b", title="x"))
    a = {"id": "a+1", "title": "x", "year": None, "runtime": 90, "genres": [{"name": "Drama"}]}
    with serving(lambda: known) as url:
        assert get(f"{url}/movie/a%2B1") == get(f"{url}/movie/a+1") == (200, a)
        assert get(f"{url}/movie/b,a+1,c") == (200, [{**a, "id": "b"}, a])
        assert get(f"{url}/movie/c,d") == (200, [])
        assert get(f"{url}/movie/c") == (404, {"message": "movie not found"})
        assert get(f"{url}/movie/{','.join('a' * 201)}")[0] == 400
        assert get(f"{url}/other")[0] == 404


def test_who_asks_too_often_is_told_when_to_come_again() -> None:
    with serving(dict, rate=0.5) as url:
        assert get(f"{url}/movie/a,b")[0] == 200
        response = urllib3.request("GET", f"{url}/movie/a,b", retries=False, timeout=30)
        assert response.status == 429
        assert 1 <= int(response.headers["Retry-After"]) <= 2


def test_what_a_simulation_knows_of_its_films_arrives_whole() -> None:
    made = movies_of(Simulation(users=10, movies=300))
    wanted = {row["movie_id"]: row for row in made.to_pylist()}
    known = catalogue.served(made)
    with (
        serving(lambda: known) as url,
        CatalogueClient(CatalogueSettings(url=url), float("inf"), backoff_seconds=0.01) as client,
    ):
        found = {}
        for batch in client.batches(list(wanted), 200):
            found |= client.ask(batch)
    assert client.calls > 1
    assert {
        movie_id: (film.title, film.year, list(film.genres), film.minutes) for movie_id, film in found.items()
    } == {
        movie_id: (row["title"], row["year"], row["genres"], row["minutes"])
        for movie_id, row in wanted.items()
    }


def test_films_of_a_file_come_and_change_and_a_broken_file_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "films.json"
    known = FilmsOfFile(path)
    assert known() == {}
    catalogue.publish(path, films("a", title="old"))
    assert known()["a"]["title"] == "old"
    catalogue.publish(path, films("a", title="new"))
    assert known()["a"]["title"] == "new"
    path.write_text("{")
    assert known()["a"]["title"] == "new"
    path.unlink()
    assert known()["a"]["title"] == "new"


def test_the_stacks_member_writes_its_address_serves_and_ends_when_told(tmp_path: Path) -> None:
    with running(catalogue_server.spec(tmp_path)) as process:
        url = catalogue_server.wait_until_ready(tmp_path, 60, lambda: process.poll() is None)
        assert get(f"{url}/movie/a")[0] == 404
        catalogue.publish(catalogue_server.films_path(tmp_path), films("a", title="x"))
        assert get(f"{url}/movie/a")[1]["title"] == "x"
        process.terminate()
        assert process.wait(20) == 0


def test_the_command_serves_until_ctrl_c() -> None:
    with Popen(
        [MARQUEE, "catalogue", "serve", "--movies", "5"], stdout=PIPE, stderr=PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            movie_id = movies_of(Simulation(movies=5))["movie_id"][0].as_py()
            status, film = get(f"{url}/movie/{movie_id}")
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (status, film["id"], process.returncode) == (200, movie_id, 0)
    assert "5 films" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("layout", ["empty", "absent"])
def test_serving_a_movielens_without_films_is_refused(tmp_path: Path, layout: str) -> None:
    path = tmp_path / "ml"
    if layout == "empty":
        path.mkdir()
        (path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,7,5,900\n")
    command = [MARQUEE, "catalogue", "serve", "--ratings", str(path)]
    with Popen(command, stdout=PIPE, stderr=PIPE, text=True) as process:
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert str(path) in said
    assert "Traceback" not in said
