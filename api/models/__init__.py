"""The models that this service has, and how many workers each is given."""
