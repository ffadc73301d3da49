"""What a GPU does with Z-Image at its real size: speed, correctness in company, memory, loading. See __main__.py."""
