"""The recommend function in its own process, an event in and a response out, beside what it stands against.

    python -m tests.benchmarks.serve.handler ROUNDS BLAS_THREADS USERS FACTORS:ITEMS...

prints JSON, a row for each catalogue. Runs in ``build/envs/bench``, so that all contestants take turns in
one process; one whose library is missing is left out. ``BLAS_THREADS`` is only said in the rows, and
``seed`` takes part when it is 1; OPENBLAS_NUM_THREADS must be set before NumPy is imported. ``USERS``
train the model.

- ``bare``: ``items @ user``, what no dense ranking can do without;
- ``scoring``: our ranking alone, first 20 of all that the user has not seen, in the way that a model of these
  factors would be served;
- ``handler, text`` and ``handler, JSON``: the app of ``functions/recommend`` through Chalice, as Lambda calls
  it, the user's shard warm, nothing done by them since the model was trained, the impression written;
- ``implicit``: its ``recommend()`` for one user, from the same factors, without what the user has seen;
- ``seed``: the seed system's way: Surprise's ``predict()`` for each movie not seen, then a sort, behind a
  route of Flask's, through its test client.

Factors are ``trained`` (an svd with our defaults on made-up likings), ``heavy-tailed`` (normal, rows
scaled by log-normal norms, σ = 1) or ``structureless`` (normal): no bound can rank those, and no training
makes them.
"""

import importlib.util
import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from infra.paths import FUNCTIONS
from marquee.aws.model_reader import Model, ModelReader
from marquee.aws.recent_reader import RecentReader
from marquee.aws.recommend_api import RecommendApi
from marquee.factors.model import Factors
from marquee.factors.model_files import stored_order
from marquee.scoring.choose import measured_top_k
from tests.benchmarks.measure import time_calls
from tests.benchmarks.trained import trained
from tests.unit.recommend_fakes import FakeContext, FakeStore, model_objects, request

RANK = 64
K = 20
SEEN = 100
USER = 7
TRAINING_USERS = 5_000
SEED_ITEMS = 60_000
"""Surprise keeps float64 factors and a dictionary of all items: of more items its seconds are reckoned."""
_SHARDS = 25
_Contestants = dict[str, Callable[[], object]]


def factors_of(kind: str, items: int, users: int = TRAINING_USERS) -> Factors:
    """Factors of a kind, items in the order that a model stores them in."""
    if kind == "trained":
        found = trained(items, users)
    else:
        random = np.random.default_rng(0)
        user_factors, item_factors = (
            random.standard_normal((rows, RANK), dtype=np.float32) for rows in (1_000, items)
        )
        if kind == "heavy-tailed":
            item_factors *= random.lognormal(size=(items, 1)).astype(np.float32)
        found = Factors(user_factors, item_factors)
    order = stored_order(found.item_factors)
    return Factors(found.user_factors, np.ascontiguousarray(found.item_factors[order]))


def measured(kind: str, items: int, rounds: int, users: int, *, seed: bool) -> dict[str, Any]:
    """A row: seconds of every call of each contestant, by round, and how the model ranks."""
    factors = factors_of(kind, items, users)
    top_k = measured_top_k(factors.item_factors, factors.user_factors)
    store = FakeStore(
        model_objects(factors=factors, seen_each=SEEN, shards=_SHARDS, top_k=top_k, fold_in=False)
    )
    reader = ModelReader(store)
    model = reader.model(60.0, 60.0)
    contestants = _ours(reader, model, RecentReader(store)) | _implicit(model, reader)
    if seed and items <= SEED_ITEMS:
        contestants |= _seed(model)
    # Lambda reads a function's output from a pipe; writing it out is part of the work.
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        seconds = time_calls(contestants, rounds)
    return {"items": items, "factors": kind, "top_k": top_k, "seconds": seconds}


