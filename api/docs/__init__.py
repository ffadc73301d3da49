"""The API's description of itself: `/openapi.json` and `/docs`."""
