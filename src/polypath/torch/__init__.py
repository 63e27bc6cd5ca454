"""PyTorch on the devices of a cluster. Nothing else of Polypath imports torch."""
