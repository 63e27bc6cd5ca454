"""JAX's own tests, on a cluster and on plain JAX, and where the two differ.

The tests are the user's copy of JAX's; none are here. Each file of them runs in a process of its
own (`child`), which a parent watches (`process`) once for plain JAX and once for a cluster
(`cluster`); `runner` joins these into a `Report`, and `view` and `markdown` show it.
"""
