"""What JAX lacks for a cluster, hooked into its internals where nothing public will do.

jaxlib's proxy client refuses some of what jaxlib's other clients do, and some of JAX takes for
granted that devices are in its own process. Each module here mends one such thing, and says
what JAX does and what it does instead; `patches` has the table of all that is replaced in JAX.
"""
