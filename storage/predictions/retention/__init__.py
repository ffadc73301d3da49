"""How long predictions and their pictures are kept: until they expire, until their owner deletes them, or for ever."""
