# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Makes ``made_bags`` importable by the tests of this folder, and by programs that they start."""

from pathlib import Path
import sys

sys.path.append(str(Path(__file__).parent))
