"""Values that may be of several kinds, such as a text or a list."""

# What a kind's tag begins with. pydantic puts it into the path of a problem, where no client would know it.
KIND = "kind:"
