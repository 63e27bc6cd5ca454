"""What torch's dispatcher calls for the device: operators become nodes of the trace.

`dispatch` chooses how an operator is done, and the others do it: `lowered` by its function on arrays, `written` by
computing and a write, `memory` what is no computing (making, copying, resizing), `host` on torch's CPU in the client.
They share `transfers`, which takes values to and from the cluster, and `rules`, which asks torch about its operators.
"""
