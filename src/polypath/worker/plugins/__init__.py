"""Programs that are the worker's own: checkpoints read and written in place, and traces."""
