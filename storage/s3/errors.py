"""What S3's errors mean, and what to do: the same words for the worker, `darkroom prepare` and `darkroom doctor`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from storage.settings import Settings

CLOCK = {"RequestTimeTooSkewed", "RequestExpired"}
# S3 refuses a clock that is off by a quarter of an hour. The answer to HEAD has no body that would say why.
CLOCK_IS_WRONG_S = 600.0
BUSY = {"SlowDown", "ServiceUnavailable", "Throttling", "ThrottlingException", "TooManyRequests", "503", "429"}
WRONG_REGION = {
    "AuthorizationHeaderMalformed",
    "PermanentRedirect",
    "TemporaryRedirect",
    "IllegalLocationConstraintException",
    "301",
}
EXPECTED_REGION = re.compile(r"(?:expecting|expected|should be) ['\"]?(?P<region>[a-z0-9-]+)['\"]?")
# What a server answers that has no such operation, or wants a header that this client doesn't send.
NOT_THIS_WAY = {
    "NotImplemented",
    "MethodNotAllowed",
    "MissingContentMD5",
    "InvalidRequest",
    "InvalidArgument",
    "InvalidDigest",
    "BadDigest",
    "MalformedXML",
    "MissingContentLength",
    "400",
    "405",
    "501",
}


@dataclass(frozen=True)
class Diagnosis:
    """What S3 said, and what to do about it."""

    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what}: {self.remedy}."


def code_of(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def is_about_clock(error: ClientError | BotoCoreError) -> bool:
    """Whether S3 refuses us because our clock is wrong."""
    if not isinstance(error, ClientError):
        return False
    code = code_of(error)
    return code in CLOCK or (code == "403" and abs(_seconds_ahead(error) or 0.0) > CLOCK_IS_WRONG_S)


def in_words(error: ClientError | BotoCoreError, settings: Settings) -> str:
    """What went wrong with one object: S3's own words, unless they would lead astray."""
    return str(diagnose(error, settings)) if is_about_clock(error) else str(error)


def diagnose(error: ClientError | BotoCoreError, settings: Settings) -> Diagnosis:
    """An error of any call, in words."""
    where = settings.s3_endpoint_url or "AWS"
    if isinstance(error, NoCredentialsError):
        return Diagnosis(
            "No S3 keys were found",
            "set S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY, or run where boto3 finds keys",
        )
    if isinstance(error, BotoCoreError):
        return Diagnosis(f"S3 can't be reached at {where} ({error})", "check S3_ENDPOINT_URL and the S3 keys")
    code = code_of(error)
    refuses = f"The bucket {settings.s3_bucket} at {where} refuses us ({code})"
    if region := _right_region(error, code, settings):
        return Diagnosis(
            f"{refuses}: it is in the region {region}, and S3_REGION is {settings.s3_region}",
            f"set S3_REGION={region}",
        )
    if is_about_clock(error):
        return Diagnosis(
            f"{refuses}: this machine's clock is {_how_far_off(error)} S3's",
            "let this machine synchronize its clock (NTP)",
        )
    if code in BUSY:
        return Diagnosis(
            f"The bucket {settings.s3_bucket} at {where} is overloaded ({code})",
            "wait; if it stays so, ask the provider for its limit of requests",
        )
    if code == "NoSuchBucket":
        return Diagnosis(refuses, "check S3_BUCKET, and S3_ADDRESSING; `darkroom prepare` creates the bucket")
    return Diagnosis(refuses, "check S3_ACCESS_KEY_ID, S3_SECRET_ACCESS_KEY, S3_BUCKET and what that key may do")


def _right_region(error: ClientError, code: str, settings: Settings) -> str:
    """The region that S3 names, if it is another one than ours; else empty."""
    details: dict[str, Any] = dict(error.response.get("Error", {}))
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    region = str(details.get("Region") or headers.get("x-amz-bucket-region") or "")
    if not region and code in WRONG_REGION and (match := EXPECTED_REGION.search(str(details.get("Message", "")))):
        region = match["region"]
    return region if region != settings.s3_region and code in WRONG_REGION else ""


def _how_far_off(error: ClientError) -> str:
    """ "700 s ahead of", as far as the answer tells."""
    ahead_s = _seconds_ahead(error)
    if ahead_s is None:
        return "too far from"
    return f"{abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'}"


def _seconds_ahead(error: ClientError) -> float | None:
    """By how much our clock is ahead of the one that wrote the answer's Date header."""
    said = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    try:
        return (datetime.now(UTC) - parsedate_to_datetime(str(said))).total_seconds()
    except (TypeError, ValueError):
        return None
