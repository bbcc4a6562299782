"""The training step on a GPU, for train_step.py --device gpu: who runs, how it is timed, and the floor.

Every candidate keeps its data on the card and trains the same network from the same weights; precision classes are not
mixed ("tf32": convolutions round their inputs to TF32, for both; "fp32": neither does). A turn is as many steps as fill
some 20 ms, between two CUDA events of the candidate's own stream; the candidates take turns.

    ours                    the captured step on a batch that lies there, which is also what PyTorch's candidates do
    ours, whole             the step of train.train: the batch is drawn, cropped, flipped and normalised too
    ours, N side by side    N such networks in one captured graph, the time per network
    torch ... eager | graph | reduce-overhead | max-autotune      in NCHW and channels_last
"""

import collections
import functools
import statistics
import sys
import time

import numpy as np
import timing

import minirewind as mr
from minirewind import kernels, tensor
from minirewind.tensor import Tensor

TURN = 0.02             # seconds
PEAK = 2e9              # bytes that the copy moves by which the bandwidth is measured


# Ours -----------------------------------------------------------------------------------------------------------------


def our_steps(options, data):
    """name -> (a function that asks for one step, the networks it trains)"""
    backend = kernels.backend(options.device)
    backend.precision = options.precision
    model, *others = (build(options, data, seed) for seed in range(max(1, options.replicas)))
    clock = backend.clock(mr.train.Clock(0, 0, 0, options.batch))
    mr.data.wind(clock, data, 0, 0.0)
    x, y = mr.data.batch(data, options.batch, clock, backend)
    candidates = {"ours": (fixed_step(model, x, y), 1)}
    candidates["ours, whole"] = whole_step([model], data, options), 1
    if others:
        candidates[f"ours, {len(others) + 1} side by side"] = (whole_step([model, *others], data, options),
                                                               len(others) + 1)
    return candidates, model, x, y


def build(options, data, seed):
    model = mr.models.build(options.network, input_shape=data.input_shape, classes=10)
    return model.initialise(seed).to(options.device)


def fixed_step(model, x, y):
    """Forward, backward, update, always of the same batch."""
    optimiser = mr.optim.SGD(model, weight_decay=2e-4)
    x, y = Tensor(x, device=optimiser.device), Tensor(y, device=optimiser.device)
    rate = optimiser.backend.asarray(np.float32(1e-6))
    model.train()

    def step():
        optimiser.zero_grad()
        mr.functional.cross_entropy(model(x), y).backward()
        optimiser.step(rate)
    return optimiser.backend.capture(step)


def whole_step(models, data, options):
    """The step of train.train_together, without its reports."""
    recipe = mr.train.Recipe(10**9, options.batch, rate=1e-6)
    runs = [mr.train.Run(model, data, recipe, seed=seed) for seed, model in enumerate(models)]
    step = runs[0].backend.capture(*(run.step for run in runs))

    def call():
        for run in runs:
            run.wind()
        step()
        for run in runs:
            run.count()
    return call


def launch_by_launch(options, data):
    """A few steps as they are, for a profiler that wants to see single kernels; how often each is launched."""
    backend = kernels.backend(options.device)
    backend.precision = options.precision
    run = mr.train.Run(build(options, data, 0), data, mr.train.Recipe(10**9, options.batch), seed=0)
    names, launch = collections.Counter(), backend.launch

    def counted(file, name, *arguments):
        names[name] += 1
        launch(file, name, *arguments)

    backend.launch = counted
    for _ in range(options.launches):
        run.wind()
        run.step()
        run.count()
    for name, count in names.most_common():
        print(f"{name:32}{count:6}")
    print(f"{names.total()} launches, besides CuPy's own; the loss is {float(run.clock.loss):.4f}")


# PyTorch's ------------------------------------------------------------------------------------------------------------


