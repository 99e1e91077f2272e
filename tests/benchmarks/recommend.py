"""The recommend function warm: an API Gateway event in, a response out, beside the bare product within it."""

import importlib.util
import os
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from infra.paths import FUNCTIONS
from marquee.aws.model_reader import ModelReader
from marquee.aws.recent_reader import RecentReader
from marquee.aws.recommend_api import RecommendApi
from marquee.factors import layout
from tests.benchmarks.measure import Figure, figure, take_turns
from tests.unit.recent_fakes import recent, recent_objects
from tests.unit.recommend_fakes import FakeContext, FakeStore, model_objects, request

ABOUT = "event in, response out, the user's shard warm, the impression written; reference: `items @ user`"
_RANK = 64
_ITEMS = 20_000
_TINY_ITEMS = 300
_USER = 7
_ACTIVE = 8
"""A user who met ten movies since the model's data, as all later ones did."""


def run(runs: int, *, tiny: bool = False) -> list[Figure]:
    """Text and JSON, through our answer alone and through Chalice as Lambda calls it."""
    items = _TINY_ITEMS if tiny else _ITEMS
    objects = model_objects(users=1_000, items=items, rank=_RANK)
    api = RecommendApi(ModelReader(FakeStore(objects)), deadline_ms=600, namespace="Benchmark")
    app = _chalice_app(api)
    context = FakeContext()
    text, as_json = request(_USER), request(_USER, accept="application/json")
    lately = {user: [recent(f"movie+{row}", 9) for row in range(40, 50)] for user in range(8, 1_000)}
    fresh = FakeStore({**objects, **recent_objects(lately)})
    with_recent = RecommendApi(
        ModelReader(fresh), deadline_ms=600, namespace="Benchmark", recent=RecentReader(fresh, seconds=3_600)
    )
    active = request(_ACTIVE)
    (payload,) = (content for key, content in objects.items() if key.endswith(layout.ITEM_FACTORS))
    factors = layout.decode_item_factors(payload)
    user = np.random.default_rng(0).standard_normal(_RANK, dtype=np.float32)
    contestants: dict[str, Callable[[], object]] = {
        "bare": lambda: factors @ user,
        "text": lambda: _ok(api.recommend(text, context).status),
        "text, newest events looked for": lambda: _ok(with_recent.recommend(text, context).status),
        "text, ten newest folded in": lambda: _ok(with_recent.recommend(active, context).status),
        "JSON": lambda: _ok(api.recommend(as_json, context).status),
        "text, through Chalice": lambda: _ok(app(text, context)["statusCode"]),
        "JSON, through Chalice": lambda: _ok(app(as_json, context)["statusCode"]),
    }
    # Lambda reads a function's output from a pipe; writing it out is part of the work.
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        seconds = take_turns(contestants, runs)
    bare = seconds.pop("bare")
    beside = {"unit": "µs", "reference": f"{items:,} × {_RANK} @ user", "scale": 1e6}
    figures = [figure(name, values, bare, **beside) for name, values in seconds.items()]  # type: ignore[arg-type]
    figures.append(
        figure("JSON beside text", seconds["JSON"], seconds["text"], unit="µs", reference="text", scale=1e6)
    )
    return figures


def _ok(status: int) -> None:
    if status != 200:
        raise AssertionError(f"the recommender answered {status} instead of 200")


def _chalice_app(api: RecommendApi) -> Any:
    """The function's own app, answering from ``api`` instead of S3."""
    spec = importlib.util.spec_from_file_location("recommend_app", FUNCTIONS / "recommend" / "app.py")
    if spec is None or spec.loader is None:
        raise AssertionError("functions/recommend/app.py cannot be imported")
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.api = api
    return module.app
