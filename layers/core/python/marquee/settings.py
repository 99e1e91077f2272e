"""Settings: frozen dataclasses, and the only module that reads the environment.

Each field carries the name of its environment variable, what it means and its unit in ``metadata``; the
README's table lists every one of them (a test compares the two). A value out of range is refused with
:class:`~marquee.errors.SettingError`, which names the variable, the value and what is accepted.
"""

import os
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Self
from urllib.parse import urlsplit

from marquee.errors import SettingError

MAX_WORKERS = 64
"""Drains at once, at most; Lambda allows an account 1,000 invocations at once by default."""
RETRAINABLE = ("svd-ranking", "nmf-ranking", "svd-rating", "nmf-rating")
"""What the schedule can train: an algorithm and an objective each."""


def setting(
    env: str,
    doc: str,
    default: Any,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[Any, ...] = (),
    secret: bool = False,
) -> Any:
    """Declare a field that is read from the environment variable ``env``; a secret one is never shown."""
    metadata = {"env": env, "doc": doc, "minimum": minimum, "maximum": maximum, "choices": choices}
    return field(default=default, metadata=metadata, repr=not secret)


_RECOMMEND_FUNCTION = "function whose live model new datasets and models are compared with; empty means none"


def _parse(raw: str, kind: type, metadata: Mapping[str, Any]) -> Any:
    env = metadata["env"]
    try:
        value = kind(raw)
    except ValueError as error:
        raise SettingError(f"{env}={raw!r} is not a valid {kind.__name__}") from error
    low, high, choices = metadata["minimum"], metadata["maximum"], metadata["choices"]
    if choices and value not in choices:
        raise SettingError(f"{env}={raw!r} is not one of {', '.join(str(choice) for choice in choices)}")
    if (low is not None and value < low) or (high is not None and value > high):
        accepted = f"at least {low}" if high is None else f"from {low} to {high}"
        raise SettingError(f"{env}={raw!r} is out of range: accepted is {accepted}")
    return value


class FromEnvironment:
    """Mixin that builds a settings dataclass from environment variables."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read every field's variable; unset or empty means the default."""
        source = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        for item in fields(cls):  # type: ignore[arg-type]
            raw = source.get(item.metadata["env"], "")
            if raw != "":
                kind = type(item.default) if item.default is not MISSING else str
                values[item.name] = _parse(raw, kind, item.metadata)
        return cls(**values)


@dataclass(frozen=True)
class StorageSettings(FromEnvironment):
    """Where the lake, the datasets and the models live."""

    bucket: str = setting("MARQUEE_BUCKET", "S3 bucket of lake, datasets, models and layers", "marquee")
    region: str = setting("AWS_DEFAULT_REGION", "AWS region", "us-east-1")
    endpoint_url: str = setting("AWS_ENDPOINT_URL", "endpoint of LocalStack; empty means AWS itself", "")


@dataclass(frozen=True)
class CredentialSettings(FromEnvironment):
    """Whom S3 takes the recommend function for; the fields are named as botocore's signers want them."""

    access_key: str = setting(
        "AWS_ACCESS_KEY_ID", "set by Lambda itself: the function's role, with the next two", ""
    )
    secret_key: str = setting(
        "AWS_SECRET_ACCESS_KEY", "signs what the recommend function reads", "", secret=True
    )
    token: str = setting("AWS_SESSION_TOKEN", "goes with the two before", "", secret=True)


@dataclass(frozen=True)
class KafkaSettings(FromEnvironment):
    """The broker and the movie log."""

    bootstrap_servers: str = setting(
        "KAFKA_BOOTSTRAP_SERVERS", "host:port, comma separated; empty starts a local broker", ""
    )
    topic: str = setting("KAFKA_TOPIC", "topic of the movie log", "movielog")
    group: str = setting("KAFKA_GROUP", "consumer group whose offsets show the lag", "marquee-ingest")
    security_protocol: str = setting(
        "KAFKA_SECURITY_PROTOCOL",
        "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL",
        "PLAINTEXT",
        choices=("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"),
    )
    sasl_mechanism: str = setting(
        "KAFKA_SASL_MECHANISM",
        "how SASL checks the password: SCRAM-SHA-512, SCRAM-SHA-256 or PLAIN",
        "SCRAM-SHA-512",
        choices=("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"),
    )
    secret: str = setting(
        "KAFKA_SECRET",
        "Secrets Manager secret (name or ARN), or SSM parameter (`ssm:/name` or ARN), that holds JSON with "
        "`username`, `password` and, if the broker needs it, `ca`",
        "",
    )


