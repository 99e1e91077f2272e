"""The one table of what each route may be asked, and a request read by it.

Validation and the OpenAPI document both come from :data:`ROUTES`; the impression holds what a request gave
in the form that :meth:`Asked.of_json` reads, so that an answer can be computed again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, Literal, Self

from marquee.aws.api_values import Flag, Kind, Number, Record, Records, Text, Texts, Whole, refused
from marquee.errors import InputError
from marquee.scoring.filters import Filters

Place = Literal["path", "query", "body"]
DEFAULT_K = 20
MAX_K = 100
MAX_USER_ID = 2**63 - 1
MAX_BODY_BYTES = 100_000
"""The impression holds what the body said, and CloudWatch Logs takes events of 256 KB."""
_MAX_RATING = 10
MAX_MINUTES = 100_000
_RATING = Record({"movie_id": Text(), "rating": Number(0.5, _MAX_RATING)}, ("movie_id", "rating"))
_WATCH = Record(
    {"movie_id": Text(), "minutes": Number(0, MAX_MINUTES), "share": Number(0, 1)},
    ("movie_id",),
    ("minutes", "share"),
)


@dataclass(frozen=True)
class Parameter:
    """What a request may give: where, what it must be, and what it means.

    ``default`` is what it is when not given, as JSON holds it; None where leaving it out asks for nothing.
    """

    name: str
    kind: Kind
    description: str
    default: Any = None


@dataclass(frozen=True)
class Route:
    """A route that answers with a list.

    Parameters
    ----------
    name : as impressions name it.
    in_path : the parameter in the path; None when there is none.
    place : where the other parameters are.
    recorded : what no request gives, but an impression holds, since the list depended on it.
    """

    name: str
    method: Literal["GET", "POST"]
    path: str
    summary: str
    in_path: Parameter | None
    place: Place
    parameters: tuple[Parameter, ...]
    recorded: tuple[Parameter, ...] = ()

    def all(self) -> tuple[Parameter, ...]:
        """Every parameter."""
        return self.parameters if self.in_path is None else (self.in_path, *self.parameters)


_K = Parameter("k", Whole(1, MAX_K), "how many movies, at most", DEFAULT_K)
_FILTERS = (
    Parameter("genre", Texts(), "movies of at least one of these genres, whatever the case"),
    Parameter("year_from", Whole(1, 9_999), "movies of this year or later; one of unknown year is left out"),
    Parameter("year_to", Whole(1, 9_999), "movies of this year or earlier; one of unknown year is left out"),
    Parameter("exclude", Texts(), "ids of movies to leave out; unknown ones are passed by"),
    Parameter("only", Texts(), "ids of movies to choose from; unknown ones are passed by"),
)
_SHAPING = (
    Parameter(
        "diversity",
        Number(0, 1),
        "0 ranks by score alone, 1 by unlikeness to the movies before alone (maximal marginal relevance)",
        0.0,
    ),
    Parameter(
        "explain",
        Flag(),
        "with JSON: which of the user's own movies carried each recommendation; the list is then that of the "
        "user's row folded in anew",
        False,
    ),
)
_TOLD = (
    Parameter(
        "ratings",
        Records(_RATING),
        "ratings, the newest last, up to the model's rating scale, which /health names",
    ),
    Parameter(
        "watches",
        Records(_WATCH),
        "movies watched, by minutes or by share of their length; of a movie of unknown "
        "length any minutes are all of it",
    ),
)
ROUTES: Mapping[str, Route] = MappingProxyType(
    {
        route.name: route
        for route in (
            Route(
                "recommend",
                "GET",
                "/recommend/{user_id}",
                "Movies for a user; an unknown user gets the cold-start list",
                Parameter("user_id", Whole(1, MAX_USER_ID), "the user"),
                "query",
                (_K, *_FILTERS, *_SHAPING),
                recorded=_TOLD,
            ),
            Route(
                "fold_in",
                "POST",
                "/recommend",
                "Movies for somebody the model has never seen, from what they rated and watched",
                None,
                "body",
                (*_TOLD, _K, *_FILTERS, *_SHAPING),
            ),
            Route(
                "similar",
                "GET",
                "/similar/{movie_id}",
                "The movies nearest to a movie, by the angle between their factors",
                Parameter("movie_id", Text(), "the movie"),
                "query",
                (_K, *_FILTERS),
            ),
        )
    }
)


@dataclass(frozen=True)
class Asked:
    """A list that was asked for. The fields are the parameters, each None or as its kind reads it.

    ``ratings`` and ``watches`` are what a post tells; of a known user, what they did since the model's data.

    Raises
    ------
    InputError : ``of_text`` and ``of_json`` met a value that is not accepted; it names parameter and range.
    """

    route: str
    user_id: int | None = None
    movie_id: str | None = None
    k: int = DEFAULT_K
    genre: tuple[str, ...] = ()
    year_from: int | None = None
    year_to: int | None = None
    exclude: tuple[str, ...] = ()
    only: tuple[str, ...] | None = None
    diversity: float = 0.0
    explain: bool = False
    ratings: tuple[Mapping[str, Any], ...] = ()
    watches: tuple[Mapping[str, Any], ...] = ()

    def __post_init__(self) -> None:
        if self.year_from is not None and self.year_to is not None and self.year_from > self.year_to:
            raise refused("year_to", f"at least year_from, which is {self.year_from}", self.year_to)
        if self.route == "fold_in" and not self.ratings and not self.watches:
            raise InputError("ratings", "the body must have ratings or watches, of at least one movie")

    @classmethod
    def of_text(cls, route: Route, path: Mapping[str, str], query: Mapping[str, list[str]]) -> Self:
        """From path and query; names that the route does not know are passed by."""
        known = route.in_path
        values = (
            {} if known is None else {known.name: known.kind.of_text(known.name, [path.get(known.name, "")])}
        )
        for one in route.parameters:
            if one.name in query:
                values[one.name] = one.kind.of_text(one.name, query[one.name])
        return cls(route.name, **values)

    @classmethod
    def of_json(cls, route: Route, given: Any) -> Self:
        """From a body; names that the route does not know are refused."""
        return cls._of(route.name, {one.name: one.kind for one in route.all()}, given)

    @classmethod
    def of_record(cls, route: Route, given: Any) -> Self:
        """From what :meth:`given` said, in an impression."""
        return cls._of(route.name, {one.name: one.kind for one in (*route.all(), *route.recorded)}, given)

    @classmethod
    def _of(cls, route: str, known: Mapping[str, Kind], given: Any) -> Self:
        if not isinstance(given, Mapping):
            raise refused("body", "a JSON object", given)
        for name in given.keys() - known.keys():
            raise InputError(name, f"{name[:40]!r} is no parameter: accepted are {', '.join(known)}")
        return cls(route, **{name: known[name].of_json(name, value) for name, value in given.items()})

    def given(self) -> dict[str, Any]:
        """What differs from the defaults, as JSON can hold it."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, default in _DEFAULTS.items()
            if (value := getattr(self, name)) != default
        }

    @property
    def filters(self) -> Filters:
        """What the catalogue can tell by itself."""
        return Filters(frozenset(self.genre), self.year_from, self.year_to)


_DEFAULTS = {one.name: one.default for one in fields(Asked) if one.name != "route"}
