"""Lists of predictions: filters, pages, search."""
