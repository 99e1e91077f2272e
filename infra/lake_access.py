"""The lake as commands see it: where the stack or AWS has it, with the caller's credentials."""

from dataclasses import replace

import boto3
from botocore.exceptions import ClientError, NoCredentialsError

from infra.aws import Target
from marquee.aws.lake import Lake
from marquee.settings import IngestSettings, KafkaSettings, StorageSettings, UpkeepSettings


def open_lake(target: Target, storage: StorageSettings) -> Lake:
    """The lake of the bucket; Delta Lake does not know boto3's profiles, so it is handed the credentials."""
    lake = Lake.of(replace(storage, region=target.region, endpoint_url=target.endpoint_url))
    credentials = {name.upper(): value for name, value in target.credentials.items()}
    if not target.local:
        found = boto3.Session().get_credentials()
        if found is None:
            raise NoCredentialsError
        frozen = found.get_frozen_credentials()
        credentials = {"AWS_ACCESS_KEY_ID": frozen.access_key, "AWS_SECRET_ACCESS_KEY": frozen.secret_key}
        if frozen.token:
            credentials["AWS_SESSION_TOKEN"] = frozen.token
    return replace(lake, storage_options={**lake.storage_options, **credentials})


def drain_settings(target: Target, stage: str) -> tuple[KafkaSettings, IngestSettings]:
    """The settings of the deployed drain; where none is deployed, those of the command's environment."""
    variables = _variables(target, f"marquee-ingest-{stage}-drain")
    return KafkaSettings.from_env(variables), IngestSettings.from_env(variables)


def upkeep_settings(target: Target, stage: str) -> UpkeepSettings:
    """The settings of the deployed upkeep; where none is deployed, those of the command's environment."""
    return UpkeepSettings.from_env(_variables(target, f"marquee-ingest-{stage}-upkeep"))


def _variables(target: Target, function: str) -> dict[str, str] | None:
    """The environment of a deployed function; None when there is none."""
    try:
        found = target.client("lambda").get_function_configuration(FunctionName=function)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceNotFoundException":
            raise
        return None
    return dict(found.get("Environment", {}).get("Variables", {}))
