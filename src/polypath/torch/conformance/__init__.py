"""PyTorch's own operator tests on the device, compared with torch's CPU. Knows nothing of how the device works."""
