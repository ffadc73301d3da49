"""Before a worker loads its model, check that it may store images. Otherwise it would claim work and never publish it.

If the bucket becomes unreachable later, publishing retries (see worker/publish/publish.py).
"""

from __future__ import annotations

import time

from storage.s3.bucket import Bucket, BucketUnavailable
from worker.heartbeat import Heartbeat

# A minute is enough for an S3 server that starts together with us. After that the worker exits and its supervisor
# decides when to try again, so that a GPU that costs money by the minute doesn't wait for a corrected key.
WAITS_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)


def wait_for_bucket(bucket: Bucket, heartbeat: Heartbeat) -> None:
    """Return when the bucket can be written. Raises BucketUnavailable after trying for a minute."""
    for wait_s in (*WAITS_S, None):
        try:
            bucket.check_writable()
        except BucketUnavailable as error:
            heartbeat.say_bucket_not_writable(str(error))
            if wait_s is None:
                raise
            time.sleep(wait_s)
        else:
            break
    if heartbeat.state == "failed":
        heartbeat.say("loading")
