"""PyTorch on a cluster's devices: an unmodified model, `loss.backward()`, `optimizer.step()`, `torch.compile`.

Nothing below imports this, and `import polypath` does not import torch.
"""
