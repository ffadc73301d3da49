"""The workers of one machine, for `darkroom up` and `darkroom host`: started, switched, standing by, forked, ended."""