def torch_steps(options, model, x, y):
    """name -> (a function that asks for one step, 1); first each must compute our loss."""
    import torch
    import torch_networks

    device = "cuda" if options.device == "gpu" else "cpu"
    tf32 = options.precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = True
    backend = kernels.backend(options.device)
    images = torch.from_numpy(np.array(backend.to_host(x), order="C")).to(device)
    labels = torch.from_numpy(np.array(backend.to_host(y))).to(device)
    with tensor.no_grad():
        loss = mr.functional.cross_entropy(model.train()(Tensor(x, device=options.device)),
                                           Tensor(y, device=options.device)).item()
    ways = options.ways if device == "cuda" else ["eager"]
    orders = {"NCHW": torch.contiguous_format, "channels_last": torch.channels_last}
    candidates = {}
    for order, memory in orders.items():
        for way in ways:
            twin = torch_networks.build(options.network, model).to(device, memory_format=memory).train()
            try:
                step, first = torch_step(torch, twin, way, images.to(memory_format=memory), labels)
                for _ in range(3):              # what is compiled may be recorded later, and only then not work
                    step()
            except Exception as reason:
                print(f"torch {order} {way} does not work here: {str(reason).splitlines()[0][:100]}", file=sys.stderr)
                continue
            if not np.isclose(first, loss, rtol=1e-2):
                raise SystemExit(f"not the same network: our loss is {loss}, that of torch {order} {way} {first}")
            candidates[f"torch {order} {way}"] = step, 1
    return candidates


def torch_step(torch, twin, way, images, labels):
    """A function that asks for one step, and the loss of the first."""
    run = torch.compile(twin, mode=way) if way in ("reduce-overhead", "max-autotune") else twin
    optimiser = torch.optim.SGD(twin.parameters(), 1e-6, 0.9, weight_decay=2e-4, fused=True)

    def step():
        optimiser.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(run(images), labels)
        loss.backward()
        optimiser.step()
        return loss

    first = step().item()
    if way != "graph":
        return step, first
    side = torch.cuda.Stream()                  # as PyTorch's manual has it: warm up aside, then record
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    optimiser.zero_grad(set_to_none=True)
    with torch.cuda.graph(graph):
        step()
    return graph.replay, first


# Time -----------------------------------------------------------------------------------------------------------------


def stopwatch(options, name):
    """(call, count) -> milliseconds of `count` calls: by CUDA events of the stream that the candidate uses."""
    if options.device != "gpu":
        return by_the_wall
    if name.startswith("torch"):
        import torch
        cuda = torch.cuda
        return functools.partial(by_events, lambda: cuda.Event(enable_timing=True), lambda event: event.record(),
                                 lambda start, end: start.elapsed_time(end))
    cupy = kernels.backend("gpu").cupy
    stream = kernels.backend("gpu").stream
    return functools.partial(by_events, cupy.cuda.Event, stream.record, cupy.cuda.get_elapsed_time)


def by_events(make, record, elapsed, call, count):
    """Milliseconds of `count` calls, from event to event."""
    start, end = make(), make()
    record(start)
    for _ in range(count):
        call()
    record(end)
    end.synchronize()
    return elapsed(start, end)


def by_the_wall(call, count):
    """For devices whose work is done when the call returns."""
    start = time.perf_counter()
    for _ in range(count):
        call()
    return 1e3 * (time.perf_counter() - start)


def at_first_sight(candidates, watches):
    """Compile, record and replay each, and tell how long it takes, should the time be over before all is measured."""
    for name, (call, networks) in candidates.items():
        watches[name](call, 3)
        took = watches[name](call, 3) / 3 / networks
        print(f"{name:36s}{took:9.3f} ms at first sight", file=sys.stderr, flush=True)


def interleaved(candidates, watches, seconds, turns):
    """name -> Timing of one step of one network: medians and quartiles over turns that the candidates take in turn."""
    counts, times = {}, {name: [] for name in candidates}
    for name, (call, _) in candidates.items():
        watches[name](call, 3)                                      # compiled, recorded, replayed
        counts[name] = max(1, round(1e3 * TURN / watches[name](call, 1)))
    end = time.monotonic() + seconds
    while time.monotonic() < end and min(map(len, times.values())) < turns:
        for name, (call, networks) in candidates.items():
            times[name].append(watches[name](call, counts[name]) / counts[name] / networks)
    return {name: timing.timing(each, len(each)) for name, each in times.items()}


# The floor ------------------------------------------------------------------------------------------------------------


