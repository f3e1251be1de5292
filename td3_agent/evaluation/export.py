# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Export a policy to ONNX, checked against PyTorch, for the agent's ``inference: onnx``."""

from __future__ import annotations

from pathlib import Path
import shutil
from typing import TYPE_CHECKING

from td3_agent.policy.onnx_policy import export_policy, onnx_file
from td3_agent.policy.policy_file import SHIPPED_NAMES, policy_file, read_manifest

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        'policy', help=f'a policy that ships ({SHIPPED_NAMES}), or a .safetensors file'
    )
    parser.add_argument(
        '--out',
        type=Path,
        help='folder for a copy of the policy with the export beside it; without it, the '
        'export is written beside the policy',
    )


def run(args: argparse.Namespace) -> int:
    """Export, print what was compared, and return the exit status.

    Raises:
        ValueError: the checkpoint was refused, a library is missing, or the answers differ.
    """
    policy = policy_file(args.policy)
    if args.out is not None:
        policy = _copied(policy, args.out)
    record = export_policy(policy)
    print(f'{"exported to":<22}{onnx_file(policy)}')
    print(f'{"size":<22}{onnx_file(policy).stat().st_size} bytes')
    print(f'{"observations compared":<22}{record.observations}')
    print(
        f"{'largest difference':<22}{record.largest_difference:.1e} of half an action's range, "
        f'at most {record.tolerance:.0e} allowed'
    )
    return 0


def _copied(policy: Path, out: Path) -> Path:
    """Copy a policy into a folder that is new or empty; returns its file there.

    Raises:
        ValueError: something is there, or there is no such policy.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f'--out must name a folder that is new or empty, got {str(out)!r}')
    read_manifest(policy)
    out.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copyfile(policy, out / policy.name))
