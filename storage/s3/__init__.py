"""The bucket on an S3 server: its objects, its errors, and rows of objects that are sent or lost."""
