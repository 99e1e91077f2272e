"""How large a shard of users should be: bytes a GET against how often the cache has the user.

For a model of 1,000,000 users × 20,000 movies × 64 with 30 million seen movies, and each size that a
shard could be aimed at: users and bytes a shard, seconds of a miss through our own reader (GET from S3 on
LocalStack, SHA-256, parsing), and the share of requests that find their user in the real cache of the
default size, in an environment that starts empty. Of the shards a sample is made and stored; the cache is
run with all of them, by their sizes.

A request then waits, on average and on AWS, for ``misses × (first byte + transfer + processor)`` and its
part of what the manifest, which names every shard, adds to the cold start. First bytes and transfer on
AWS are assumptions, named in the report: the optimum is given for each of them.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marquee.aws.byte_lru import ByteLru
from marquee.factors import layout
from marquee.settings import RecommendSettings
from tests.benchmarks.prices import S3_DOLLARS_PER_MILLION_GETS, S3_DOLLARS_PER_MILLION_PUTS, stretched
from tests.benchmarks.serve.configured import MEGABYTES
from tests.benchmarks.serve.shard_gets import RANK, Audience, manifest_costs, time_gets

KIB = 1_024
SIZES = tuple(KIB * size for size in (8, 16, 32, 64, 128, 256, 512, 1_024, 4_096))
"""Bytes that a shard could be aimed at; below the first there would be more files than a model may have."""
FIRST_BYTE_MS = (10.0, 30.0, 100.0)
"""Of a GET on AWS, assumed: what is seen within a region up to what Amazon's guidelines name for S3."""
USUAL_FIRST_BYTE_MS = 30.0
BYTES_PER_SECOND = 85e6
"""Of one connection to S3, from the same guidelines."""
ZIPF_EXPONENT = 0.8
LIVES = (1_000, 10_000, 100_000)
"""Requests that an environment answers before it is replaced."""
NEAR = 1.1
"""A default this close to the optimum stays."""


def shards_for(users: int, seen: int, shard_bytes: int) -> int:
    """How many shards a model gets when one is aimed at ``shard_bytes``."""
    return layout.choose_user_shards(users, RANK, seen, shard_bytes)


def hit_rates(memory: NDArray[np.int64], stream: NDArray[np.int64], cache_bytes: int) -> list[float]:
    """Share of the first 1,000, 10,000, … requests of ``stream`` (shard numbers) that the cache could answer.

    Parameters
    ----------
    memory : int64, bytes that each shard takes in the cache.
    """
    cache: ByteLru[int, bool] = ByteLru(cache_bytes)
    hits, rates = 0, []
    for number, shard in enumerate(stream.tolist(), 1):
        if cache.get(shard):
            hits += 1
        else:
            cache.put(shard, True, int(memory[shard]))
        if number in LIVES:
            rates.append(hits / number)
    return rates


def streams(users: int, requests: int) -> dict[str, NDArray[np.int64]]:
    """Users who ask, in turn: all alike, or by Zipf's law, whoever they are."""
    random = np.random.default_rng(1)
    weights = np.cumsum(np.arange(1, users + 1, dtype=np.float64) ** -ZIPF_EXPONENT)
    ranks = np.searchsorted(weights, random.random(requests) * weights[-1])
    return {
        "zipf": random.permutation(users)[np.minimum(ranks, users - 1)],
        "uniform": random.integers(0, users, requests),
    }


def waiting_ms(
    row: Mapping[str, Any], hit_rate: float, requests: int, first_byte_ms: float = USUAL_FIRST_BYTE_MS
) -> float:
    """Milliseconds that a request waits for its user's row, on average in a life of so many ``requests``.

    Processor time is stretched to the vCPU that the function's memory gets it.
    """
    transfer = row["bytes_per_get"] / BYTES_PER_SECOND + stretched(row["parse_seconds"], MEGABYTES)
    manifest = row["manifest_bytes"] / BYTES_PER_SECOND + stretched(row["manifest_seconds"], MEGABYTES)
    return (1 - hit_rate) * (first_byte_ms + 1_000 * transfer) + 1_000 * manifest / requests


