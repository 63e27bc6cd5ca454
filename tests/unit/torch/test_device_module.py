"""`torch.polypath` and `torch.accelerator`: what torch's accelerators have beside operators."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

torch: Any = pytest.importorskip("torch", reason="torch is not installed")

import jax  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

import polypath.torch as pt  # noqa: E402
from polypath.torch.trace import trace  # noqa: E402

DEVICE = pt.device()


# --- Memory -------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [torch.accelerator, torch.polypath], ids=["accelerator", "polypath"])
def test_memory_is_what_tensors_take(module: Any) -> None:
    before = module.memory_allocated()
    x = torch.ones(1000, device=DEVICE)
    assert module.memory_allocated() == before + 4000
    module.reset_peak_memory_stats()
    y = x.double() * 2
    assert module.memory_allocated() == before + 12000
    del y
    assert module.memory_allocated() == before + 4000
    assert module.max_memory_allocated() == before + 12000
    module.reset_peak_memory_stats()
    assert module.max_memory_allocated() == before + 4000
    x.mul_(2)  # The old value's memory is the new one's.
    assert module.memory_allocated() == before + 4000
    assert module.max_memory_allocated() == before + 4000
    assert module.memory_stats()["allocated_bytes.all.current"] == before + 4000
    assert module.memory_reserved() == before + 4000  # A CPU counts nothing itself.
    del x
    assert module.memory_allocated() == before


def test_memory_that_the_platform_does_not_count_is_not_made_up() -> None:
    for ask in (torch.polypath.mem_get_info, torch.accelerator.get_memory_info):
        with pytest.raises(pt.TorchError, match=r"is not known: their platform \(cpu\) counts none"):
            ask()
    with pytest.raises(pt.TorchError, match="is not known"):
        _ = torch.polypath.get_device_properties().total_memory


def test_what_the_platform_counts_is_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {"bytes_in_use": 10, "peak_bytes_in_use": 30, "bytes_limit": 100}
    monkeypatch.setattr(type(jax.devices()[0]), "memory_stats", lambda device: counts)
    devices = len(jax.devices())
    kept = torch.ones(2, device=DEVICE)
    assert torch.polypath.mem_get_info() == torch.accelerator.get_memory_info() == (90 * devices, 100 * devices)
    assert torch.accelerator.memory_reserved() == 10 * devices
    assert torch.accelerator.max_memory_reserved() == 30 * devices
    assert torch.polypath.get_device_properties().total_memory == 100 * devices
    assert kept.sum().item() == 2


def test_caches_are_emptied() -> None:
    torch.accelerator.empty_cache()
    torch.accelerator.empty_host_cache()  # torch's own would end the process.
    torch.polypath.empty_cache()
    torch.polypath.ipc_collect()
    assert "allocated_bytes.all.current" in torch.polypath.memory_summary()
    torch.accelerator.reset_accumulated_memory_stats()
    assert torch.accelerator.memory_stats()["allocated_bytes.all.allocated"] == 0


# --- Streams and events ---------------------------------------------------------------------------


def test_events_tell_when_work_is_done_and_how_long_it_took() -> None:
    start, end, later = (torch.Event(enable_timing=True) for _ in range(3))
    x = torch.full((256, 256), 1e-3, device=DEVICE)
    torch.accelerator.synchronize()
    start.record()
    y = x
    for _ in range(20):
        y = y @ x
    end.record()
    end.synchronize()
    assert end.query()
    assert trace.latest().is_ready()  # What it came after is done.
    later.record()
    whole = start.elapsed_time(later)
    assert 0 < start.elapsed_time(end) <= whole
    assert start.elapsed_time(end) + end.elapsed_time(later) == pytest.approx(whole)
    assert y.shape == (256, 256)


def test_events_that_were_not_recorded_or_measure_no_time_are_refused() -> None:
    recorded = torch.polypath.Event(enable_timing=True)
    recorded.record()
    with pytest.raises(RuntimeError, match="were recorded"):
        recorded.elapsed_time(torch.polypath.Event(enable_timing=True))
    with pytest.raises(RuntimeError, match="enable_timing=True"):
        recorded.elapsed_time(torch.Event("polypath"))
    assert torch.Event("polypath").query()


def test_a_donated_result_does_not_disturb_an_event() -> None:
    x = torch.ones(1000, device=DEVICE)
    event = torch.polypath.Event(enable_timing=True)
    x.add_(1)
    event.record()
    x.add_(1)
    trace.flush()
    event.synchronize()
    assert event.query()
    assert event.elapsed_time(event) == 0
    assert x[0].item() == 3


def test_there_is_one_stream() -> None:
    stream = torch.polypath.current_stream()
    other = torch.polypath.Stream()
    assert stream == other == torch.accelerator.current_stream() == torch.Stream() == torch.polypath.default_stream()
    assert isinstance(stream, torch.Stream)
    with torch.polypath.stream(other), torch.polypath.device(0), torch.accelerator.device_index(0), torch.Stream():
        x = torch.ones(2, device=DEVICE) + 1
    other.wait_stream(stream)
    event = stream.record_event()
    other.wait_event(event)
    event.wait(other)
    x.record_stream(other)
    torch.accelerator.set_stream(other)
    stream.synchronize()
    assert stream.query()
    assert x.tolist() == [2, 2]


def test_to_synchronize_is_to_wait_and_raises_what_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.ones(2, device=DEVICE) * 3
    waited: list[int] = []
    monkeypatch.setattr(jax, "block_until_ready", lambda arrays: waited.append(len(arrays)))
    torch.accelerator.synchronize()
    torch.polypath.synchronize(DEVICE)
    assert len(waited) == 2
    assert min(waited) >= 1
    monkeypatch.undo()
    assert x.tolist() == [3, 3]


# --- The device ---------------------------------------------------------------------------------


def test_the_device_says_what_it_is() -> None:
    count = len(jax.devices())
    assert torch.polypath.get_device_name() == f"{count} x cpu"
    properties = torch.polypath.get_device_properties(0)
    assert (properties.platform, properties.devices) == ("cpu", count)
    assert torch.polypath.is_bf16_supported()
    assert not torch.polypath.is_tf32_supported()
    assert torch.bfloat16 in torch.accelerator.get_device_capability()["supported_dtypes"]
    with pytest.raises(pt.TorchError, match="no compute capability"):
        torch.polypath.get_device_capability()
    assert torch.accelerator.current_accelerator(check_available=True).type == "polypath"
    assert (torch.accelerator.device_count(), torch.accelerator.current_device_index()) == (1, 0)
    assert (torch.polypath.device_count(), torch.polypath.current_device()) == (1, 0)


ANOTHER = {
    "make": lambda: torch.ones(2, device="polypath:1"),
    "arange": lambda: torch.arange(2, device="polypath:1"),
    "to": lambda: torch.ones(2).to("polypath:1"),
    "method": lambda: torch.ones(2).polypath(1),
    "from there": lambda: torch.ones(2, device=DEVICE).to("polypath:1"),
    "index": lambda: torch.ones(2, device=3),
    "module": lambda: torch.nn.Linear(2, 2).to("polypath:1"),
    "generator": lambda: torch.Generator("polypath:1"),
    "set_device": lambda: torch.polypath.set_device("polypath:1"),
    "accelerator": lambda: torch.accelerator.set_device_index(1),
    "scope": lambda: torch.polypath.device(1),
    "stream": lambda: torch.Stream("polypath:1"),
}


@pytest.mark.parametrize("name", ANOTHER)
def test_another_device_is_refused_by_name(name: str) -> None:
    with pytest.raises(
        pt.TorchError, match=r"There is no polypath:\d: the one device, polypath:0, .* polypath\.torch\.shard"
    ):
        ANOTHER[name]()


# --- Generators ---------------------------------------------------------------------------------


def test_generators_of_the_device() -> None:
    def draw(generator: Any) -> list[float]:
        return torch.rand(3, device=DEVICE, generator=generator).tolist()

    ours = torch.Generator(device="polypath").manual_seed(4)
    assert ours.device == DEVICE
    first, second = draw(ours), draw(ours)
    assert first != second
    assert draw(torch.Generator("polypath").manual_seed(4)) == first
    ours.manual_seed(4)
    for twin in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours)), ours.clone_state()):
        assert twin.device == DEVICE
        assert draw(twin) == first
    state = ours.get_state()
    assert draw(ours) == first
    ours.set_state(state)
    assert draw(ours) == first
    assert ours.initial_seed() == 4
    assert isinstance(ours, torch.Generator)


def test_generators_of_the_cpu_are_torchs_own() -> None:
    for generator in (torch.Generator(), torch.Generator("cpu"), torch.Generator(device=torch.device("cpu"))):
        assert type(generator) is torch._C.Generator
        assert isinstance(generator, torch.Generator)
    assert isinstance(torch.default_generator, torch.Generator)
    assert issubclass(torch._C.Generator, torch.Generator)

    class Own(torch.Generator):
        pass

    assert isinstance(Own(), Own)
    assert not isinstance(torch.Generator(), Own)


# --- Pinned memory --------------------------------------------------------------------------------


def test_pinned_batches_are_copies() -> None:
    x = torch.arange(4.0)
    pinned = x.pin_memory()
    x += 1
    assert pinned.tolist() == [0, 1, 2, 3]
    assert not pinned.is_pinned()
    leaf = torch.ones(2, requires_grad=True)
    leaf.pin_memory().sum().backward()
    assert leaf.grad.tolist() == [1, 1]


def test_a_loader_that_pins_gives_its_batches() -> None:
    data = TensorDataset(torch.arange(64.0).reshape(32, 2))
    loader = DataLoader(data, 8, pin_memory=True)
    batches = [x.to(DEVICE, non_blocking=True) for (x,) in loader]
    assert torch.cat(batches).cpu().equal(data.tensors[0])


# --- The encoder's fused operators --------------------------------------------------------------------


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.filterwarnings("ignore:enable_nested_tensor", "ignore:Converting mask", "ignore:The PyTorch API of nested")
def test_an_encoder_that_does_not_train_is_as_on_the_cpu(norm_first: bool) -> None:
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(16, 4, 32, activation="gelu", norm_first=norm_first, batch_first=True)
    here = torch.nn.TransformerEncoder(layer, 2).eval()
    there = copy.deepcopy(here).to(DEVICE)
    x, padding = torch.randn(3, 5, 16), torch.zeros(3, 5, dtype=torch.bool)
    padding[1, 3:] = True
    causal = torch.nn.Transformer.generate_square_subsequent_mask(5)
    masks: list[dict[str, Any]] = [{}, {"src_key_padding_mask": padding}, {"mask": causal, "is_causal": True}]
    assert torch.backends.mha.get_fastpath_enabled()
    with torch.no_grad():
        for mask in masks:
            want = here(x, **mask)
            moved = {
                name: value.to(DEVICE) if isinstance(value, torch.Tensor) else value for name, value in mask.items()
            }
            got = there(x.to(DEVICE), **moved).cpu()
            kept = ~padding if "src_key_padding_mask" in mask else slice(None)
            torch.testing.assert_close(got[kept], want[kept])
        attention = here.layers[0].self_attn
        want, weights = attention(x, x, x)
        got, its = there.layers[0].self_attn(*[x.to(DEVICE)] * 3)
        torch.testing.assert_close((got.cpu(), its.cpu()), (want, weights))
