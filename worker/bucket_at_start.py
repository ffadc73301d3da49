"""Before a worker loads its model: may it store pictures at all? One that may not would claim work and sit on it.

A bucket that goes away later is ridden through: whoever publishes tries again.
"""

from __future__ import annotations

import time

from storage.bucket import Bucket, BucketUnavailable
from worker.heartbeat import Heartbeat

# A minute for an S3 that is being started beside us. After that it is for those who started us to wait and try again,
# so that no machine that is paid by the minute waits for a key that somebody has to mend.
WAITS_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)


def wait_for_bucket(bucket: Bucket, signs: Heartbeat) -> None:
    """Return once the bucket could be written. Raises BucketUnavailable when it couldn't for a minute."""
    for wait_s in (*WAITS_S, None):
        try:
            bucket.check_writable()
        except BucketUnavailable as error:
            signs.say_bucket_not_writable(str(error))
            if wait_s is None:
                raise
            time.sleep(wait_s)
        else:
            break
    if signs.state == "failed":
        signs.say("loading")