def _ours(reader: ModelReader, model: Model, recent: RecentReader) -> _Contestants:
    user = reader.user(model, USER, 60.0)
    if user is None:
        raise AssertionError("the benchmark's user is not in its model")
    app = chalice_app(RecommendApi(reader, deadline_ms=60_000, namespace="Benchmark", recent=recent))
    context = FakeContext()
    text, as_json = request(USER, k=K), request(USER, k=K, accept="application/json")
    items = model.item_factors
    return {
        "bare": lambda: items @ user.factors,
        "scoring": lambda: model.top_k(user.factors, K, user.seen),
        "handler, text": lambda: _ok(app(text, context)),
        "handler, JSON": lambda: _ok(app(as_json, context)),
    }


def _ok(response: Mapping[str, Any]) -> None:
    if response["statusCode"] != 200 or response["headers"]["X-Marquee-Source"] != "model":
        raise AssertionError(f"the recommender answered {response['statusCode']}, {response['headers']}")


def chalice_app(api: RecommendApi) -> Any:
    """The function's own app, answering from ``api`` instead of S3."""
    spec = importlib.util.spec_from_file_location("recommend_app", FUNCTIONS / "recommend" / "app.py")
    if spec is None or spec.loader is None:
        raise AssertionError("functions/recommend/app.py cannot be imported")
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.api = api
    return module.app


def _implicit(model: Model, reader: ModelReader) -> _Contestants:
    if importlib.util.find_spec("implicit") is None:
        return {}
    from implicit.cpu.als import AlternatingLeastSquares
    from scipy import sparse

    user = reader.user(model, USER, 60.0)
    assert user is not None
    peer = AlternatingLeastSquares(factors=RANK)
    peer.item_factors, peer.user_factors = model.item_factors, user.factors[None, :]
    ones = np.ones(len(user.seen), np.float32)
    row = sparse.csr_matrix((ones, user.seen, [0, len(user.seen)]), shape=(1, len(model.item_factors)))
    theirs, ours = peer.recommend(0, row, N=K)[0], model.top_k(user.factors, K, user.seen)[0]
    if sorted(theirs.tolist()) != sorted(ours.tolist()):
        raise AssertionError(f"implicit recommends {theirs.tolist()}, we {ours.tolist()}")
    return {"implicit": lambda: peer.recommend(0, row, N=K)}


def _seed(model: Model) -> _Contestants:
    if any(importlib.util.find_spec(name) is None for name in ("surprise", "flask")):
        return {}
    from flask import Flask
    from surprise import SVD, Trainset

    movies = list(model.items.ids)
    inner = {movie: row for row, movie in enumerate(movies)}
    by_item = {row: [(0, 4.0)] for row in range(len(movies))}
    by_user = {0: [(row, 4.0) for row in range(len(movies))]}
    trainset = Trainset(by_user, by_item, 1, len(movies), len(movies), (1, 5), {USER: 0}, inner)
    algorithm = SVD(n_factors=RANK, n_epochs=1, random_state=0).fit(trainset)
    seen = set(movies[USER : USER + SEEN])
    app = Flask("seed")

    @app.route("/recommend/<int:user_id>")
    def recommend(user_id: int) -> str:
        predictions = [algorithm.predict(user_id, movie) for movie in movies if movie not in seen]
        predictions.sort(key=lambda found: found.est, reverse=True)
        return ",".join(found.iid for found in predictions[:K])

    client = app.test_client()

    def ask() -> None:
        answer = client.get(f"/recommend/{USER}")
        if answer.status_code != 200 or len(answer.text.split(",")) != K:
            raise AssertionError(f"the seed's way answered {answer.status_code}: {answer.text[:100]!r}")

    return {"seed": ask}


def main(arguments: list[str]) -> None:
    """See the module."""
    rounds, threads, users, *catalogues = arguments
    rows = []
    for catalogue in catalogues:
        kind, _, items = catalogue.partition(":")
        print(f"handler: {int(items):,} items, {kind}, BLAS threads {threads}", file=sys.stderr, flush=True)
        row = measured(kind, int(items), int(rounds), int(users), seed=threads == "1")
        rows.append({**row, "blas_threads": threads})
    print(json.dumps(rows))


if __name__ == "__main__":
    main(sys.argv[1:])
