"""AWS Signature Version 4 of a GET from S3, with the standard library alone.

"Authenticating Requests: Using the Authorization Header", Amazon S3 API reference.
"""

import hashlib
import hmac
from datetime import datetime

from marquee.settings import CredentialSettings

_NO_PAYLOAD = hashlib.sha256(b"").hexdigest()


def signed_headers(
    host: str, path: str, region: str, credentials: CredentialSettings, now: datetime
) -> dict[str, str]:
    """The headers, Host left out, that make S3 answer ``GET path`` to whom the credentials belong.

    Parameters
    ----------
    host : as the Host header says it, with the port where it is not the usual one.
    path : percent-encoded as it is sent, without a query.
    now : UTC; S3 refuses what is more than 15 minutes off.
    """
    stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    sent = {"x-amz-content-sha256": _NO_PAYLOAD, "x-amz-date": stamp}
    if credentials.session_token:
        sent["x-amz-security-token"] = credentials.session_token
    named = {"host": host, **sent}
    names = ";".join(sorted(named))
    lines = "".join(f"{name}:{named[name]}\n" for name in sorted(named))
    canonical = f"GET\n{path}\n\n{lines}\n{names}\n{_NO_PAYLOAD}"
    scope = f"{day}/{region}/s3/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = b"AWS4" + credentials.secret_access_key.encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}".encode(), "sha256").hex()
    sent["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credentials.access_key_id}/{scope}, "
        f"SignedHeaders={names}, Signature={signature}"
    )
    return sent
