"""Fetching the catalogue: the movies that events name and the lake does not know yet, asked of the service.

Nothing else waits for it. Whatever stops a run, what was committed stands, and the next run goes on from
there.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from marquee.aws.catalogue_client import CatalogueClient
from marquee.aws.emf import emit
from marquee.aws.lake import EVENTS_KEY, Lake
from marquee.aws.movies_table import MoviesTable
from marquee.aws.unseen import Unseen, unseen
from marquee.errors import CatalogueError
from marquee.events.movies import MOVIES, rows_of
from marquee.settings import CatalogueSettings

COMMIT_ROWS = 2_000
"""Movies of one commit, about: a commit costs as much as some calls."""
_GIVE_UP = 3
"""Failed calls one after the other, each tried several times, by which the service counts as down."""
_SHOWN_ERRORS = 5


@dataclass
class CatalogueReport:
    """What a run did; counts are of movies.

    Parameters
    ----------
    unseen : named by the events and not asked for before.
    again : asked for again, because the service had not known them.
    fetched, unknown : committed, with what the service says, or as not known to it.
    left : still to be asked for by a next run.
    errors : calls that failed after all retries; ``messages`` has what the first of them said.
    stopped : why the run ended before it was through; None when it was.
    """

    unseen: int = 0
    again: int = 0
    fetched: int = 0
    unknown: int = 0
    left: int = 0
    calls: int = 0
    commits: int = 0
    errors: int = 0
    messages: list[str] = field(default_factory=list)
    stopped: str | None = None
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """As JSON carries it."""
        return asdict(self)


def fetch(
    settings: CatalogueSettings,
    lake: Lake,
    offsets_name: str,
    *,
    again: bool = False,
    clock: Callable[[], float] = time.monotonic,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    backoff_seconds: float = 0.5,
    commit_rows: int = COMMIT_ROWS,
    checkpoint: Callable[[str], None] = lambda _: None,
    publish: Callable[[CatalogueReport], None] = lambda _: None,
) -> CatalogueReport:
    """Ask the service for the movies that ``lake/movies`` lacks, and add what it says; each movie once.

    Runs may overlap. A service that fails is no error: the report says so.

    Parameters
    ----------
    offsets_name : the name under which the drain keeps the topic's offsets.
    again : ask for every movie that the service did not know, however lately that was.
    clock : monotonic seconds; ``now`` is the time of day.
    backoff_seconds : the first pause after a failed call.
    checkpoint : told each point as it is passed: ``scanned``, ``asked`` (after each call), ``committed``.
    publish : given the report once, also when an error ends the run.

    Raises
    ------
    SettingError : CATALOGUE_URL is no address.
    StorageError : S3 refused or failed; what was committed before stands.
    """
    started = clock()
    report = CatalogueReport()
    with CatalogueClient(
        settings, started + settings.max_seconds, clock=clock, backoff_seconds=backoff_seconds
    ) as client:
        try:
            events, movies = lake.load(EVENTS_KEY), MoviesTable(lake)
            new = unseen(events, movies.delta, offsets_name)
            oldest = now() if again else now() - timedelta(days=settings.again_days)
            before = movies.unknown(_microseconds(oldest))
            checkpoint("scanned")
            run = _Run(movies, new, before, report, commit_rows=commit_rows, checkpoint=checkpoint, now=now)
            run.carry_out(client, settings.ids_per_call)
        finally:
            report.calls, report.seconds = client.calls, round(clock() - started, 3)
            publish(report)
    return report


def emit_metrics(namespace: str, report: CatalogueReport) -> None:
    """Write the report as metrics, and in the same log line with all that it says."""
    metrics = {
        "MoviesFetched": (report.fetched, "Count"),
        "MoviesUnknown": (report.unknown, "Count"),
        "CatalogueErrors": (report.errors, "Count"),
    }
    properties = {"type": "catalogue", "report": report.as_dict()}
    emit(namespace, {"Service": "ingest"}, metrics, properties)


class _Run:
    """Calls until all is asked for, and the commits between them; counts into ``report``."""

    def __init__(
        self,
        movies: MoviesTable,
        new: Unseen,
        again: Iterable[str],
        report: CatalogueReport,
        *,
        commit_rows: int,
        checkpoint: Callable[[str], None],
        now: Callable[[], datetime],
    ) -> None:
        self._movies = movies
        self._new = new
        self._report = report
        self._commit_rows = commit_rows
        self._checkpoint = checkpoint
        self._now = now
        # In the order in which they came, so that those committed leave little to look through once more.
        self._left = dict.fromkeys([*new.firsts, *again])
        self._rows = MOVIES.empty_table()
        report.unseen = len(new.firsts)
        report.again = len(self._left) - report.unseen
        report.left = len(self._left)

    def carry_out(self, client: CatalogueClient, ids_per_call: int) -> None:
        """Ask and commit until nothing is left, the time is up or the service is down."""
        self._take([movie_id for movie_id in self._left if not client.can_ask(movie_id)], {})
        waiting = deque(client.batches(list(self._left), ids_per_call))
        failed = 0
        while waiting and failed < _GIVE_UP:
            if not client.wait():
                self._report.stopped = "the time is up"
                break
            batch = waiting.popleft()
            try:
                films = client.ask(batch)
            except CatalogueError as error:
                # One movie may be what it stumbles over: in halves, and last, that does not stop the others.
                half = len(batch) // 2
                waiting.extend(part for part in (batch[:half], batch[half:]) if half and part)
                failed = 0 if error.refused else failed + 1
                self._note(error)
                continue
            failed = 0
            self._take(batch, films)
            self._checkpoint("asked")
            if self._rows.num_rows >= self._commit_rows:
                self._commit()
        if failed == _GIVE_UP:
            self._report.stopped = "the service is down"
        self._commit()

    def _take(self, asked: list[str], films: dict[str, Any]) -> None:
        self._rows = pa.concat_tables([self._rows, rows_of(asked, films, self._now())])
        for movie_id in asked:
            del self._left[movie_id]

    def _note(self, error: CatalogueError) -> None:
        self._report.errors += 1
        if len(self._report.messages) < _SHOWN_ERRORS:
            self._report.messages.append(str(error))

    def _commit(self) -> None:
        rows, report = self._rows, self._report
        new = {movie_id: None for movie_id in self._left if movie_id in self._new.firsts}
        if self._movies.commit(rows, self._new.reached(new)):
            report.commits += 1
            self._checkpoint("committed")
        found = rows["found"].combine_chunks().true_count
        report.fetched += found
        report.unknown += rows.num_rows - found
        report.left = len(self._left)
        self._rows = MOVIES.empty_table()


def _microseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000)
