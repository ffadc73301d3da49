"""The states of a webhook delivery. `storage.webhooks.outbox` says who moves each one next."""

from typing import Literal, get_args

DeliveryStatus = Literal[
    "pending",  # it is sent when its next attempt is due
    "delivered",  # the receiver took it
    "failed",  # given up after its last attempt
    "dropped",  # a later event made it pointless before it was sent
]
ALL: tuple[DeliveryStatus, ...] = get_args(DeliveryStatus)
