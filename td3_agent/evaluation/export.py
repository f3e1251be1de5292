# SPDX-License-Identifier: Apache-2.0
"""Export a policy to ONNX, checked against PyTorch, for the agent's ``inference: onnx``."""

from __future__ import annotations

from pathlib import Path
import shutil
from typing import TYPE_CHECKING

from td3_agent.nodes.drivers import SHIPPED_NAMES, policy_folder
from td3_agent.policy.checkpoint import MANIFEST_NAME, WEIGHTS_NAME
from td3_agent.policy.onnx_policy import ONNX_NAME, export_policy

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        'policy', help=f'a policy that ships ({SHIPPED_NAMES}), or a checkpoint folder'
    )
    parser.add_argument(
        '--out',
        type=Path,
        help='folder for a copy of the checkpoint with the export; without it, the export is '
        'written into the checkpoint folder',
    )


def run(args: argparse.Namespace) -> int:
    """Export, print what was compared, and return the exit status.

    Raises:
        ValueError: the checkpoint was refused, a library is missing, or the answers differ.
    """
    folder = policy_folder(args.policy)
    if args.out is not None:
        folder = _copied(folder, args.out)
    record = export_policy(folder)
    print(f'{"exported to":<22}{folder / ONNX_NAME}')
    print(f'{"size":<22}{(folder / ONNX_NAME).stat().st_size} bytes')
    print(f'{"observations compared":<22}{record.observations}')
    print(
        f"{'largest difference':<22}{record.largest_difference:.1e} of half an action's range, "
        f'at most {record.tolerance:.0e} allowed'
    )
    return 0


def _copied(folder: Path, out: Path) -> Path:
    """Copy a checkpoint into a folder that is new or empty.

    Raises:
        ValueError: something is there.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f'--out must name a folder that is new or empty, got {str(out)!r}')
    out.mkdir(parents=True, exist_ok=True)
    for name in (MANIFEST_NAME, WEIGHTS_NAME):
        shutil.copyfile(folder / name, out / name)
    return out
