"""Everything a worker asks of jaxlib's internals, so that a new jax touches this package alone.

Owns the PJRT client, its group, and the objects that JAX's own arrays are made of. It knows
nothing of values, messages or the log.

`clients` makes the PJRT client (`share`: of this worker's part of its machine), `devices` describes
it, `group` joins it to the island's other workers. `arrays` and `programs` are what the executor
works with, `partitioners` what XLA asks while it compiles, `buffers` what a program lends to a
host callback. `users` shows the client to functions of users, `profiler` traces it.

One build serves jax 0.10.2 to 0.12 (`polypath.versions`); what differs between these is decided
where it is used, with the version named.
"""

from polypath.worker.jaxlib.arrays import (
    End,
    aval,
    copy,
    copy_whole,
    device_list,
    dtype_of,
    elements,
    join,
    over,
    put,
    single,
    wait_all,
)
from polypath.worker.jaxlib.buffers import LentBuffer
from polypath.worker.jaxlib.clients import make_client, make_cpu_client
from polypath.worker.jaxlib.devices import (
    client_attributes,
    default_layout,
    device_attributes,
    device_memory_stats,
    host_memory,
    is_cpu,
    layout_proto,
    memory_kinds,
    platform_name,
)
from polypath.worker.jaxlib.group import Group
from polypath.worker.jaxlib.partitioners import inspector, register_partitioner
from polypath.worker.jaxlib.profiler import VERSION, Trace
from polypath.worker.jaxlib.programs import (
    compile_module,
    compile_program,
    deserialize,
    donated_parameters,
    identity_with_layout,
    memory_stats,
    options_for,
    options_key,
    output_layouts,
    parameter_layouts,
    parameter_types,
    prepare,
    result_handler,
    result_types,
    serialize,
    shardings,
)
from polypath.worker.jaxlib.types import Array, Client, JaxDevice, Loaded, Options
from polypath.worker.jaxlib.users import adopt, unpickle, x64

__all__ = [
    "VERSION",
    "Array",
    "Client",
    "End",
    "Group",
    "JaxDevice",
    "LentBuffer",
    "Loaded",
    "Options",
    "Trace",
    "adopt",
    "aval",
    "client_attributes",
    "compile_module",
    "compile_program",
    "copy",
    "copy_whole",
    "default_layout",
    "deserialize",
    "device_attributes",
    "device_list",
    "device_memory_stats",
    "donated_parameters",
    "dtype_of",
    "elements",
    "host_memory",
    "identity_with_layout",
    "inspector",
    "is_cpu",
    "join",
    "layout_proto",
    "make_client",
    "make_cpu_client",
    "memory_kinds",
    "memory_stats",
    "options_for",
    "options_key",
    "output_layouts",
    "over",
    "parameter_layouts",
    "parameter_types",
    "platform_name",
    "prepare",
    "put",
    "register_partitioner",
    "result_handler",
    "result_types",
    "serialize",
    "shardings",
    "single",
    "unpickle",
    "wait_all",
    "x64",
]
