"""`marquee quarantine`: what was refused and why, and taking it in after a grammar fix."""

import base64
import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from infra import aws
from infra.cli.options import AsJson, DryRun, Stage, target
from infra.lake_access import drain_settings, open_lake
from marquee.aws.ingest import offsets_name
from marquee.aws.quarantine import Quarantine, Refused
from marquee.aws.quarantine_replay import ReplayReport
from marquee.aws.quarantine_replay import replay as replay_quarantine
from marquee.events.schema import REASONS
from marquee.settings import StorageSettings

_SHOWN_BYTES = 160
_DAYS = 14


def register(app: typer.Typer) -> None:
    """Add this module's commands to ``app``."""
    group = typer.Typer(help="Messages that the grammar refused; alone it shows them, as `show` does.")
    group.callback(invoke_without_command=True)(_shown_by_default)
    group.command()(show)
    group.command()(replay)
    app.add_typer(group, name="quarantine")


def _shown_by_default(context: typer.Context, stage: Stage = aws.LOCAL_STAGE) -> None:
    if context.invoked_subcommand is None:
        show(stage=stage)
    elif stage != aws.LOCAL_STAGE:
        raise typer.BadParameter(f"goes behind {context.invoked_subcommand!r}", param_hint="'--stage'")


def show(
    reason: Annotated[str | None, typer.Option(help=f"Only this one of {', '.join(REASONS)}.")] = None,
    samples: Annotated[int, typer.Option(min=0, max=1_000, help="Messages to show of each reason.")] = 3,
    as_json: AsJson = False,
    stage: Stage = aws.LOCAL_STAGE,
) -> None:
    """Show how many messages were refused, by reason and day, and what the newest of them look like."""
    if reason is not None and reason not in REASONS:
        raise typer.BadParameter(f"{reason!r} is not one of {', '.join(REASONS)}", param_hint="'--reason'")
    quarantine = Quarantine(open_lake(target(stage), StorageSettings.from_env()))
    days = quarantine.counts(reason)
    found = quarantine.samples(samples, reason) if samples else []
    by_reason = {
        name: sum(counts.get(name, 0) for counts in days.values())
        for name in REASONS
        if any(name in counts for counts in days.values())
    }
    if as_json:
        answer = {
            "total": sum(by_reason.values()),
            "by_reason": by_reason,
            "by_day": days,
            "samples": [_as_dict(one) for one in found],
        }
        typer.echo(json.dumps(answer, indent=1))
    elif not by_reason:
        typer.echo(f"Nothing is in quarantine{f' for {reason}' if reason else ''}.")
    else:
        _print(Console(), by_reason, days, found)


def replay(dry_run: DryRun = False, as_json: AsJson = False, stage: Stage = aws.LOCAL_STAGE) -> None:
    """Parse what is in quarantine again, and move what the grammar takes by now to events.

    For use after the grammar or RATING_SCALE changed; topic and scale are those of the deployed drain. It may
    be interrupted at any moment and run again: each message ends up in one of the two tables, once.
    """
    where = target(stage)
    kafka, ingest = drain_settings(where, stage)
    lake = open_lake(where, StorageSettings.from_env())
    total = sum(sum(counts.values()) for counts in Quarantine(lake).counts().values())
    columns = (TextColumn("parsing quarantine"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        report = replay_quarantine(
            lake,
            offsets_name(kafka, ingest),
            ingest.rating_scale,
            dry_run=dry_run,
            progress=lambda rows: bar.advance(task, rows),
        )
    if as_json:
        typer.echo(json.dumps({**report.as_dict(), "dry_run": dry_run}, indent=1))
    else:
        for sentence in _sentences(report, total, dry_run):
            typer.echo(sentence)


def readable(raw: bytes | None, most: int = _SHOWN_BYTES) -> str:
    """The value as a person can read it: what is not printable UTF-8 is escaped, and a long end left out."""
    if raw is None:
        return "(no value)"
    if raw == b"":
        return "(0 bytes)"
    text = raw[:most].decode("utf-8", "backslashreplace")
    shown = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
    return shown if len(raw) <= most else f"{shown}… ({len(raw):,} bytes)"


def _as_dict(one: Refused) -> dict[str, Any]:
    return {
        "reason": one.reason,
        "partition": one.partition,
        "offset": one.offset,
        "ingested_at": one.ingested_at.isoformat(),
        "bytes": None if one.raw is None else len(one.raw),
        "text": readable(one.raw),
        "raw_base64": None if one.raw is None else base64.b64encode(one.raw).decode(),
    }


def _print(
    console: Console, by_reason: dict[str, int], days: dict[str, dict[str, int]], found: list[Refused]
) -> None:
    shown = dict(list(days.items())[-_DAYS:])
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("ingested on")
    for name in by_reason:
        table.add_column(name, justify="right")
    table.add_column("all", justify="right")
    earlier = [counts for day, counts in days.items() if day not in shown]
    rows = {
        **({f"{len(earlier)} days before": _added(earlier)} if earlier else {}),
        **shown,
        **({"all": by_reason} if len(days) > 1 else {}),
    }
    for day, counts in rows.items():
        cells = [f"{counts[name]:,}" if name in counts else "·" for name in by_reason]
        table.add_row(day, *cells, f"{sum(counts.values()):,}")
    console.print(table)
    if found:
        console.print()
        samples = Table(box=None, padding=(0, 2, 0, 0))
        for heading in ("reason", "partition", "offset"):
            samples.add_column(heading, justify="left" if heading == "reason" else "right")
        samples.add_column("message", overflow="fold")
        for one in found:  # as text, since a message may hold what looks like markup
            samples.add_row(one.reason, str(one.partition), str(one.offset), Text(readable(one.raw)))
        console.print(samples)


def _added(days: list[dict[str, int]]) -> dict[str, int]:
    return {
        name: sum(counts.get(name, 0) for counts in days)
        for name in REASONS
        if any(name in counts for counts in days)
    }


def _sentences(report: ReplayReport, total: int, dry_run: bool) -> list[str]:
    """What a replay did, in lines."""
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(report.by_kind.items()))
    move = "would move" if dry_run else "moved"
    told = [f"{report.moved:,} of {total:,} messages {move} to events{f': {kinds}' if kinds else ''}."]
    if report.standing:
        taken = "would be taken" if dry_run else "were taken"
        told.append(f"{report.standing:,} stood in events already, and {taken} out of quarantine.")
    if report.waiting:
        told.append(f"{report.waiting:,} wait for the next drain, which reads them again.")
    left = total - report.moved - report.standing - report.waiting
    if left > 0:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(report.refused.items()))
        unread = total - report.read
        if unread > 0:
            reasons += f"{', ' if reasons else ''}{unread:,} without a value or too long"
        told.append(f"{left:,} stay refused: {reasons}.")
    return told
