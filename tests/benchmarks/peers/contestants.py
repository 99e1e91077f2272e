"""Every contestant: fits one task and then answers. A peer's library is imported only when it runs."""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marquee.factors.fit import BAYESIAN, fit, posterior, recipe
from marquee.factors.metrics import popularity_factors
from marquee.factors.model import Factors
from tests.benchmarks.peers.data import Task
from tests.benchmarks.peers.spark import java_missing, spark_als

Answers = NDArray[np.float32]
Fitted = Callable[[], Answers]
"""For ranking the whole matrix of scores, for rating the predictions of the test ratings in half stars."""


@dataclass(frozen=True)
class Contestant:
    """``prepare`` turns a task and settings into a fit, and that into answers; only the fit is timed.

    ``grid`` holds the values tried on the validation split, all combinations; ``slow`` means one run will do.
    """

    task: str
    prepare: Callable[[Task, Mapping[str, Any]], Callable[[], Fitted]]
    grid: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    package: str = ""
    slow: bool = False


def _ours(algorithm: str, objective: str, **fixed: Any) -> Callable[..., Callable[[], Fitted]]:
    def prepare(task: Task, settings: Mapping[str, Any]) -> Callable[[], Fitted]:
        made = recipe(algorithm, objective, {**fixed, **settings})

        def run() -> Fitted:
            factors = fit(task.train, made)
            return lambda: _scores(factors) if objective == "ranking" else _pairs(factors, task)

        return run

    return prepare


def _posterior_mean(task: Task, settings: Mapping[str, Any]) -> Callable[[], Fitted]:
    """What the Bayesian solver would answer if its samples were served, not a pair distilled from them."""

    def run() -> Fitted:
        found = posterior(task.train, BAYESIAN)
        return lambda: found.predict(task.test.user, task.test.item)

    return run


def _scores(factors: Factors) -> Answers:
    return factors.user_factors @ factors.item_factors.T


def _pairs(factors: Factors, task: Task) -> Answers:
    users, items = factors.user_factors[task.test.user], factors.item_factors[task.test.item]
    predicted: Answers = np.einsum("nd,nd->n", users, items)
    return predicted


def _surprise(name: str) -> Callable[..., Callable[[], Fitted]]:
    def prepare(task: Task, settings: Mapping[str, Any]) -> Callable[[], Fitted]:
        import surprise
        from surprise import Trainset

        train, stars = task.train, (task.train.rating / 2).tolist()
        users, items = (
            {row: inner for inner, row in enumerate(np.unique(rows).tolist())}
            for rows in (train.user, train.item)
        )
        by_user: dict[int, list[tuple[int, float]]] = {inner: [] for inner in users.values()}
        by_item: dict[int, list[tuple[int, float]]] = {inner: [] for inner in items.values()}
        for user, item, value in zip(train.user.tolist(), train.item.tolist(), stars, strict=True):
            by_user[users[user]].append((items[item], value))
            by_item[items[item]].append((users[user], value))
        trainset = Trainset(by_user, by_item, len(users), len(items), len(train), (0.5, 5), users, items)
        algorithm = getattr(surprise, name)(random_state=0, **settings)

        def run() -> Fitted:
            algorithm.fit(trainset)

            def answer() -> Answers:
                pairs = zip(task.test.user.tolist(), task.test.item.tolist(), strict=True)
                found = [2 * algorithm.predict(user, item, clip=False).est for user, item in pairs]
                return np.array(found, np.float32)

            return answer

        return run

    return prepare


def _implicit(name: str, **fixed: Any) -> Callable[..., Callable[[], Fitted]]:
    def prepare(task: Task, settings: Mapping[str, Any]) -> Callable[[], Fitted]:
        from implicit.cpu.als import AlternatingLeastSquares
        from implicit.cpu.bpr import BayesianPersonalizedRanking
        from scipy.sparse import csr_matrix

        kind = {"als": AlternatingLeastSquares, "bpr": BayesianPersonalizedRanking}[name]
        model = kind(random_state=0, **{**fixed, **settings})
        cells = csr_matrix(task.liked)

        def run() -> Fitted:
            model.fit(cells, show_progress=False)
            return lambda: np.asarray(model.user_factors @ model.item_factors.T)

        return run

    return prepare


