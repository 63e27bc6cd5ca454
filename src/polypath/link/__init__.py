"""The session's links: what a client with Polypath has to each worker that it deals with, and to the head.

`protocol` says what goes over a link, `state` when one is open, silent or at its end, `streams` what carries it (a unix
socket, TLS between machines, a tunnel through the head), `connection` reads and writes it. `client` and `worker` are
the two ends; the head's end is in `polypath.frontend`.
"""
