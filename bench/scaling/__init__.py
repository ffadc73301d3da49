"""How far one Postgres goes: costs measured here, and a simulation that is asked for far more than was measured."""
