# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""One observation in, one action out: PyTorch beside ONNX Runtime, each on one thread.

The two take turns, frame by frame. The policy is exported, and thereby compared, first. Needs
onnx and onnxruntime.
"""

from __future__ import annotations

from pathlib import Path
import shutil
import tempfile
import time
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.harness import check_least, p50_p99_ms
from td3_agent.driving.memory import keep_freed_memory
from td3_agent.policy.checkpoint import load_checkpoint
from td3_agent.policy.onnx_policy import export_policy, load_onnx_policy, sample_observations
from td3_agent.policy.policy_file import policy_file

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
    with tempfile.TemporaryDirectory() as parent:
        path = Path(shutil.copy(policy_file(POLICY), parent))
        record = export_policy(path)
        drivers = {'torch': load_checkpoint(path)[0], 'onnx': load_onnx_policy(path)[0]}
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
        'largest_difference': record.largest_difference,
        'versions': {'torch': record.torch, 'onnxruntime': record.onnxruntime},
    }
