"""PyTorch on the cluster's devices: unmodified models and training loops, on the device that `device()` names.

    dev = polypath.torch.device()
    model = Model().to(dev)
    polypath.torch.shard(model, mesh, {"blocks.*.mlp.w1": ("model", None)})
    step = torch.compile(train_step, backend="polypath")

Importing this makes torch know the device, which must be before the first `backward()` of the process.
Needs `pip install polypath[torch]`.
"""

from polypath.torch.bounds import IndexRangeError as IndexRangeError
from polypath.torch.breaks import GraphBreakWarning as GraphBreakWarning
from polypath.torch.custom import register_lowering as register_lowering
from polypath.torch.device import device as device
from polypath.torch.device import register as _register
from polypath.torch.eager import EagerWarning as EagerWarning
from polypath.torch.errors import TorchError as TorchError
from polypath.torch.kernels.host import HostWarning as HostWarning
from polypath.torch.sharding import fsdp as fsdp
from polypath.torch.sharding import shard as shard

_register()
