"""Pictures that a request brings: a start image, a mask, images that the model looks at."""
