#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One observation in, one action out: PyTorch beside ONNX Runtime, each on one thread.

The two take turns, frame by frame. The policy is exported, and thereby compared, first. Needs
onnx and onnxruntime. Prints a table; with ``--json`` the same as JSON.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
import shutil
import tempfile
import time
from typing import TYPE_CHECKING

import numpy as np
import torch

from td3_agent.bench.verb import machine
from td3_agent.driving.memory import keep_freed_memory
from td3_agent.nodes.drivers import SHIPPED_NAMES, policy_folder
from td3_agent.policy.checkpoint import load_checkpoint
from td3_agent.policy.onnx_policy import export_policy, load_onnx_policy, sample_observations

if TYPE_CHECKING:
    from td3_agent.policy.onnx_policy import OnnxRecord
    from td3_agent.policy.policy import Policy

WARM_UP = 20


def policies(name: str) -> tuple[dict[str, Policy], OnnxRecord]:
    """Return the policy under both runtimes, and the record of its export."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / 'policy'
        shutil.copytree(policy_folder(name), folder)
        record = export_policy(folder)
        return {'torch': load_checkpoint(folder)[0], 'onnx': load_onnx_policy(folder)[0]}, record


def measure(name: str, frames: int) -> dict:
    """Return latencies [ms] of both, and the ratio of their medians."""
    drivers, record = policies(name)
    spans_ms: dict[str, list[float]] = {runtime: [] for runtime in drivers}
    inputs = sample_observations(drivers['torch'].config, WARM_UP + frames)
    for number, (state, image) in enumerate(inputs):
        for runtime, policy in drivers.items():
            start_s = time.perf_counter()
            policy.action(state, image)
            if number >= WARM_UP:
                spans_ms[runtime].append((time.perf_counter() - start_s) * 1e3)
    latency = {}
    for runtime, spans in spans_ms.items():
        p50_ms, p99_ms = np.percentile(spans, (50, 99))
        latency[runtime] = {'p50_ms': p50_ms, 'p99_ms': p99_ms}
    return {
        'policy': name,
        'frames': frames,
        'latency': latency,
        'ratio': latency['torch']['p50_ms'] / latency['onnx']['p50_ms'],
        'largest_difference': record.largest_difference,
        'versions': {'torch': record.torch, 'onnxruntime': record.onnxruntime},
    }


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument(
        '--policy', default='lane', help=f'{SHIPPED_NAMES}, or a checkpoint folder'
    )
    arguments.add_argument('--frames', type=int, default=2000, help='observations for each')
    arguments.add_argument('--json', action='store_true', help='print JSON')
    args = arguments.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    report = {'machine': machine()} | measure(args.policy, args.frames)
    if args.json:
        print(json.dumps(report))
        return
    print(f'{"runtime":<10}{"p50 [ms]":>10}{"p99 [ms]":>10}')
    for runtime, row in report['latency'].items():
        print(f'{runtime:<10}{row["p50_ms"]:>10.3f}{row["p99_ms"]:>10.3f}')
    print(f'ONNX Runtime answers {report["ratio"]:.1f} times as fast')


if __name__ == '__main__':
    main()
