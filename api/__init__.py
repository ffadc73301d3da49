"""HTTP in, records and images out."""
