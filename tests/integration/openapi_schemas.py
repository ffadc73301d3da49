"""Schemas of `/openapi.json` as validators."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs


def validator(document: dict[str, Any], name: str) -> jsonschema_rs.Draft202012Validator:
    text = json.dumps(document["components"]["schemas"]).replace("#/components/schemas/", "#/$defs/")
    return jsonschema_rs.Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": json.loads(text)})
