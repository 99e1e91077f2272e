"""Plans: what a deployment would change, as frozen data made from what is wanted and what was observed."""

from collections.abc import Mapping
from dataclasses import dataclass

from infra.deploy.keys import UsagePlan
from infra.deploy.layers import BuiltLayer
from infra.deploy.resources import Standing, Subscription, function_names


@dataclass(frozen=True)
class CreateBucket:
    """Make the bucket."""

    bucket: str
    region: str

    def __str__(self) -> str:
        return f"create bucket {self.bucket} in {self.region}"


@dataclass(frozen=True)
class BlockPublicAccess:
    """Shut the bucket to the public, whatever its policy or its objects' ACLs say."""

    bucket: str

    def __str__(self) -> str:
        return f"block public access to bucket {self.bucket}"


@dataclass(frozen=True)
class CreateLogGroup:
    """Make a log group."""

    name: str

    def __str__(self) -> str:
        return f"create log group {self.name}"


@dataclass(frozen=True)
class SetRetention:
    """Let a log group's lines expire."""

    name: str
    days: int

    def __str__(self) -> str:
        return f"keep log group {self.name} for {self.days} days"


@dataclass(frozen=True)
class PublishLayer:
    """Publish a version of a layer; its zip goes through the bucket."""

    layer: BuiltLayer
    bucket: str

    @property
    def key(self) -> str:
        """Where the zip stands on S3."""
        return f"deploy/layers/{self.layer.sha256}.zip"

    def __str__(self) -> str:
        return f"publish layer {self.layer.name} ({self.layer.zipped_bytes / 1e6:.1f} MB zipped)"


@dataclass(frozen=True)
class DeployApp:
    """Run ``chalice deploy`` for an app; ``fingerprint`` names its code, settings and layers."""

    app: str
    stage: str
    fingerprint: str

    def __str__(self) -> str:
        return f"chalice deploy --stage {self.stage} in {self.app}"


@dataclass(frozen=True)
class GrantLogs:
    """Let CloudWatch Logs invoke a function with what a log group holds."""

    subscription: Subscription

    def __str__(self) -> str:
        return f"let log group {self.subscription.log_group} invoke {self.subscription.function}"


@dataclass(frozen=True)
class Subscribe:
    """Deliver a log group's lines to a function."""

    subscription: Subscription

    def __str__(self) -> str:
        return f"deliver log group {self.subscription.log_group} to {self.subscription.function}"


@dataclass(frozen=True)
class KeyApi:
    """Make the stage's API key and its usage plan, for the stages that the API has."""

    function: str
    plan: UsagePlan

    def __str__(self) -> str:
        plan = self.plan
        return f"API key {plan.name}: {plan.rate} requests a second, bursts of {plan.burst}"


type AfterApps = GrantLogs | Subscribe | KeyApi
"""What needs the functions."""
type Action = (
    CreateBucket | BlockPublicAccess | CreateLogGroup | SetRetention | PublishLayer | DeployApp | AfterApps
)


@dataclass(frozen=True)
class Observed:
    """What exists.

    ``retention`` has days (None: for ever) by log group, ``layers`` the newest (ARN, SHA-256 in base64) by
    layer, ``fingerprints`` what each app was last deployed as (None: it is absent, or was changed since).
    In ``granted`` and ``subscribed`` are those of the wanted subscriptions that stand; ``keyed`` says whether
    the wanted usage plan does.
    """

    bucket_exists: bool = False
    public_access_blocked: bool = False
    retention: Mapping[str, int | None] | None = None
    layers: Mapping[str, tuple[str, str]] | None = None
    fingerprints: Mapping[str, str | None] | None = None
    granted: frozenset[Subscription] = frozenset()
    subscribed: frozenset[Subscription] = frozenset()
    keyed: bool = False


@dataclass(frozen=True)
class Plan:
    """Actions in the order they must happen, and the ARNs of the layers that need none."""

    actions: tuple[Action, ...]
    layer_arns: Mapping[str, str]

    def lines(self) -> list[str]:
        """The plan for people, an action a line."""
        return [str(action) for action in self.actions] or ["nothing to do"]


def plan(wanted: Standing, fingerprints: Mapping[str, str], stage: str, observed: Observed) -> Plan:
    """What would bring ``observed`` to ``wanted``, and each app to what ``fingerprints`` says of it."""
    actions: list[Action] = []
    if not observed.bucket_exists:
        actions.append(CreateBucket(wanted.bucket, wanted.region))
    if not observed.public_access_blocked:
        actions.append(BlockPublicAccess(wanted.bucket))
    retention = observed.retention or {}
    for group in wanted.log_groups:
        if group.name not in retention:
            actions.append(CreateLogGroup(group.name))
        if retention.get(group.name) != group.retention_days:
            actions.append(SetRetention(group.name, group.retention_days))
    published = observed.layers or {}
    arns = {}
    for layer in wanted.layers:
        arn, sha256 = published.get(layer.name, ("", ""))
        if sha256 == layer.code_sha256:
            arns[layer.name] = arn
        else:
            actions.append(PublishLayer(layer, wanted.bucket))
    deployed = observed.fingerprints or {}
    actions += [
        DeployApp(app, stage, fingerprint)
        for app, fingerprint in fingerprints.items()
        if deployed.get(app) != fingerprint
    ]
    actions += [GrantLogs(one) for one in wanted.subscriptions if one not in observed.granted]
    actions += [Subscribe(one) for one in wanted.subscriptions if one not in observed.subscribed]
    if not observed.keyed:
        (recommend,) = function_names("recommend", stage)
        actions.append(KeyApi(recommend, wanted.usage_plan))
    return Plan(tuple(actions), arns)
