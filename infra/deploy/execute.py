"""Carrying out a plan, by calls that do no harm when repeated."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boto3.s3.transfer import TransferConfig

from infra.aws import Target
from infra.deploy import api, apps, chalice_run, keys
from infra.deploy.layers import RUNTIME
from infra.deploy.observe import FILTER, FINGERPRINT_TAG, STATEMENT
from infra.deploy.plan import (
    Action,
    BlockPublicAccess,
    CreateBucket,
    CreateLogGroup,
    DeployApp,
    GrantLogs,
    KeyApi,
    Plan,
    PublishLayer,
    SetRetention,
    Subscribe,
)
from infra.deploy.resources import FUNCTION_LAYERS, LAYER_PREFIX, function_names

_PARALLEL_UPLOADS = 4
_ONE_CONNECTION = TransferConfig(use_threads=False)


@dataclass(frozen=True)
class Executor:
    """Carries out plans on ``target``; ``values`` fill the templates of the apps in ``functions_dir``."""

    target: Target
    functions_dir: Path
    values: dict[str, str]
    progress: Callable[[str], None]

    def execute(self, plan: Plan) -> dict[str, str]:
        """Carry out ``plan``; returns the ARN of every layer."""
        last = [action for action in plan.actions if isinstance(action, GrantLogs | Subscribe | KeyApi)]
        later = (PublishLayer, DeployApp, GrantLogs, Subscribe, KeyApi)
        first = [action for action in plan.actions if not isinstance(action, later)]
        publish = [action for action in plan.actions if isinstance(action, PublishLayer)]
        deploy = [action for action in plan.actions if isinstance(action, DeployApp)]
        for action in first:
            self._standing(action)
        arns = dict(plan.layer_arns)
        if publish:
            functions, s3 = self.target.client("lambda"), self.target.client("s3")
            with ThreadPoolExecutor(_PARALLEL_UPLOADS) as pool:
                arns |= pool.map(lambda action: self._publish(action, functions, s3), publish)
        self._deploy_apps(deploy, arns)
        for one in last:
            self._after(one)
        return arns

    def _after(self, action: GrantLogs | Subscribe | KeyApi) -> None:
        self.progress(str(action))
        if not isinstance(action, KeyApi):
            self._subscription(action)
            return
        gateway = self.target.client("apigateway")
        api_id = api.find_api(self.target.client("lambda"), gateway, action.function)
        if api_id is not None:  # else there is no API to ask for a key
            keys.ensure(gateway, api_id, action.plan, api.stages(gateway, api_id))

    def _subscription(self, action: GrantLogs | Subscribe) -> None:
        functions, wanted = self.target.client("lambda"), action.subscription
        arn = functions.get_function_configuration(FunctionName=wanted.function)["FunctionArn"]
        partition, region, account = arn.split(":")[1], arn.split(":")[3], arn.split(":")[4]
        match action:
            case GrantLogs():
                with suppress(functions.exceptions.ResourceNotFoundException):  # of another log group
                    functions.remove_permission(FunctionName=wanted.function, StatementId=STATEMENT)
                functions.add_permission(
                    FunctionName=wanted.function,
                    StatementId=STATEMENT,
                    Action="lambda:InvokeFunction",
                    Principal="logs.amazonaws.com",
                    SourceArn=f"arn:{partition}:logs:{region}:{account}:log-group:{wanted.log_group}:*",
                    SourceAccount=account,
                )
            case Subscribe():
                self.target.client("logs").put_subscription_filter(
                    logGroupName=wanted.log_group,
                    filterName=FILTER,
                    filterPattern=wanted.pattern,
                    destinationArn=arn,
                )

    def _standing(self, action: Action) -> None:
        self.progress(str(action))
        match action:
            case CreateBucket(bucket, region):
                elsewhere = {"CreateBucketConfiguration": {"LocationConstraint": region}}
                self.target.client("s3").create_bucket(
                    Bucket=bucket, **({} if region == "us-east-1" else elsewhere)
                )
            case BlockPublicAccess(bucket):
                names = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
                self.target.client("s3").put_public_access_block(
                    Bucket=bucket, PublicAccessBlockConfiguration=dict.fromkeys(names, True)
                )
            case CreateLogGroup(name):
                logs = self.target.client("logs")
                with suppress(
                    logs.exceptions.ResourceAlreadyExistsException
                ):  # a first line made it meanwhile
                    logs.create_log_group(logGroupName=name)
            case SetRetention(name, days):
                self.target.client("logs").put_retention_policy(logGroupName=name, retentionInDays=days)

    def _publish(self, action: PublishLayer, functions: Any, s3: Any) -> tuple[str, str]:
        self.progress(str(action))
        layer = action.layer
        s3.upload_file(str(layer.path), action.bucket, action.key, Config=_ONE_CONNECTION)
        published = functions.publish_layer_version(
            LayerName=LAYER_PREFIX + layer.name,
            Description=f"sha256 {layer.sha256}",
            Content={"S3Bucket": action.bucket, "S3Key": action.key},
            CompatibleRuntimes=[RUNTIME],
            CompatibleArchitectures=["x86_64"],
        )
        return layer.name, published["LayerVersionArn"]

    def _deploy_apps(self, actions: Sequence[DeployApp], layer_arns: dict[str, str]) -> None:
        """All at the same time: each is a process of its own that mostly waits for answers."""
        if not actions:
            return
        with ThreadPoolExecutor(len(actions)) as pool:
            for _ in pool.map(lambda action: self._deploy_app(action, layer_arns), actions):
                pass

    def _deploy_app(self, action: DeployApp, layer_arns: dict[str, str]) -> None:
        self.progress(str(action))
        folder = self.functions_dir / action.app
        arns = {name: layer_arns[name] for name in FUNCTION_LAYERS[action.app]}
        apps.write_config(folder, action.stage, self.values, arns)
        functions, names = self.target.client("lambda"), function_names(action.app, action.stage)
        chalice_run.forget_if_gone(folder, action.stage, self.target.client)
        api_id = api.find_api(functions, self.target.client("apigateway"), names[0])
        if api_id is not None:
            chalice_run.adopt(folder, action.stage, api_id)
        chalice_run.deploy(folder, action.stage, self.target)
        for name in names:
            arn = functions.get_function(FunctionName=name)["Configuration"]["FunctionArn"]
            functions.tag_resource(Resource=arn, Tags={FINGERPRINT_TAG: action.fingerprint})
        self.progress(f"deployed {action.app}")
