"""One signed S3 call with nothing but the standard library: boto3 takes half a second to import."""

from __future__ import annotations

import datetime
import hashlib
import hmac
import http.client
import ssl
from pathlib import Path
from urllib.parse import urlsplit

REGION = "us-east-1"  # the embedded server takes any


def list_buckets(endpoint_url: str, access_key_id: str, secret_access_key: str, ca_bundle: Path | None = None) -> int:
    """The HTTP status of ListBuckets, signed with AWS Signature Version 4. Raises OSError."""
    host = urlsplit(endpoint_url).netloc
    moment = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    payload = hashlib.sha256(b"").hexdigest()
    headers = {"host": host, "x-amz-content-sha256": payload, "x-amz-date": moment}
    names = ";".join(headers)
    request = "\n".join(["GET", "/", "", *(f"{name}:{value}" for name, value in headers.items()), "", names, payload])
    scope = f"{moment[:8]}/{REGION}/s3/aws4_request"
    to_sign = "\n".join(["AWS4-HMAC-SHA256", moment, scope, hashlib.sha256(request.encode()).hexdigest()])
    key = f"AWS4{secret_access_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={access_key_id}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    connection: http.client.HTTPConnection
    if ca_bundle is None:
        connection = http.client.HTTPConnection(host, timeout=5)
    else:
        context = ssl.create_default_context(cafile=str(ca_bundle))
        connection = http.client.HTTPSConnection(host, timeout=5, context=context)
    try:
        connection.request("GET", "/", headers=headers)
        return connection.getresponse().status
    except http.client.HTTPException as error:
        raise OSError(str(error)) from error
    finally:
        connection.close()
