"""Six deliberate breakages of what must never break, each of which the suite has to catch (`make mutants`)."""
