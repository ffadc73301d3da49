"""Replicate's list of hardware: the devices that workers draw on."""

from __future__ import annotations

import re

from flask import Blueprint, Response

from api.auth import needs
from api.docs.answers import HardwareList
from api.docs.operation import documented
from api.parsing.list_query import query
from api.schemas import DEFAULT_HARDWARE
from api.services import services
from storage.access.scopes import Scope
from storage.predictions.render import dump
from storage.workers.hardware import list_devices

blueprint = Blueprint("hardware", __name__)

NOT_IN_A_SKU = re.compile(r"[^a-z0-9]+")
# The hardware is unknown until a worker has drawn something. A deployment without `hardware` is listed with this.
NOT_KNOWN = {"name": DEFAULT_HARDWARE.upper(), "sku": DEFAULT_HARDWARE}


@blueprint.get("/hardware")
@documented(
    "The devices that workers draw on",
    {200: HardwareList},
    section="Deployments",
    errors=(422,),
    details="All kinds that workers have used so far. Before the first one, the list has one entry, with `sku` `gpu`.",
)
@needs(Scope.READ)
def list_() -> Response:
    query()
    with services().pool.connection() as conn:
        devices = list_devices(conn)
    found = [{"name": "CPU" if device == "cpu" else device, "sku": sku_of(device)} for device in devices]
    return Response(dump(found or [NOT_KNOWN]), content_type="application/json")


def sku_of(device: str) -> str:
    """`nvidia-h200` of `NVIDIA H200`."""
    return NOT_IN_A_SKU.sub("-", device.lower()).strip("-")