@dataclass(frozen=True)
class IngestSettings(FromEnvironment):
    """The bounds of one drain."""

    rating_scale: int = setting(
        "RATING_SCALE", "highest rating accepted: ratings are whole numbers from 1", 10, choices=(5, 10)
    )
    max_seconds: float = setting(
        "INGEST_MAX_SECONDS",
        "a drain starts no new batch after this many seconds",
        45.0,
        minimum=1,
        maximum=840,
    )
    batch_messages: int = setting(
        "INGEST_BATCH_MESSAGES", "messages per commit, at most", 500_000, minimum=1, maximum=5_000_000
    )
    batch_bytes: int = setting(
        "INGEST_BATCH_BYTES", "bytes of message values per commit, at most", 32_000_000, minimum=1_000
    )
    topic_epoch: int = setting(
        "INGEST_TOPIC_EPOCH",
        "raise it by one after the topic was deleted and made again: it is then read from its start",
        0,
        minimum=0,
    )
    workers: int = setting(
        "INGEST_WORKERS",
        "drains that share the partitions out; those beyond the first are invokes of the drain itself",
        1,
        minimum=1,
        maximum=MAX_WORKERS,
    )
    function_name: str = setting(
        "AWS_LAMBDA_FUNCTION_NAME", "the drain invokes itself by it for further workers", ""
    )


@dataclass(frozen=True)
class DatasetSettings(FromEnvironment):
    """What a dataset leaves out, and what it is compared with."""

    min_user_interactions: int = setting(
        "DATASET_MIN_USER_INTERACTIONS",
        "users who rated or watched fewer movies are left out of training",
        1,
        minimum=1,
        maximum=1_000_000,
    )
    min_movie_interactions: int = setting(
        "DATASET_MIN_MOVIE_INTERACTIONS",
        "movies that fewer users rated or watched are left out of training",
        1,
        minimum=1,
        maximum=1_000_000,
    )
    recommend_function: str = setting("RECOMMEND_FUNCTION", _RECOMMEND_FUNCTION, "")


@dataclass(frozen=True)
class CatalogueSettings(FromEnvironment):
    """The service that knows titles, genres, lengths and years of movies."""

    url: str = setting(
        "CATALOGUE_URL", "address of the service, to which `/movie/<id>` is added; empty means none", ""
    )
    requests_per_second: float = setting(
        "CATALOGUE_REQUESTS_PER_SECOND",
        "calls of the service, at most",
        10.0,
        minimum=0.01,
        maximum=1_000,
    )
    ids_per_call: int = setting(
        "CATALOGUE_IDS_PER_CALL", "movies asked for in one call", 200, minimum=1, maximum=200
    )
    max_seconds: float = setting(
        "CATALOGUE_MAX_SECONDS",
        "a run begins no new call after this many seconds",
        45.0,
        minimum=1,
        maximum=840,
    )
    timeout_seconds: float = setting(
        "CATALOGUE_TIMEOUT_SECONDS",
        "how long the service may be silent, in seconds",
        10.0,
        minimum=0.1,
        maximum=60,
    )
    again_days: float = setting(
        "CATALOGUE_AGAIN_DAYS",
        "ask again after so many days for a movie that the service did not know",
        7.0,
        minimum=0.01,
        maximum=3_650,
    )


@dataclass(frozen=True)
class UpkeepSettings(FromEnvironment):
    """The scheduled upkeep of the lake's tables."""

    target_file_bytes: int = setting(
        "UPKEEP_FILE_BYTES",
        "small files are merged into files of about this size, in bytes",
        128_000_000,
        minimum=1_000_000,
        maximum=512_000_000,
    )
    min_files: int = setting(
        "UPKEEP_MIN_FILES",
        "small files of a partition that are merged, at least",
        8,
        minimum=2,
        maximum=1_000,
    )
    retention_hours: int = setting(
        "UPKEEP_RETENTION_HOURS",
        "hours that a file stays after the table dropped it; those that a dataset names stay as long as it",
        168,
        minimum=24,
        maximum=168,
    )
    max_seconds: float = setting(
        "UPKEEP_MAX_SECONDS",
        "an upkeep starts no new merge after this many seconds; the next one goes on",
        300.0,
        minimum=1,
        maximum=840,
    )