def floor(model, x, y, batch):
    """(bytes, operations) that a step cannot do without, kernel by kernel, at float32.

    Every kernel reads its images once and writes its result once: nothing is in any cache, and what one kernel
    computes for the next one goes through memory, but for the batch's statistics, which the convolution leaves. So
    forward a convolution is two passes over images and batch norm two, and one more with a residual. Backward: batch
    norm's sums and then its gradient each read three, and write one (two with a residual); the convolution's two
    gradients read two each, and the input's is written. Weights count three times, and five times in the update.
    """
    with tensor.recording() as calls:
        mr.functional.cross_entropy(model.train()(x), y)
    images, operations, scale = 0, 0, batch / len(x)
    for call in calls:
        name, z = call.function.__name__, call.output.size
        if name in ("Conv2d", "SparseConv2d"):
            first = call.inputs[0].function is None
            per_output = 2 * call.inputs[1].size // call.inputs[1].shape[0]
            operations += z * per_output * (2 if first else 3)
            images += 2 * (call.inputs[0].size + z) + (0 if first else call.inputs[0].size + z)
        elif name == "BatchNorm":
            residual = len(call.inputs) == 4
            images += (2 + residual) * z + (3 + 3 + 1 + residual) * z
        elif name == "Linear":
            operations += 6 * call.inputs[0].size * call.inputs[1].shape[0]
    weights = sum(p.size for p in model.parameters())
    return 4 * (scale * images + 8 * weights), scale * operations


def ceilings(options):
    """Bytes and operations per second of this card: a large copy, and a large matrix product of PyTorch's."""
    cupy = kernels.backend("gpu").cupy
    source = cupy.ones(int(PEAK) // 8, cupy.float32)
    target = cupy.empty_like(source)
    watch = stopwatch(options, "ours")
    watch(lambda: cupy.copyto(target, source), 3)
    copied = statistics.median(watch(lambda: cupy.copyto(target, source), 10) / 10 for _ in range(5))
    found = {"bytes_per_second": 2 * source.nbytes / (1e-3 * copied)}
    if options.against:
        import torch
        torch.backends.cuda.matmul.allow_tf32 = options.precision == "tf32"
        a, b = (torch.randn(8192, 8192, device="cuda") for _ in range(2))
        watch = stopwatch(options, "torch")
        watch(lambda: a @ b, 3)
        took = statistics.median(watch(lambda: a @ b, 3) / 3 for _ in range(5))
        found["operations_per_second"] = 2 * 8192**3 / (1e-3 * took)
    return found


# The record -----------------------------------------------------------------------------------------------------------


def card():
    """The card and what drives it, for the record."""
    runtime = kernels.backend("gpu").cupy.cuda.runtime
    properties = runtime.getDeviceProperties(0)
    return {"name": properties["name"].decode(), "multiprocessors": properties["multiProcessorCount"],
            "l2_bytes": properties["l2CacheSize"], "memory_bytes": properties["totalGlobalMem"],
            "driver": runtime.driverGetVersion(), "runtime": runtime.runtimeGetVersion(),
            "cupy": kernels.backend("gpu").cupy.__version__}


def measure(options, data):
    """Time everything; the record for the JSON."""
    rates = ceilings(options) if options.device == "gpu" else {}
    about = {"card": card(), "ceilings": rates} if rates else {}
    candidates, model, x, y = our_steps(options, data)
    watches = {name: stopwatch(options, name) for name in candidates}
    at_first_sight(candidates, watches)
    few = [Tensor(a, device=options.device) for a in mr.data.whole(data.train, 0, 2, kernels.backend(options.device))]
    moved, computed = floor(model, *few, options.batch)
    if options.against:
        theirs = torch_steps(options, model, x, y)
        watches |= {name: stopwatch(options, name) for name in theirs}
        at_first_sight(theirs, watches)
        candidates |= theirs
    measured = interleaved(candidates, watches, options.seconds, options.turns)
    record = {"precision": options.precision, "replicas": options.replicas, "bytes": moved, "operations": computed}
    if rates:
        bounds = [1e3 * moved / rates["bytes_per_second"]]
        if "operations_per_second" in rates:
            bounds.append(1e3 * computed / rates["operations_per_second"])
        record |= {**about, "floor_ms": max(bounds), "floor_share": max(bounds) / measured["ours"].median,
                   "not_captured": sorted(kernels.backend("gpu").told)}
    theirs = {name: timed.median for name, timed in measured.items() if name.startswith("torch")}
    ways = {"eager": [ms for name, ms in theirs.items() if name.endswith("eager")],
            "best": list(theirs.values())}
    for way, times in ways.items():
        if times:
            record[f"ratio_to_{way}"] = min(times) / measured["ours"].median
    if options.replicas > 1:
        together = measured[f"ours, {options.replicas} side by side"].median
        record["ratio_of_replicas"] = measured["ours, whole"].median / together
    return record, measured
