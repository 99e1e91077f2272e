"""After each drain: what its commits say users did goes to where the recommender finds it, user by user.

It is taken from the events table's log, not from the drain's memory, so whoever dies loses nothing: the next
drain goes on from the state. A shard says up to which commit it was taken in, and so counts each event once,
however many runs overlap, begin again or die between two shards; the state follows when all shards are
written. A run that fails is told and counted, and the drain is none the worse for it.
"""

import logging
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from marquee.aws.ahead import ahead
from marquee.aws.emf import emit
from marquee.aws.event_log import Commit, EventLog
from marquee.aws.forgotten import forgotten_users
from marquee.aws.lake import EVENTS_KEY, Lake
from marquee.aws.recent_keys import Retired, State
from marquee.aws.recent_store import Objects, RecentStore
from marquee.errors import CorruptObjectError, MarqueeError
from marquee.events.recent import Bounds, News
from marquee.settings import RecentSettings

_THREADS = 8
_GROUP_ROWS, _GROUP_COMMITS, _GROUP_BYTES = 200_000, 100, 64_000_000
"""Commits are taken in together up to so much: each group writes the shards it touches once. Its files lie on
the function's own disk meanwhile, which has 512 MB."""
_MAX_SECONDS = 20.0
_DAY_SECONDS, _MINUTE_SECONDS = 86_400, 60
_SHOWN = 20
_log = logging.getLogger(__name__)