@dataclass(frozen=True)
class TrainSettings(FromEnvironment):
    """How much training gets, when the schedule trains, and what a new model must be to be released."""

    memory_mb: int = setting(
        "TRAIN_MEMORY_MB",
        "memory of the training functions, in MB; beyond 3008 a new AWS account needs a higher quota",
        3_008,
        minimum=512,
        maximum=10_240,
    )

    retrain_min_change: float = setting(
        "RETRAIN_MIN_CHANGE",
        "share of new ratings and watched minutes from which the schedule trains again; 0 always trains",
        0.01,
        minimum=0,
        maximum=100,
    )
    gate_margin: float = setting(
        "GATE_MARGIN",
        "how much worse in NDCG@10 than the live model a new one may surely be and still be released",
        0.0,
        minimum=0,
        maximum=1,
    )
    recommend_function: str = setting("RECOMMEND_FUNCTION", _RECOMMEND_FUNCTION, "")
    retrain_models: str = setting(
        "RETRAIN_MODELS",
        "what the schedule trains, comma separated: " + ", ".join(f"`{name}`" for name in RETRAINABLE),
        "svd-ranking",
    )
    snapshot_function: str = setting(
        "SNAPSHOT_FUNCTION",
        "function that the schedule has freeze a dataset before it trains; empty means none "
        "(`marquee deploy` sets it)",
        "",
    )
    function_name: str = setting(
        "AWS_LAMBDA_FUNCTION_NAME", "the schedule invokes itself by it for each model beyond the first", ""
    )

    def __post_init__(self) -> None:
        """Refuse what the schedule cannot train."""
        unknown = [name for name in self.scheduled if name not in RETRAINABLE]
        if unknown or not self.scheduled or len(set(self.scheduled)) < len(self.scheduled):
            raise SettingError(
                f"RETRAIN_MODELS={self.retrain_models!r} is not accepted: a comma-separated list of "
                f"{', '.join(RETRAINABLE)}, each once at most"
            )

    @property
    def scheduled(self) -> tuple[str, ...]:
        """What the schedule trains: ``<algorithm>-<objective>``, in the order given."""
        return tuple(name.strip() for name in self.retrain_models.split(",") if name.strip())


@dataclass(frozen=True)
class RegistrySettings(FromEnvironment):
    """Where models are registered."""

    tracking_uri: str = setting(
        "MLFLOW_TRACKING_URI",
        "MLflow server (http or https, without a password) where models are registered; empty means the "
        "local stack's, and none on AWS",
        "",
    )
    name: str = setting(
        "REGISTRY_NAME",
        "MLflow's experiment and registered model (`marquee deploy` sets it to marquee-<stage>)",
        "marquee",
    )

    def __post_init__(self) -> None:
        """Refuse what is no web address, and a password, which would stand readable in the function."""
        parts = urlsplit(self.tracking_uri)
        if self.tracking_uri and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise SettingError(f"MLFLOW_TRACKING_URI={self.tracking_uri!r} is no http:// or https:// address")
        if parts.username is not None or parts.password is not None:
            shown = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
            raise SettingError(
                "MLFLOW_TRACKING_URI holds a user or a password, which would stand readable in the "
                f"function's environment: accepted is {shown!r}"
            )


@dataclass(frozen=True)
class RecommendSettings(FromEnvironment):
    """The API."""

    model_id: str = setting("MODEL_ID", "model a released version serves; empty means the newest one", "")
    model_forced: int = setting(
        "MODEL_FORCED",
        "1 in a version whose model the gate had refused (`marquee release --force` sets it); its answers "
        "say so",
        0,
        choices=(0, 1),
    )
    deadline_ms: int = setting(
        "RECOMMEND_DEADLINE_MS",
        "answer within this many milliseconds or fall back",
        600,
        minimum=50,
        maximum=29_000,
    )
    cache_bytes: int = setting(
        "RECOMMEND_CACHE_BYTES", "memory for user shards, in bytes", 256_000_000, minimum=1_000_000
    )
    latest_seconds: float = setting(
        "RECOMMEND_LATEST_SECONDS",
        "without MODEL_ID, look for a newer model at most this often, in seconds",
        5.0,
        minimum=0,
        maximum=3_600,
    )
    cors_origin: str = setting(
        "RECOMMEND_CORS_ORIGIN", "origin whose web pages may call the API, or *; empty means none", ""
    )
    function_name: str = setting(
        "AWS_LAMBDA_FUNCTION_NAME", "set by Lambda itself: the model is then loaded at start-up", ""
    )


