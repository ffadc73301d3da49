"""The Postgres and the S3 server that Darkroom brings along: real ones, for one machine."""

from cli.embedded.errors import EmbeddedServerError, StartCancelled
from cli.embedded.postgres import EmbeddedPostgres
from cli.embedded.s3 import EmbeddedS3

__all__ = ["EmbeddedPostgres", "EmbeddedS3", "EmbeddedServerError", "StartCancelled"]