@dataclass
class RecentReport:
    """What one run did.

    Parameters
    ----------
    commits, rows : taken in; ``rows`` are those of watch and rating lines by user, movie and commit.
    shards : objects written.
    skipped : commits, or files of commits, that are gone and so were passed by.
    behind : commits that were left for the next run.
    error : why the run did not come to its end; empty when it did.
    """

    commits: int = 0
    rows: int = 0
    shards: int = 0
    skipped: int = 0
    behind: int = 0
    seconds: float = 0.0
    error: str = ""
    gone: list[str] = field(default_factory=list, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """As JSON carries it."""
        return asdict(self)


def emit_metrics(namespace: str, report: RecentReport) -> None:
    """Write a report to stdout, in EMF."""
    metrics: dict[str, tuple[float, str]] = {
        "RecentCommits": (report.commits, "Count"),
        "RecentShards": (report.shards, "Count"),
        "RecentSkipped": (report.skipped, "Count"),
        "RecentBehind": (report.behind, "Count"),
        "RecentFailures": (int(bool(report.error)), "Count"),
        "RecentSeconds": (report.seconds, "Seconds"),
    }
    emit(namespace, {"Service": "ingest"}, metrics, {"type": "recent", "report": report.as_dict()})


def follow(
    lake: Lake,
    objects: Objects,
    settings: RecentSettings,
    *,
    publish: Callable[[RecentReport], None] = lambda _: None,
    checkpoint: Callable[[str], None] = lambda _: None,
    now: Callable[[], float] = time.time,
    max_seconds: float = _MAX_SECONDS,
) -> RecentReport:
    """Take in what was committed since the last run. Whatever fails is in the report; nothing is raised.

    Parameters
    ----------
    objects : the bucket that the lake stands in.
    publish : given the report, once.
    checkpoint : told ``begun`` (of a generation), ``read`` (a group's forgotten users and commits),
        ``shard`` (after each one is written, by whichever thread wrote it), ``advanced`` and ``retired``.
    now : seconds since 1970.
    max_seconds : no group of commits is begun after so long.
    """
    report, started = RecentReport(), time.monotonic()
    if settings.events == "off":
        return report
    run = _Run(lake, objects, settings, report, checkpoint=checkpoint, now=now)
    try:
        run.go(lambda: time.monotonic() - started < max_seconds)
    except MarqueeError as error:
        report.error = str(error)
        _log.warning("recent events were not taken in, the next drain goes on: %s", error)
    except Exception as error:  # noqa: BLE001  the drain's own work stands and is reported
        report.error = repr(error)
        _log.exception("recent events were not taken in, the next drain goes on")
    report.seconds = round(time.monotonic() - started, 3)
    publish(report)
    return report


class _Run:
    def __init__(
        self,
        lake: Lake,
        objects: Objects,
        settings: RecentSettings,
        report: RecentReport,
        *,
        checkpoint: Callable[[str], None],
        now: Callable[[], float],
    ) -> None:
        self._lake, self._settings, self._report = lake, settings, report
        self._log, self._store = EventLog(objects), RecentStore(objects)
        self._checkpoint = checkpoint
        self._now = int(now())
        self._since = int(self._now - settings.days * _DAY_SECONDS)

    def go(self, in_time: Callable[[], bool]) -> None:
        table = self._lake.load(EVENTS_KEY)
        if table is None:
            return
        end, table_id = int(table.version()), str(table.metadata().id)
        try:
            state = self._standing(table_id, end)
            self._take_in(state, end, in_time)
            self._sweep(state)
        except CorruptObjectError as error:  # a state or a shard: all of it stands in the log as well
            _log.warning("recent events are begun anew: %s", error)
            self._take_in(self._begin(table_id, end, *self._store.whatever_stands()), end, in_time)

    def _sweep(self, state: State) -> None:
        """Drop what is too old from one shard, each minute another: no drain may ever touch it again."""
        shard = self._now // _MINUTE_SECONDS % state.shards
        self._store.change(state, shard, lambda before: before.swept(self._since))

    def _standing(self, table_id: str, end: int) -> State:
        """The state to go on from: of this table, and of as many shards as the setting says."""
        found = self._store.state()
        if found is None:
            return self._begin(table_id, end, None, None)
        state, tag = found
        if state.table_id != table_id or state.shards != self._settings.shards:
            return self._begin(table_id, end, state, tag)
        if state.retired is None:
            return state
        self._store.delete(state.retired.keys())
        self._checkpoint("retired")
        cleared = replace(state, retired=None)
        return cleared if self._store.put_state(cleared, tag) else self._standing(table_id, end)

    def _begin(self, table_id: str, end: int, old: State | None, tag: str | None) -> State:
        """A new generation, which starts with the oldest commit whose events are kept."""
        first = self._log.first_since(self._since, 0, end + 1)
        retired = None if old is None else Retired(old.generation, old.shards)
        state = State(uuid.uuid4().hex[:8], self._settings.shards, table_id, first - 1, retired=retired)
        if not self._store.put_state(state, tag):
            return self._standing(table_id, end)  # another run began one
        self._checkpoint("begun")
        return state

    def _take_in(self, state: State, end: int, in_time: Callable[[], bool]) -> None:
        at = state.version
        if at >= end:
            return
        self._report.behind = end - at
        first = self._log.commit(at + 1)
        if first is None or first.at < self._since:
            at = self._skip(at + 1, self._log.first_since(self._since, at + 1, end + 1)) - 1
            if not self._advance(state, at):
                return
            self._report.behind = end - at
        # Asked for after the state was read: who asks to be forgotten later finds that state, and marks it.
        forgotten = {
            user: round(when.timestamp() * 1e6) for user, when in forgotten_users(self._lake).items()
        }
        while at < end and in_time():
            commits, last = self._group(at + 1, end)
            self._checkpoint("read")
            self._write(state, commits, last, forgotten)
            if not self._advance(state, last):
                return
            self._report.commits += len(commits)
            at = last
            self._report.behind = end - at

    def _skip(self, first: int, end: int) -> int:
        """Tell of commits that are gone from the log, or older than what is kept; ``end``."""
        if first < end:
            self._tell_gone(f"commits {first} to {end - 1}", end - first)
        return end

    def _tell_gone(self, what: str, count: int) -> None:
        self._report.skipped += count
        self._report.gone = [*self._report.gone, what][:_SHOWN]
        _log.warning("recent events: %s are gone, or older than RECENT_DAYS", what)

    def _group(self, first: int, end: int) -> tuple[list[Commit], int]:
        """Some commits in a row, and the last version that they reach."""
        commits: list[Commit] = []
        rows, size, last = 0, 0, first - 1
        versions = range(first, min(end + 1, first + _GROUP_COMMITS))
        for version, found in zip(versions, ahead(self._log.commit, versions, _THREADS), strict=True):
            if found is None:
                self._skip(version, version + 1)
            elif commits and (rows + found.rows > _GROUP_ROWS or size + found.size_bytes > _GROUP_BYTES):
                break
            else:
                commits.append(found)
                rows, size = rows + found.rows, size + found.size_bytes
            last = version
        return commits, last

    def _write(self, state: State, commits: list[Commit], last: int, forgotten: Mapping[int, int]) -> None:
        news, gone = self._log.news(commits, state.shards)
        bounds = Bounds(self._settings.movies, self._since)

        def write(one: tuple[int, list[News]]) -> int:
            shard, its = one
            self._store.change(state, shard, lambda before: before.taken_in(its, last, bounds, forgotten))
            self._checkpoint("shard")
            return len(its)

        for rows in ahead(write, news, _THREADS):
            self._report.shards += 1
            self._report.rows += rows
        for one in gone:
            self._tell_gone(one.path, 1)

    def _advance(self, state: State, version: int) -> bool:
        """Whether the state stands at ``version`` or later; not when another generation was begun."""
        while True:
            found = self._store.state()
            if found is None or found[0].generation != state.generation:
                self._store.delete(Retired(state.generation, state.shards).keys())
                return False
            standing, tag = found
            if standing.version >= version:
                return True
            if self._store.put_state(replace(standing, version=version), tag):
                self._checkpoint("advanced")
                return True
