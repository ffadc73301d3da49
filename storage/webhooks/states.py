"""The states of a webhook delivery. `storage.webhooks.outbox` says who moves each one next."""

from enum import StrEnum


class DeliveryStatus(StrEnum):
    PENDING = "pending"  # it is sent when its next attempt is due
    DELIVERED = "delivered"  # the receiver took it
    FAILED = "failed"  # given up after its last attempt
    DROPPED = "dropped"  # a later event made it pointless before it was sent


ALL = tuple(status.value for status in DeliveryStatus)
