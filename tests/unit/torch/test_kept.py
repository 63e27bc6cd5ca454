"""No failure, no Ctrl-C and no way of saving a tensor loses a value that was there."""

from __future__ import annotations

import copy
import io
import pickle
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

torch: Any = pytest.importorskip("torch", reason="torch is not installed")

import jax  # noqa: E402
import numpy as np  # noqa: E402

import polypath.torch as pt  # noqa: E402
from polypath.torch import modules  # noqa: E402
from polypath.torch.buffers import buffer_of  # noqa: E402
from polypath.torch.programs import MOST_IN_PIECE, Program  # noqa: E402
from polypath.torch.trace import trace  # noqa: E402

DEVICE = pt.device()
TOO_MUCH = 10**14
"""Elements that no memory holds."""


def ready(*values: float) -> Any:
    """A tensor whose value is there."""
    tensor = torch.tensor(values, device=DEVICE)
    trace.flush()
    return tensor


# --- Programs that do not start --------------------------------------------------------------


@pytest.mark.parametrize("many", [False, True])
def test_what_waits_for_a_program_that_cannot_start_is_undone(many: bool) -> None:
    weight, other, gone = ready(1.0, 2.0), ready(5.0, 6.0), ready(3.0)
    weight.add_(1)
    for _ in range(2 * MOST_IN_PIECE if many else 0):  # Then the first pieces start before one cannot.
        other = other * 1
    weight[1] = 7
    result = weight * gone
    weight.zero_()
    buffer_of(gone).ref.array.delete()
    with pytest.raises(Exception, match="deleted") as error:
        result.cpu()
    assert any("undid the" in note for note in error.value.__notes__)
    # (The first pieces have started.)
    assert weight.tolist() == ([2, 3] if many else [1, 2])
    with pytest.raises(pt.TorchError, match="has failed"):
        result.cpu()
    with pytest.raises(pt.TorchError, match="has failed"):  # At the line that uses it, not where that is read.
        _ = result + 1
    assert weight.add_(1).tolist() == ([3, 4] if many else [2, 3])


def test_what_came_before_an_operator_that_cannot_be_traced_goes_on_waiting() -> None:
    weight = ready(1.0)
    weight.add_(1)

    def fails(value: Any) -> Any:
        raise ArithmeticError("not in this program")

    ref = trace.add(fails, "fails", [buffer_of(weight).ref], [((1,), np.float32)])[0]
    buffer_of(weight).set(ref)
    with pytest.raises(ArithmeticError):
        trace.flush()
    assert weight.item() == 2


def test_what_was_written_since_stays() -> None:
    weight, gone = ready(1.0), ready(2.0)
    weight.mul_(gone)
    buffer_of(gone).ref.array.delete()
    weight.copy_(torch.tensor([5.0]))
    result = weight + gone
    with pytest.raises(Exception, match="deleted"):
        result.cpu()
    assert weight.item() == 5


