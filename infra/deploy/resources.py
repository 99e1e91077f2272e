"""What stands around the functions, declared as data: the bucket, log groups, layers, and who uses which."""

from collections.abc import Mapping
from dataclasses import dataclass

from infra.deploy.keys import UsagePlan, plan_name
from infra.deploy.layers import BuiltLayer
from marquee.aws.impression_source import FILTER_PATTERN
from marquee.settings import ApiSettings

APPS = ("ingest", "train", "registry", "recommend")
FUNCTION_LAYERS: Mapping[str, tuple[str, ...]] = {
    "ingest": ("core", "lake", "kafka"),
    "train": ("core", "numpy", "scipy", "arrow"),
    "registry": ("core", "mlflow"),
    "recommend": ("core", "numpy"),
}
_HANDLERS: Mapping[str, tuple[str, ...]] = {
    "ingest": ("-drain", "-snapshot", "-catalogue", "-upkeep", "-impressions"),
    "train": ("-train", "-batch", "-retrain"),
    "registry": ("-sync", "-landed"),
    "recommend": ("",),
}
_RETENTION_DAYS: Mapping[str, int] = {"local": 1, "prod": 30}
_DEFAULT_RETENTION_DAYS = 30
LAYER_PREFIX = "marquee-"


@dataclass(frozen=True)
class LogGroup:
    """Where a function's lines go; they are deleted after ``retention_days``."""

    name: str
    retention_days: int


@dataclass(frozen=True)
class Subscription:
    """Lines of a log group that ``pattern`` matches go to ``function``."""

    log_group: str
    function: str
    pattern: str


@dataclass(frozen=True)
class Standing:
    """The resources that a stage wants to exist, whatever exists now."""

    region: str
    bucket: str
    log_groups: tuple[LogGroup, ...]
    layers: tuple[BuiltLayer, ...]
    subscriptions: tuple[Subscription, ...]
    usage_plan: UsagePlan


def function_names(app: str, stage: str) -> tuple[str, ...]:
    """The Lambda functions that ``app`` deploys, by the names chalice gives them."""
    return tuple(f"marquee-{app}-{stage}{handler}" for handler in _HANDLERS[app])


def standing(
    stage: str,
    region: str,
    bucket: str,
    layers: Mapping[str, BuiltLayer],
    api: ApiSettings = ApiSettings(),  # noqa: B008 - frozen
) -> Standing:
    """The standing resources of ``stage``."""
    days = _RETENTION_DAYS.get(stage, _DEFAULT_RETENTION_DAYS)
    names = [name for app in APPS for name in function_names(app, stage)]
    groups = tuple(LogGroup(f"/aws/lambda/{name}", days) for name in names)
    (recommend,) = function_names("recommend", stage)
    impressions = f"marquee-ingest-{stage}-impressions"
    shown = Subscription(f"/aws/lambda/{recommend}", impressions, FILTER_PATTERN)
    plan = UsagePlan(plan_name(stage), api.rate, api.burst)
    return Standing(region, bucket, groups, tuple(layers.values()), (shown,), plan)
