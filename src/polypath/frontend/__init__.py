"""The frontend: JAX's clients speak the IFRT proxy protocol to it over gRPC.

It turns a request into a controller event, and a controller's reply into a response. It is the
only place that knows gRPC or the wire schema, and it never imports jax or numpy.
"""

from polypath.frontend.control import Control
from polypath.frontend.links import HeadLinks
from polypath.frontend.service import Frontend, FrontendStatistics
from polypath.frontend.view import ClusterView

__all__ = ["ClusterView", "Control", "Frontend", "FrontendStatistics", "HeadLinks"]
