"""`marquee load`: requests at a fixed rate on the API, and what came back."""

import ipaddress
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any
from urllib.parse import urlsplit

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from infra import load as loads
from infra.aws import LOCAL_STAGE
from infra.cli.options import AsJson, target
from infra.deploy.keys import HEADER
from infra.load import LoadReport, Offer, Outcome
from infra.release.state import release_status
from marquee.errors import InputError, ReleaseError
from marquee.settings import ApiSettings, RecommendSettings

MAX_RPS, MAX_SECONDS, MAX_REQUESTS = 5_000.0, 3_600.0, 1_000_000
_RECENT = 500
"""Answers that the live line's percentile is of."""
_INTERRUPTED = 130


def register(app: typer.Typer) -> None:
    """Add this module's command to ``app``."""
    app.command()(load)


def load(
    rps: Annotated[float, typer.Option(help=f"Requests a second, above 0, at most {MAX_RPS:g}.")],
    seconds: Annotated[float, typer.Option(help=f"How long, above 0, at most {MAX_SECONDS:g}.")],
    url: Annotated[
        str | None,
        typer.Option(help="The API's stage, such as https://…/live; the local stack's if left out."),
    ] = None,
    *,
    users: Annotated[int, typer.Option(min=1, help="Users are drawn at random from 1 to this.")] = 1_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of that draw.")] = 0,
    concurrency: Annotated[
        int, typer.Option(min=1, max=1_000, help="Requests on their way at once, at most.")
    ] = 64,
    as_json: AsJson = False,
) -> None:
    """Ask for recommendations at a fixed rate, and report latency, the deadline, versions and errors.

    A request is due at its time whether or not earlier ones were answered, and its latency counts from then.
    Rate × seconds is 1,000,000 requests at most. Without --url only a stack on loopback is asked. Ctrl-C
    stops, prints what came back until then, and exits with 130. Where the API asks for a key, MARQUEE_API_KEY
    holds it.
    """
    wanted = offered(rps, seconds, concurrency)
    where = checked(url) if url is not None else local_url()
    draw = np.random.default_rng(seed).integers(1, users, size=wanted.requests, endpoint=True)
    deadline_ms = RecommendSettings.from_env().deadline_ms
    console = Console(stderr=True)
    with console.status(f"{wanted.requests:,} requests at {rps:g} a second") as line:

        def tell(outcomes: Sequence[Outcome], gone: float) -> None:
            line.update(progress_line(outcomes, gone, wanted.requests))

        report, whole = loads.offer(
            where, draw.tolist(), wanted, deadline_ms=deadline_ms, headers=_headers(), progress=tell
        )
    if as_json:
        typer.echo(json.dumps(described(report, where, wanted, deadline_ms, whole=whole), indent=1))
    else:
        Console().print(_table(report, wanted, deadline_ms, whole=whole))
    if not whole:
        raise typer.Exit(_INTERRUPTED)


def _headers() -> dict[str, str]:
    key = ApiSettings.from_env().key
    return {HEADER: key} if key else {}


def offered(rps: float, seconds: float, concurrency: int) -> Offer:
    """The load that was asked for; InputError says which bound it is beyond."""
    for name, value, most in (("rps", rps, MAX_RPS), ("seconds", seconds, MAX_SECONDS)):
        if not 0 < value <= most:
            raise InputError(
                name, f"--{name} {value:g} is out of range: accepted is above 0 and up to {most:g}"
            )
    requests = round(rps * seconds)
    if not 1 <= requests <= MAX_REQUESTS:
        raise InputError(
            "rps",
            f"--rps {rps:g} × --seconds {seconds:g} is {requests:,} requests: accepted are 1 to "
            f"{MAX_REQUESTS:,}",
        )
    return Offer(rps, requests, min(concurrency, requests))


def checked(url: str) -> str:
    """The address without a slash at its end; InputError when it is none."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError("url", f"--url {url!r} must begin with http:// or https:// and name a host")
    return url.rstrip("/")


def local_url() -> str:
    """The live URL of the local stack.

    Raises
    ------
    ReleaseError : nothing is released.
    InputError : the stack's endpoint is not on loopback.
    """
    status = release_status(target(LOCAL_STAGE), LOCAL_STAGE)
    if status is None or not status.live_url:
        raise ReleaseError("nothing is released, so there is no live URL; `marquee release` makes it")
    host = urlsplit(status.live_url).hostname or ""
    if not on_loopback(host):
        raise InputError("url", f"the API is at {status.live_url}, not on loopback: name it by --url")
    return status.live_url


def on_loopback(host: str) -> bool:
    """Whether ``host`` is this machine, without asking a name server."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def progress_line(outcomes: Sequence[Outcome], seconds: float, requests: int) -> str:
    """How it goes, on one line."""
    recent = outcomes[-_RECENT:]
    errors = sum(outcome.status != 200 for outcome in recent)
    p99 = f"{np.percentile([one.latency_ms for one in recent], 99):.0f} ms" if recent else "–"
    done = len(outcomes)
    rate = done / seconds if seconds > 0 else 0.0
    return (
        f"{done:,} of {requests:,} answered, {rate:.0f} a second; "
        f"of the last {len(recent)}: p99 {p99}, {errors} errors"
    )


def described(
    report: LoadReport, url: str, wanted: Offer, deadline_ms: int, *, whole: bool
) -> dict[str, Any]:
    """The report for programs; what is not known, as nothing was answered, is null."""
    found = {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in asdict(report).items()
    }
    return {
        "url": url,
        "rps": wanted.rps,
        "offered": wanted.requests,
        "deadline_ms": deadline_ms,
        "interrupted": not whole,
        **found,
    }


def _table(report: LoadReport, wanted: Offer, deadline_ms: int, *, whole: bool) -> Table:
    table = Table.grid(padding=(0, 2))
    stopped = "" if whole else f"; stopped, {report.unanswered} on their way"
    table.add_row(
        "answered", f"{report.requests:,} of {wanted.requests:,} at {wanted.rps:g} a second{stopped}"
    )
    if report.requests == 0:
        return table
    latencies = (
        ("p50", report.p50_ms),
        ("p90", report.p90_ms),
        ("p99", report.p99_ms),
        ("p99.9", report.p999_ms),
    )
    table.add_row("latency", ", ".join(f"{name} {value:.1f} ms" for name, value in latencies))
    table.add_row("in time", f"{report.within_deadline:.3%} within {deadline_ms} ms")
    table.add_row("sent late", f"p99 {report.late_p99_ms:.1f} ms after they were due (in the latency)")
    answered = sum(report.split.values())
    for version, count in report.split.items():
        table.add_row(f"version {version or '?'}", f"{count:,}, {count / answered:.1%}")
    for status, count in report.statuses.items():
        if status != 200:
            table.add_row(f"status {status}" if status else "no answer", f"{count:,}")
    return table
