"""The broker's credentials come from a secret by name, and a wrong one is refused without being shown."""

import json
from typing import Any

import boto3
import pytest
from moto import mock_aws

from marquee.aws.kafka_security import connection
from marquee.errors import SettingError
from marquee.settings import KafkaSettings

SECRET = {"username": "marquee", "password": "open sesame"}


def settings(secret: str, protocol: str = "SASL_SSL") -> KafkaSettings:
    return KafkaSettings(security_protocol=protocol, secret=secret)


def asks_nobody(service: str) -> Any:
    raise AssertionError(service)


def test_a_plain_broker_needs_no_secret_and_none_is_asked_for() -> None:
    assert connection(KafkaSettings(secret="named in vain"), asks_nobody) == {}


def test_encryption_alone_needs_no_secret() -> None:
    assert connection(settings("", "SSL"), asks_nobody) == {"security.protocol": "SSL"}


@mock_aws
@pytest.mark.parametrize("by_arn", [False, True])
def test_credentials_come_from_secrets_manager_by_name_or_arn(by_arn: bool) -> None:
    made = boto3.client("secretsmanager").create_secret(
        Name="AmazonMSK_marquee", SecretString=json.dumps({**SECRET, "ca": "PEM"})
    )
    found = connection(settings(made["ARN"] if by_arn else made["Name"]), boto3.client)
    assert found == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "marquee",
        "sasl.password": "open sesame",
        "ssl.ca.pem": "PEM",
    }


@mock_aws
@pytest.mark.parametrize(
    "name", ["ssm:/marquee/kafka", "arn:aws:ssm:us-east-1:123456789012:parameter/marquee/kafka"]
)
def test_credentials_come_from_parameter_store_decrypted(name: str) -> None:
    boto3.client("ssm").put_parameter(Name="/marquee/kafka", Value=json.dumps(SECRET), Type="SecureString")
    assert connection(settings(name), boto3.client)["sasl.password"] == "open sesame"


@mock_aws
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("open sesame", "JSON object"),
        ('["open sesame"]', "JSON object"),
        ('{"password": 7}', "JSON object"),
        ('{"username": "marquee"}', "no password"),
        ('{"password": "open sesame"}', "no username"),
    ],
)
def test_a_secret_of_another_form_is_refused_by_name_and_not_shown(text: str, said: str) -> None:
    boto3.client("secretsmanager").create_secret(Name="kafka", SecretString=text)
    with pytest.raises(SettingError, match="KAFKA_SECRET='kafka'") as refused:
        connection(settings("kafka"), boto3.client)
    assert said in str(refused.value)
    assert "open sesame" not in str(refused.value)


@mock_aws
@pytest.mark.parametrize("name", ["missing", "ssm:/missing"])
def test_a_secret_that_is_not_there_is_refused_by_name(name: str) -> None:
    with pytest.raises(SettingError, match=f"KAFKA_SECRET='{name}' cannot be read"):
        connection(settings(name), boto3.client)
