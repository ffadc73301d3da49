"""The life of a prediction: submitted, claimed, finished, rescued, read, forgotten."""
