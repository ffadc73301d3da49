"""Starting, watching and ending processes: what `darkroom up` and `darkroom host` share."""