def _ease(task: Task, settings: Mapping[str, Any]) -> Callable[[], Fitted]:
    """Steck 2019: a linear model between items, in closed form; items that nobody liked stay out of it."""
    cells = task.liked

    def run() -> Fitted:
        known = np.flatnonzero(np.bincount(cells.indices, minlength=cells.shape[1]))
        kept = cells[:, known]
        gram = np.asarray((kept.T @ kept).todense(), np.float32)
        gram[np.diag_indices(len(known))] += settings["regularisation"]
        inverse = np.linalg.inv(gram)
        weights = inverse / -np.diag(inverse)
        weights[np.diag_indices(len(known))] = 0

        def answer() -> Answers:
            scores = np.full(cells.shape, -1e9, np.float32)
            scores[:, known] = kept @ weights
            return scores

        return answer

    return run


def _pure_svd(task: Task, settings: Mapping[str, Any]) -> Callable[[], Fitted]:
    """Cremonesi, Koren & Turrin 2010, by SciPy's truncated SVD."""
    from scipy.sparse.linalg import svds

    def run() -> Fitted:
        left, values, right = svds(task.liked, k=settings["rank"], rng=np.random.default_rng(0))
        return lambda: (left * values) @ right

    return run


def _popularity(task: Task, settings: Mapping[str, Any]) -> Callable[[], Fitted]:
    def run() -> Fitted:
        likes = np.bincount(task.liked.indices, minlength=task.train.items)
        factors = popularity_factors(likes, task.train.users)
        return lambda: _scores(factors)

    return run


def lacking(contestant: Contestant) -> str | None:
    """Why a contestant cannot run here; None when it can."""
    if contestant.package and importlib.util.find_spec(contestant.package) is None:
        return f"{contestant.package} is not installed in this environment"
    return java_missing() if contestant.package == "pyspark" else None


_QUICK = {"rank": 12, "start_epochs": 3, "burn_in": 0, "samples": 4, "served_rank": 12}
_LONG = {"rank": 32, "start_epochs": 0, "burn_in": 10, "samples": 50, "served_rank": 64}

CONTESTANTS: Mapping[str, Contestant] = {
    "svd ranking": Contestant(
        "ranking",
        _ours("svd", "ranking"),
        {"regularisation": (6.0, 8.0, 10.0), "unobserved_weight": (0.4, 0.7, 1.0)},
    ),
    "nmf ranking": Contestant("ranking", _ours("nmf", "ranking"), {"regularisation": (6.0, 8.0, 10.0)}),
    "implicit ALS": Contestant(
        "ranking",
        _implicit("als", factors=64),
        {"alpha": (1.0, 2.0, 10.0), "regularization": (0.01, 1.0, 10.0)},
        "implicit",
    ),
    "implicit BPR": Contestant(
        "ranking",
        _implicit("bpr", factors=64),
        {"learning_rate": (0.01, 0.05), "regularization": (0.01, 0.05), "iterations": (100, 300)},
        "implicit",
    ),
    "Spark ALS": Contestant(
        "ranking",
        spark_als(implicitPrefs=True, rank=64, maxIter=10),
        {"alpha": (1.0, 10.0), "regParam": (0.1, 0.3)},
        "pyspark",
        slow=True,
    ),
    "EASE^R": Contestant("ranking", _ease, {"regularisation": (100, 300, 1000)}, slow=True),
    "PureSVD": Contestant("ranking", _pure_svd, {"rank": (10, 20, 40)}),
    "popularity": Contestant("ranking", _popularity),
    "svd rating, ALS": Contestant("rating", _ours("svd", "rating")),
    "svd rating, Bayesian quick": Contestant("rating", _ours("svd", "rating", solver="bayesian", **_QUICK)),
    "svd rating, Bayesian": Contestant("rating", _ours("svd", "rating", solver="bayesian")),
    "svd rating, Bayesian, not distilled": Contestant("rating", _posterior_mean),
    "svd rating, Bayesian 60": Contestant("rating", _ours("svd", "rating", solver="bayesian", **_LONG)),
    "nmf rating": Contestant("rating", _ours("nmf", "rating")),
    "Surprise SVD": Contestant("rating", _surprise("SVD"), package="surprise"),
    "Surprise SVD++": Contestant("rating", _surprise("SVDpp"), package="surprise", slow=True),
    "Surprise NMF": Contestant("rating", _surprise("NMF"), package="surprise"),
    "Spark ALS, explicit": Contestant(
        "rating", spark_als(rank=16, maxIter=10, regParam=0.15), package="pyspark", slow=True
    ),
}