def verdict(rows: list[dict[str, Any]], default_bytes: int) -> dict[str, Any]:
    """The best size for each stream, life and first byte, and how far the default is from each and overall.

    ``overall`` is the geometric mean over all of them of a size's waiting relative to the best one's.
    """
    best: dict[str, int] = {}
    relative: dict[int, list[float]] = {row["shard_bytes"]: [] for row in rows}
    for stream in ("zipf", "uniform"):
        for place, requests in enumerate(LIVES):
            for first_byte in FIRST_BYTE_MS:
                waits = {
                    row["shard_bytes"]: waiting_ms(row, row["hit_rates"][stream][place], requests, first_byte)
                    for row in rows
                }
                least = min(waits, key=lambda size: waits[size])
                best[f"{stream}, {requests:,} requests, first byte after {first_byte:g} ms"] = least
                for size, wait in waits.items():
                    relative[size].append(wait / waits[least])
    overall = {size: float(np.exp(np.mean(np.log(ratios)))) for size, ratios in relative.items()}
    optimum = min(overall, key=lambda size: overall[size])
    ratio = overall[default_bytes] / overall[optimum]
    return {
        "best": best,
        "overall": {str(size): value for size, value in overall.items()},
        "optimum_bytes": optimum,
        "default_bytes": default_bytes,
        "default_beside_optimum": ratio,
        "worst_of_default": max(relative[default_bytes]),
        "default_is_near": ratio <= NEAR,
    }


def measured(audience: Audience, sizes: Sequence[int], gets: int) -> dict[str, Any]:
    """The sweep: a row for each size, and what follows from them."""
    cache_bytes = RecommendSettings().cache_bytes
    counts = audience.counts()
    seen = int(counts.sum())
    asked = streams(audience.users, max(LIVES))
    rows = []
    for size in sorted({*sizes, layout.SHARD_BYTES}):
        shards = shards_for(audience.users, seen, size)
        print(f"shards: {size // KIB:,} KiB, {shards:,} of them", file=sys.stderr, flush=True)
        of_user = np.arange(1, audience.users + 1) % shards
        # As UserShard.nbytes counts: id, factors, bound, then item and mark of each movie seen.
        weights = 8 + 4 * RANK + 8 + 6 * counts
        memory = 8 + np.bincount(of_user, weights, shards).astype(np.int64)
        rates = {name: hit_rates(memory, of_user[users], cache_bytes) for name, users in asked.items()}
        rows.append(
            {
                "shard_bytes": size,
                "shards": shards,
                "users_per_shard": audience.users / shards,
                "hit_rates": rates,
                "dollars_of_puts_per_model": shards * S3_DOLLARS_PER_MILLION_PUTS / 1e6,
                **manifest_costs(shards),
            }
        )
    shards_gotten = {row["shards"]: min(gets, row["shards"]) for row in rows}
    costs = time_gets(shards_gotten, audience, counts)
    for row in rows:
        row.update(costs[row["shards"]])
        misses = 1 - row["hit_rates"]["zipf"][1]
        row["dollars_of_gets_per_million_answers"] = misses * S3_DOLLARS_PER_MILLION_GETS
        row["waiting_ms"] = {
            name: [waiting_ms(row, rate, life) for rate, life in zip(rates, LIVES, strict=True)]
            for name, rates in row["hit_rates"].items()
        }
    return {
        "audience": {"users": audience.users, "items": audience.items, "seen": seen, "rank": RANK},
        "cache_bytes": cache_bytes,
        "zipf_exponent": ZIPF_EXPONENT,
        "lives": list(LIVES),
        "assumed": {"first_byte_ms": USUAL_FIRST_BYTE_MS, "bytes_per_second": BYTES_PER_SECOND},
        "sample": f"{gets} shards of each size, or all there are, were made and stored",
        "rows": rows,
        **verdict(rows, layout.SHARD_BYTES),
    }
