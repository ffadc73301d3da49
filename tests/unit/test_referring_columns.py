from storage.postgres.tables import Table
from storage.predictions.retention.expiry import REFERRING


def test_retention_knows_every_column_that_refers_to_an_object() -> None:
    declared = {
        (table.name, key.parent.name)
        for table in Table.metadata.sorted_tables
        for key in table.foreign_keys
        if key.target_fullname == "objects.key"
    }
    assert set(REFERRING) == declared
