# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Export a policy to ONNX for other programs, checked against PyTorch.

The agent needs no export: it makes its own model of the weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from td3_agent.files import replace_file
from td3_agent.policy.checkpoint import load_checkpoint
from td3_agent.policy.onnx_policy import TOLERANCE, OnnxPolicy, onnx_model, sample_observations
from td3_agent.policy.policy_file import SHIPPED_NAMES, CheckpointError, policy_file, read_policy

if TYPE_CHECKING:
    import argparse

RANDOM_OBSERVATIONS = 64


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        'policy', help=f'a policy that ships ({SHIPPED_NAMES}), or a .safetensors file'
    )
    parser.add_argument(
        '--out', type=Path, help='folder of the export; without it, that of the policy'
    )


def run(args: argparse.Namespace) -> int:
    """Export, print what was compared, and return the exit status.

    Raises:
        ValueError: the checkpoint is invalid, a library is missing, or the answers differ.
    """
    policy = policy_file(args.policy)
    target = (args.out or policy.parent) / f'{policy.stem}.onnx'
    difference, observations = export_policy(policy, target)
    print(f'{"exported to":<22}{target}')
    print(f'{"size":<22}{target.stat().st_size} bytes')
    print(f'{"observations compared":<22}{observations}')
    print(
        f"{'largest difference':<22}{difference:.1e} of half an action's range, "
        f'at most {TOLERANCE:.0e} allowed'
    )
    return 0


def export_policy(policy: Path, target: Path) -> tuple[float, int]:
    """Compare a policy under both runtimes, and write the model.

    Returns:
        What :meth:`OnnxPolicy.compare` returns.

    Raises:
        ValueError: the checkpoint was refused, a library is missing, or the answers differ.
    """
    weights, manifest = read_policy(policy)
    try:
        onnx_policy = OnnxPolicy(manifest.actor, weights, trained=manifest.trained)
        observations = sample_observations(manifest.actor, RANDOM_OBSERVATIONS)
        compared = onnx_policy.compare(load_checkpoint(policy)[0].action, observations)
    except ImportError as error:
        raise ValueError(
            f'export needs {error.name}, which is not installed: "pip install onnx onnxruntime"'
        ) from error
    except ValueError as error:
        raise CheckpointError(policy, [f'not exported: {error}']) from error
    target.parent.mkdir(parents=True, exist_ok=True)
    replace_file(target, onnx_model(manifest.actor, weights))
    return compared