# --- Ctrl-C ----------------------------------------------------------------------------------


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Have Ctrl-C come while the next program is made, or just after it has started."""

    def at(when: str) -> None:
        called: list[str] = []

        def compile_(program: Program, seed: Any, arrays: Any) -> None:
            call = program.call

            def started(*given: Any) -> Any:
                results = call(*given)
                if when == "start" and not called:
                    called.append(when)
                    signal.raise_signal(signal.SIGINT)
                return results

            program.call = started
            if when == "compile" and not called:
                called.append(when)
                signal.raise_signal(signal.SIGINT)

        monkeypatch.setattr(Program, "compile", compile_)

    return at


@pytest.mark.parametrize("when", ["compile", "start"])
@pytest.mark.parametrize("many", [False, True])
def test_ctrl_c_loses_nothing(interrupted: Callable[[str], None], when: str, many: bool) -> None:
    others = [float(many)] * (2 if when == "start" else 3)  # So that it is a new program each time.
    weight, running = ready(1.0, *others), ready(0.0)
    steps = 2 * MOST_IN_PIECE if many else 3
    for _ in range(steps):
        weight.add_(1)
        running = running + weight.sum()
    interrupted(when)
    with pytest.raises(KeyboardInterrupt):
        running.cpu()
    assert weight.tolist() == [1 + steps, *(other + steps for other in others)]
    assert running.item() == steps * (1 + sum(others)) + (1 + len(others)) * steps * (steps + 1) / 2
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# --- Memory that runs out --------------------------------------------------------------------


def no_memory() -> Any:
    """A tensor for which there was none."""
    return torch.zeros(TOO_MUCH, device=DEVICE)


def test_a_step_that_runs_out_of_memory_says_what_it_took_with_it() -> None:
    weight, kept = ready(1.0, 2.0), ready(3.0)
    huge = (weight.sum() + no_memory()).exp()
    weight.add_(huge[0])
    kept.add_(1)
    # (On this process's own devices when it starts, on a cluster when a value is read.)
    with pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE_EXHAUSTED") as error:
        trace.flush()
    assert any("the memory of 2 tensors that it was to overwrite" in note for note in error.value.__notes__)
    with pytest.raises(pt.TorchError, match="has failed"):
        weight.cpu()
    weight.copy_(torch.tensor([4.0, 5.0]))  # As load_state_dict() does.
    assert weight.tolist() == [4, 5]


def test_reading_what_there_is_no_memory_for_takes_nothing_with_it() -> None:
    weight = ready(1.0, 2.0)
    huge = weight.sum() + no_memory()
    with pytest.raises((MemoryError, RuntimeError)):
        huge.cpu()
    assert weight.tolist() == [1, 2]


def test_a_module_for_which_there_is_no_memory_stays_where_it_was() -> None:
    module = torch.nn.Linear(2, 2)
    module.register_buffer("steps", torch.zeros(1))
    twin = module.twin = torch.nn.Linear(2, 2)
    twin.weight = module.weight
    before = {name: value.clone() for name, value in module.state_dict().items()}
    failed = ready(0.0)

    def fails() -> None:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: as a cluster says it, later")

    failing: Any = type("Failing", (), {"block_until_ready": lambda self: fails()})()
    buffer_of(failed).ref.array = failing

    def move(tensor: Any) -> Any:
        return failed if tensor is module.bias else tensor.to(DEVICE)

    with pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE_EXHAUSTED"):
        module._apply(move)
    assert {str(value.device) for value in module.state_dict().values()} == {"cpu"}
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert module.weight is twin.weight
    assert module.weight.requires_grad
    assert module.to(DEVICE).weight.device == DEVICE
    assert modules._moves(module, lambda tensor: tensor.cpu())


# --- Saving, copying, exchanging -------------------------------------------------------------


def state() -> dict[str, Any]:
    """Tensors of the CPU, of many kinds."""
    torch.manual_seed(0)
    base = torch.arange(24.0)
    return {
        "float": torch.randn(3, 4),
        "half": torch.randn(5).half(),
        "bfloat16": torch.randn(2, 2).bfloat16(),
        "complex": torch.randn(3, dtype=torch.complex64),
        "bool": torch.tensor([True, False, True]),
        "int64": torch.tensor([2**40]),
        "number": torch.tensor(3),
        "empty": torch.zeros(0, 3),
        "transposed": torch.randn(2, 3, 4).permute(2, 0, 1),
        "channels last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "one part": base[2:8],
        "same part": base[4:].view(4, 5).t(),
    }


@pytest.fixture
def there() -> Iterator[dict[str, Any]]:
    """The same on the device; at the end as they were."""
    base = torch.arange(24.0, device=DEVICE)
    tensors = {name: tensor.to(DEVICE) for name, tensor in state().items()}
    tensors |= {"one part": base[2:8], "same part": base[4:].view(4, 5).t()}
    forms = {name: buffer_of(tensor).form for name, tensor in tensors.items()}
    yield tensors
    check(tensors)
    assert {name: buffer_of(tensor).form for name, tensor in tensors.items()} == forms


def check(tensors: dict[str, Any]) -> None:
    for name, want in state().items():
        got = tensors[name]
        assert (got.shape, got.dtype, got.stride()) == (want.shape, want.dtype, want.stride()), name
        assert torch.equal(got.cpu(), want), name


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("place", ["cpu", "polypath", None])
def test_saved_and_loaded(there: dict[str, Any], zipped: bool, place: str | None) -> None:
    file = io.BytesIO()
    torch.save(there, file, _use_new_zipfile_serialization=zipped)
    file.seek(0)
    loaded = torch.load(file, map_location=place)
    check(loaded)
    assert {one.device.type for one in loaded.values()} == {place or "polypath"}
    loaded["one part"].zero_()
    assert loaded["same part"].cpu().reshape(-1).eq(0).sum() == 4  # They still share their memory.
    if place != "cpu":
        whole = loaded["transposed"]
        assert buffer_of(whole).form == buffer_of(there["transposed"]).form  # And not bytes, to convert at each use.


def test_pickled_and_copied(there: dict[str, Any]) -> None:
    check({name: pickle.loads(pickle.dumps(tensor)) for name, tensor in there.items()})
    check(copy.deepcopy(there))
    check({name: copy.copy(tensor) for name, tensor in there.items()})


def test_saved_as_safetensors(there: dict[str, Any], tmp_path: Path) -> None:
    from safetensors.torch import load_file, load_model, save_file, save_model

    plain = {name: tensor.contiguous() for name, tensor in there.items() if "part" not in name}
    save_file(plain, tmp_path / "tensors")
    for name, tensor in load_file(tmp_path / "tensors").items():
        assert torch.equal(tensor, there[name].cpu())
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)).to(DEVICE)
    model[1].weight = model[0].weight
    save_model(model, str(tmp_path / "model"))
    other = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)).to(DEVICE)
    other[1].weight = other[0].weight
    load_model(other, tmp_path / "model")
    for name, tensor in model.state_dict().items():
        assert torch.equal(other.state_dict()[name].cpu(), tensor.cpu())


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_saved_as_a_distributed_checkpoint(there: dict[str, Any], tmp_path: Path) -> None:
    import torch.distributed.checkpoint as dcp

    writer = dcp.FileSystemWriter(tmp_path, thread_count=2)
    dcp.save(there, storage_writer=writer, no_dist=True)
    loaded = {name: torch.zeros_like(tensor) for name, tensor in there.items()}
    dcp.load(loaded, storage_reader=dcp.FileSystemReader(tmp_path), no_dist=True)
    for name, tensor in loaded.items():
        assert torch.equal(tensor.cpu(), there[name].cpu())


def test_an_exported_program_is_saved_and_loaded() -> None:
    model, x = torch.nn.Linear(2, 2).to(DEVICE), torch.ones(1, 2, device=DEVICE)
    file = io.BytesIO()
    torch.export.save(torch.export.export(model.eval(), (x,)), file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    assert loaded.weight.device == DEVICE
    torch.testing.assert_close(loaded(x).cpu(), model(x).cpu())


def test_exchanged_by_dlpack(there: dict[str, Any]) -> None:
    for name in ("float", "transposed", "int64", "one part"):
        np.testing.assert_array_equal(np.from_dlpack(there[name]), state()[name].numpy())
        assert torch.equal(torch.from_dlpack(there[name]), state()[name])
        assert torch.equal(torch.from_dlpack(torch.to_dlpack(there[name])), state()[name])
    np.testing.assert_array_equal(jax.numpy.from_dlpack(there["float"]), state()["float"].numpy())
    assert torch.equal(torch.from_dlpack(jax.numpy.arange(3)).to(DEVICE).cpu(), torch.arange(3))
    with pytest.raises(BufferError, match="copy=False cannot be"):
        there["float"].__dlpack__(copy=False)
    with pytest.raises(BufferError, match="require gradient"):
        torch.ones(1, device=DEVICE, requires_grad=True).__dlpack__()


def test_storages(there: dict[str, Any]) -> None:
    values = there["float"]
    storage = values.untyped_storage()
    assert values[1:].data_ptr() - values.data_ptr() == 16
    assert (values.data_ptr(), there["empty"].data_ptr()) == (storage.data_ptr(), 0)
    assert values.clone().data_ptr() not in range(values.data_ptr(), values.data_ptr() + storage.nbytes())
    assert bytes(storage.cpu()) == bytes(storage) == bytes(state()["float"].untyped_storage())
    moved = state()["float"].untyped_storage().to(device=DEVICE)
    assert bytes(moved) == bytes(storage)
    assert moved.fill_(0).tolist() == [0] * 48
    assert moved.copy_(storage).tolist() == storage.tolist()
    assert torch.UntypedStorage(3, device=DEVICE).tolist() == [0, 0, 0]
    assert storage.new().nbytes() == 0


def test_a_tensor_in_the_shape_of_another_is_where_it_is_asked_for(there: dict[str, Any]) -> None:
    x = there["float"]
    for make in (torch.zeros_like, torch.ones_like, torch.empty_like, torch.rand_like, x.new_zeros, x.new_empty):
        given = x if make.__name__.endswith("_like") else (2, 3)
        assert make(given, device="cpu").device.type == "cpu"
        assert make(given).device == DEVICE
