"""What users and our own tests test with: fakes of everything below the pure core."""

from polypath.testing.simulated import SimulatedCluster

__all__ = ["SimulatedCluster"]