@dataclass(frozen=True)
class RecentSettings(FromEnvironment):
    """What users did since their model was trained: kept by ingest, folded in by the API."""

    events: str = setting(
        "RECENT_EVENTS",
        "whether `GET /recommend/{user_id}` folds in what the user did since the model's data",
        "on",
        choices=("on", "off"),
    )
    shards: int = setting(
        "RECENT_SHARDS",
        "objects that users' newest events are spread over, by user id; odd numbers spread best",
        255,
        minimum=1,
        maximum=99_999,
    )
    days: float = setting(
        "RECENT_DAYS",
        "days that newest events are kept; longer than any model serves without being trained anew",
        7.0,
        minimum=0.01,
        maximum=30,
    )
    movies: int = setting(
        "RECENT_MOVIES",
        "movies of a user whose newest events are kept, at most",
        64,
        minimum=1,
        maximum=500,
    )
    seconds: float = setting(
        "RECENT_SECONDS",
        "how long the API trusts what it read of newest events, in seconds",
        5.0,
        minimum=0,
        maximum=3_600,
    )
    cache_bytes: int = setting(
        "RECENT_CACHE_BYTES", "memory for newest events, in bytes", 64_000_000, minimum=1_000_000
    )


@dataclass(frozen=True)
class ApiSettings(FromEnvironment):
    """Who may call the API, and how fast."""

    live_key: str = setting(
        "API_KEY_LIVE",
        "whether the live API asks for a key: auto is on for every stage but local; preview always does",
        "auto",
        choices=("auto", "on", "off"),
    )
    rate: int = setting(
        "API_RATE", "requests a second that the key may send on average", 100, minimum=1, maximum=10_000
    )
    burst: int = setting("API_BURST", "requests that the key may send at once", 200, minimum=1, maximum=5_000)
    key: str = setting("MARQUEE_API_KEY", "key that `marquee load` sends", "")

    def keyed(self, stage: str) -> bool:
        """Whether the live API of a deployment stage asks for a key."""
        return self.live_key == "on" or (self.live_key == "auto" and stage != "local")


@dataclass(frozen=True)
class MetricsSettings(FromEnvironment):
    """What metrics and manifests are labelled with."""

    namespace: str = setting("METRICS_NAMESPACE", "CloudWatch namespace of our metrics", "Marquee")
    code_version: str = setting("CODE_VERSION", "git commit the functions were deployed from", "unknown")


@dataclass(frozen=True)
class StackSettings(FromEnvironment):
    """The local stack: emulator, broker, MLflow."""

    port: int = setting(
        "MARQUEE_PORT", "loopback port of LocalStack; 0 picks a free one", 4566, minimum=0, maximum=65_535
    )
    broker: str = setting("KAFKA", "local broker to start", "embedded", choices=("embedded", "apache"))
    broker_partitions: int = setting(
        "KAFKA_PARTITIONS", "partitions of a topic the local broker creates", 4, minimum=1, maximum=100
    )
    mlflow: str = setting("MLFLOW", "whether the stack has an MLflow server", "on", choices=("on", "off"))
    mlflow_port: int = setting(
        "MLFLOW_PORT",
        "loopback port of MLflow; 0, or a port that is taken, picks a free one",
        5000,
        minimum=0,
        maximum=65_535,
    )
    state_dir: str = setting(
        "MARQUEE_STATE_DIR", "folder of the running stack's state and logs; empty means build/state", ""
    )
    functions_dir: str = setting(
        "MARQUEE_FUNCTIONS_DIR",
        "folder of the Chalice apps and their .chalice state; empty means functions/",
        "",
    )
