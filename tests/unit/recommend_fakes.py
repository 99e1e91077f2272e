"""A model in a dictionary, and the Lambda around the recommender, for its tests."""

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marquee.aws.model_reader import LATEST_KEY, model_key
from marquee.events.watching import Watching
from marquee.factors import layout
from marquee.factors.layout import Items, UserShard
from marquee.factors.liking import Liking
from marquee.factors.manifest import Manifest, Shapes, file_entry
from marquee.factors.model import Factors
from marquee.factors.user_objective import FOLD_IN, UserObjective, encode_user_objective

DATA = Path(__file__).parent / "data"
GENRES = (["Drama"], ["Comedy", "Sci-Fi"], [])


class FakeStore:
    """Objects in a dictionary; remembers what was asked for, and fails or hangs where a test says so."""

    def __init__(self, objects: Mapping[str, bytes] | None = None) -> None:
        self.objects = dict(objects or {})
        self.read: list[str] = []
        self.before: Callable[[str], None] = lambda key: None

    def get(self, key: str) -> bytes | None:
        self.read.append(key)
        self.before(key)
        return self.objects.get(key)

    def find(self, key: str) -> bytes | None:
        return self.get(key)


class Gate:
    """Holds reads of keys that contain ``part`` until ``open`` is called."""

    def __init__(self, part: str) -> None:
        self._part = part
        self._opened = threading.Event()

    def __call__(self, key: str) -> None:
        if self._part in key:
            self._opened.wait(30)

    def open(self) -> None:
        self._opened.set()


@dataclass
class FakeContext:
    """What the recommender reads of Lambda's context."""

    invoked_function_arn: str = "arn:aws:lambda:us-east-1:123456789012:function:marquee-recommend-local:live"
    function_version: str = "7"
    aws_request_id: str = "lambda-request-1"


def event(name: str = "recommend", **changes: Any) -> dict[str, Any]:
    """The fixture ``apigateway_<name>.json`` with top-level fields replaced."""
    loaded: dict[str, Any] = json.loads((DATA / f"apigateway_{name}.json").read_text())
    return {**loaded, **changes}


def request(
    user_id: object = 7, k: object = None, accept: str | None = None, **query_: object
) -> dict[str, Any]:
    """A request for recommendations as API Gateway passes it on."""
    given = query_ if k is None else {"k": k, **query_}
    query = {name: [str(value)] for name, value in given.items()} or None
    headers = None if accept is None else {"Accept": [accept]}
    return event(
        pathParameters={"user_id": str(user_id)},
        multiValueQueryStringParameters=query,
        headers=None if accept is None else {"Accept": accept},
        multiValueHeaders=headers,
    )


def similar_request(movie_id: str, **query: object) -> dict[str, Any]:
    """A request for movies like one."""
    return {**request(accept="application/json", **query), "pathParameters": {"movie_id": movie_id}}


def post(body: object, accept: str | None = "application/json", **changes: Any) -> dict[str, Any]:
    """A request to fold somebody in; a body that is text goes as it is."""
    made = {**request(accept=accept), "pathParameters": None, "httpMethod": "POST"}
    context = {**made["requestContext"], "resourcePath": "/recommend", "httpMethod": "POST"}
    text = body if isinstance(body, str) else json.dumps(body)
    return {**made, "resource": "/recommend", "requestContext": context, "body": text, **changes}


def model_objects(
    *,
    model_id: str = "svd-000000000001",
    users: int = 10,
    items: int = 50,
    rank: int = 4,
    shards: int = 3,
    seed: int = 0,
    fold_in: bool = True,
    factors: Factors | None = None,
    seen_each: int = 5,
    top_k: Mapping[str, Any] | None = None,
) -> dict[str, bytes]:
    """The objects of a random ranking model: users 1 … ``users``, of whom user u gave items u … u + 4 a 9.

    Item i is called ``movie+i``; odd ones have no title, every seventh no year. The cold-start list goes from
    the last item down. Factors that are given say how many users and items there are.
    """
    rng = np.random.default_rng(seed)
    if factors is None:
        random = [rng.normal(size=(rows, rank)).astype(np.float32) for rows in (users, items)]
        factors = Factors(random[0], random[1])
    users, items, rank = factors.users, factors.items, factors.rank
    user_ids = np.arange(1, users + 1, dtype=np.int64)
    catalogue = Items(
        ids=[f"movie+{row}" for row in range(items)],
        titles=[None if row % 2 else f"Movie {row}" for row in range(items)],
        years=[None if row % 7 == 0 else 1980 + row % 40 for row in range(items)],
        genres=[GENRES[row % len(GENRES)] for row in range(items)],
    )
    files = {
        layout.ITEM_FACTORS: layout.encode_array(factors.item_factors),
        layout.ITEMS: layout.encode_items(catalogue),
        layout.COLD_START: layout.encode_array(np.arange(items - 1, -1, -1, dtype=np.int32)[:1_000]),
    }
    if fold_in:
        files[FOLD_IN] = encode_user_objective(ranking_objective(factors.item_factors))
    for shard in range(shards):
        mine = user_ids % shards == shard
        seen = [np.arange(user, user + seen_each, dtype=np.int32) % items for user in user_ids[mine]]
        content = UserShard(
            user_ids=user_ids[mine],
            factors=factors.user_factors[mine],
            seen_indptr=np.arange(len(seen) + 1, dtype=np.int64) * seen_each,
            seen_items=np.concatenate([np.sort(rows) for rows in seen] or [np.empty(0, np.int32)]),
            marks=np.full(seen_each * len(seen), 900, np.int16) if fold_in else None,
        )
        files[layout.shard_key(shard)] = layout.encode_shard(content)
    manifest = Manifest(
        model_id=model_id,
        algorithm="svd",
        objective="ranking",
        hyperparameters={"rank": rank},
        seed=seed,
        dataset_id="ds-3-abcdef01",
        delta_version=3,
        offsets={"movielog-0": 100},
        created_at="2026-11-24T02:00:00Z",
        code_version="unknown",
        rating_scale=10,
        train_seconds=1.0,
        metrics={},
        shapes=Shapes(users, items, rank),
        user_shards=shards,
        files={name: file_entry(payload) for name, payload in files.items()},
        top_k=top_k,
    )
    objects = {model_key(model_id, name): payload for name, payload in files.items()}
    objects[model_key(model_id, "manifest.json")] = manifest.to_json()
    objects[LATEST_KEY] = json.dumps({"model_id": model_id}).encode()
    return objects


def ranking_objective(items: NDArray[np.float32]) -> UserObjective:
    """How a ranking svd of these items folds users in."""
    return UserObjective(
        ratings=False,
        confidence=0.0,
        alpha=0.0,
        bias_columns=0,
        bias_first=False,
        nonnegative=False,
        gram=np.float32(0.5) * (items.T @ items),
        centre=np.zeros(items.shape[1], np.float32),
        regularisation=1.0,
        offset=10.0,
        mean_size=15.0,
        frequency_exponent=0.5,
        bias_regularisation=0.0,
        mean=0.0,
        unit=1.0,
        rating_scale=10,
        liking=Liking(),
        watching=Watching(),
        minutes=np.full(len(items), 100, np.int32),
    )


def flip_bit(payload: bytes, at: float = 0.9) -> bytes:
    """``payload`` with one bit changed, at a share of its length."""
    index = int(len(payload) * at)
    return payload[:index] + bytes([payload[index] ^ 1]) + payload[index + 1 :]
