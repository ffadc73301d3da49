"""The courier: delivers webhooks, rescues work from dead workers, and deletes expired data. It needs no GPU."""
