"""The page at `/`: draw, watch, find again. Plain ES modules and CSS in `static/`, served as they are."""
