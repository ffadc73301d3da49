"""The `darkroom` command: one file per command, and what `darkroom up` needs beside them."""
