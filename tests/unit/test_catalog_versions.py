"""What a reference means: a name, an alias, a version with or without its model."""

from __future__ import annotations

import pytest

from storage.catalog import Catalog, Model
from storage.errors import UnknownModel

ONE = Model(name="me/one", source="x", version="1", aliases=("dall-e-3", "with:colon"))
TWO = Model(name="me/two", source="x", version="1")
THREE = Model(name="me/three", source="x", version="three-2")
CATALOG = Catalog({model.name: model for model in (ONE, TWO, THREE)})


@pytest.mark.parametrize(
    ("reference", "model"),
    [
        ("me/one", ONE),
        ("Me/One", ONE),
        ("me/one:1", ONE),
        (f"me/one:{ONE.version_id}", ONE),
        ("dall-e-3", ONE),
        ("dall-e-3:1", ONE),
        ("with:colon", ONE),
        ("three-2", THREE),
        (TWO.version_id, TWO),
    ],
)
def test_a_reference_finds_its_model(reference: str, model: Model) -> None:
    assert CATALOG.find(reference) is model


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("me/four", "there is no model 'me/four'; this deployment serves me/one, me/three, me/two"),
        ("me/one:2", "me/one has no version '2'; its version is '1'"),
        (f"me/one:{TWO.version_id}", "has no version"),
        ("1", "is one of several models"),
        ("", "there is no model"),
        (":", "there is no model"),
    ],
)
def test_a_reference_that_means_nothing_says_what_there_is(reference: str, said: str) -> None:
    with pytest.raises(UnknownModel, match=said):
        CATALOG.find(reference)


def test_version_ids_differ_between_models() -> None:
    assert len({model.version_id for model in CATALOG.models.values()}) == 3
    assert len(ONE.version_id) == 64
