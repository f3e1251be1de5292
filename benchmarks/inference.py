# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""One observation in, one action out: PyTorch beside ONNX Runtime, each on one thread.

The two take turns, frame by frame. Their actions are compared first. Needs onnx and
onnxruntime.
"""

from __future__ import annotations

from importlib.metadata import version
import time
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.harness import check_least, p50_p99_ms
from td3_agent.driving.memory import keep_freed_memory
from td3_agent.policy.checkpoint import load_checkpoint
from td3_agent.policy.onnx_policy import OnnxPolicy, sample_observations
from td3_agent.policy.policy_file import policy_file, read_policy

if TYPE_CHECKING:
    import argparse

WARM_UP = 20
POLICY = 'lane'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('--frames', type=int, default=2000, help='observations for each')


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Return latencies [ms] of both, and the ratio of their medians."""
    check_least(args, frames=1)
    torch.set_num_threads(1)
    keep_freed_memory()
    weights, manifest = read_policy(policy_file(POLICY))
    onnx = OnnxPolicy(manifest.actor, weights, trained=manifest.trained)
    drivers = {'torch': load_checkpoint(policy_file(POLICY))[0], 'onnx': onnx}
    compared = sample_observations(manifest.actor, args.frames)
    difference, _ = onnx.compare(drivers['torch'].action, compared)
    times_ms: dict[str, list[float]] = {runtime: [] for runtime in drivers}
    for state, image in sample_observations(drivers['torch'].config, WARM_UP + args.frames):
        for runtime, policy in drivers.items():
            start_s = time.perf_counter()
            policy.action(state, image)
            times_ms[runtime].append((time.perf_counter() - start_s) * 1e3)
    latency = {runtime: p50_p99_ms(times[WARM_UP:]) for runtime, times in times_ms.items()}
    return {
        'policy': POLICY,
        'frames': args.frames,
        'latency': latency,
        'ratio': latency['torch']['p50_ms'] / latency['onnx']['p50_ms'],
        'largest_difference': difference,
        'versions': {'torch': torch.__version__, 'onnxruntime': version('onnxruntime')},
    }
