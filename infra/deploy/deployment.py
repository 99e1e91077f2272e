"""`marquee deploy` as a function: build the layers, plan, execute."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from infra import aws, paths, stack
from infra.deploy import api, apps, execute, layers, limits, observe, plan, resources
from infra.deploy.layers import BuiltLayer
from infra.stream import catalogue_server
from marquee.errors import SettingError
from marquee.settings import (
    ApiSettings,
    CatalogueSettings,
    DatasetSettings,
    IngestSettings,
    KafkaSettings,
    MetricsSettings,
    RecentSettings,
    RecommendSettings,
    RegistrySettings,
    StackSettings,
    StorageSettings,
    TrainSettings,
    UpkeepSettings,
)


@dataclass(frozen=True)
class Settings:
    """All that a deployment reads from the environment."""

    storage: StorageSettings
    kafka: KafkaSettings
    ingest: IngestSettings
    recommend: RecommendSettings
    metrics: MetricsSettings
    stack: StackSettings
    train: TrainSettings = field(default_factory=TrainSettings)
    dataset: DatasetSettings = field(default_factory=DatasetSettings)
    catalogue: CatalogueSettings = field(default_factory=CatalogueSettings)
    upkeep: UpkeepSettings = field(default_factory=UpkeepSettings)
    registry: RegistrySettings = field(default_factory=RegistrySettings)
    api: ApiSettings = field(default_factory=ApiSettings)
    recent: RecentSettings = field(default_factory=RecentSettings)

    @classmethod
    def from_env(cls) -> "Settings":
        """Read them all."""
        return cls(
            StorageSettings.from_env(),
            KafkaSettings.from_env(),
            IngestSettings.from_env(),
            RecommendSettings.from_env(),
            MetricsSettings.from_env(),
            StackSettings.from_env(),
            TrainSettings.from_env(),
            DatasetSettings.from_env(),
            CatalogueSettings.from_env(),
            UpkeepSettings.from_env(),
            RegistrySettings.from_env(),
            ApiSettings.from_env(),
            RecentSettings.from_env(),
        )


@dataclass(frozen=True)
class Deployment:
    """What stands after a deployment; ``changes`` are the lines of the plan that was carried out."""

    stage: str
    api_id: str
    preview_url: str
    unzipped_bytes: Mapping[str, int]
    changes: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Prepared:
    """A plan with what its execution needs; ``unzipped_bytes`` are each app's code and layers together."""

    plan: plan.Plan
    stage: str
    target: aws.Target
    functions_dir: Path
    values: dict[str, str]
    unzipped_bytes: Mapping[str, int]


def prepare(
    stage: str, target: aws.Target, settings: Settings, progress: Callable[[str], None] = lambda _: None
) -> Prepared:
    """Build the layers, check Lambda's limits, look at what exists, and plan."""
    folder = paths.functions_dir(settings.stack)
    values = template_values(target, settings)
    built = layers.build_all(progress=progress)
    sizes = {app: _check_size(app, folder / app, built) for app in resources.APPS}
    fingerprints = {app: apps.fingerprint(folder / app, stage, values, built) for app in resources.APPS}
    wanted = resources.standing(stage, target.region, settings.storage.bucket, built, settings.api)
    observed = observe.observe(target.client, wanted, stage)
    planned = plan.plan(wanted, fingerprints, stage, observed)
    return Prepared(planned, stage, target, folder, values, sizes)


def deploy(
    stage: str, target: aws.Target, settings: Settings, progress: Callable[[str], None] = lambda _: None
) -> Deployment:
    """Bring ``stage`` on ``target`` to what the work tree says; a second run changes nothing."""
    began = time.monotonic()
    prepared = prepare(stage, target, settings, progress)
    execute.Executor(target, prepared.functions_dir, prepared.values, progress).execute(prepared.plan)
    (recommend,) = resources.function_names("recommend", stage)
    api_id = api.find_api(target.client("lambda"), target.client("apigateway"), recommend) or ""
    return Deployment(
        stage,
        api_id,
        api.url(target, api_id, api.PREVIEW_STAGE),
        prepared.unzipped_bytes,
        tuple(str(action) for action in prepared.plan.actions),
        time.monotonic() - began,
    )


def template_values(target: aws.Target, settings: Settings) -> dict[str, str]:
    """What fills the templates: every setting, with what the running stack has and the commit filled in."""
    kafka, metrics, catalogue = settings.kafka, settings.metrics, settings.catalogue
    registry = settings.registry
    running = stack.load(settings.stack) if target.local else None
    if not registry.tracking_uri and running is not None:
        registry = replace(registry, tracking_uri=running.mlflow_url)
    if not catalogue.url and running is not None:
        catalogue = replace(catalogue, url=running.catalogue_url)
        if catalogue.requests_per_second == CatalogueSettings().requests_per_second:
            catalogue = replace(catalogue, requests_per_second=catalogue_server.REQUESTS_PER_SECOND)
    if not kafka.bootstrap_servers:
        if running is None:
            raise SettingError(
                "KAFKA_BOOTSTRAP_SERVERS is empty: name the broker (host:port) that ingest drains"
            )
        kafka = replace(kafka, bootstrap_servers=running.bootstrap_servers)
    if metrics.code_version == MetricsSettings().code_version:
        metrics = replace(metrics, code_version=apps.git_version())
    storage = replace(settings.storage, region=target.region)
    ingest = (settings.ingest, settings.dataset, catalogue, settings.upkeep)
    serving = (settings.recommend, settings.recent)
    return apps.setting_values(storage, kafka, metrics, *ingest, settings.train, *serving, registry)


def _check_size(app: str, folder: Path, built: Mapping[str, BuiltLayer]) -> int:
    used = [built[name] for name in resources.FUNCTION_LAYERS[app]]
    return limits.check_function(app, apps.code_bytes(folder), used)
