"""How the broker is to be trusted and told who we are, as librdkafka's properties.

The credentials stand in Secrets Manager or in SSM Parameter Store, as JSON with ``username`` and ``password``
(the form that MSK wants for SCRAM) and, when the broker's certificate is of no public authority, ``ca``: that
authority's certificate as PEM. The environment holds nothing but their name.
"""

import json
from collections.abc import Callable
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from marquee.errors import SettingError
from marquee.settings import KafkaSettings

_SSM_PREFIX = "ssm:"
_SSM_ARN = ":parameter/"


def connection(settings: KafkaSettings, client: Callable[[str], Any]) -> dict[str, str]:
    """Properties for any client of librdkafka; empty for a plain broker, for which nobody is asked.

    Parameters
    ----------
    client : makes the boto3 client of a service, ``secretsmanager`` or ``ssm``.

    Raises
    ------
    SettingError : the secret is missing, cannot be read, or lacks what the protocol needs.
    """
    protocol = settings.security_protocol
    if protocol == "PLAINTEXT":
        return {}
    secret = _secret(settings.secret, client) if settings.secret else {}
    properties = {"security.protocol": protocol}
    if protocol.startswith("SASL"):
        missing = [name for name in ("username", "password") if not secret.get(name)]
        if missing:
            lacking = f"KAFKA_SECRET={settings.secret!r} has no {' and no '.join(missing)}"
            raise SettingError(
                f"KAFKA_SECURITY_PROTOCOL={protocol!r} needs credentials, and {lacking}: "
                'accepted is JSON such as {"username": "…", "password": "…"}'
            )
        properties |= {
            "sasl.mechanism": settings.sasl_mechanism,
            "sasl.username": secret["username"],
            "sasl.password": secret["password"],
        }
    if "ca" in secret:
        properties["ssl.ca.pem"] = secret["ca"]
    return properties


def _secret(name: str, client: Callable[[str], Any]) -> dict[str, str]:
    """The secret's JSON object, without its text in any error."""
    try:
        if name.startswith(_SSM_PREFIX) or _SSM_ARN in name:
            asked = name.removeprefix(_SSM_PREFIX)
            text = client("ssm").get_parameter(Name=asked, WithDecryption=True)["Parameter"]["Value"]
        else:
            text = client("secretsmanager").get_secret_value(SecretId=name)["SecretString"]
    except (BotoCoreError, ClientError, KeyError) as error:
        raise SettingError(f"KAFKA_SECRET={name!r} cannot be read: {error}") from error
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise SettingError(f"KAFKA_SECRET={name!r} does not hold a JSON object of strings")
    return found
