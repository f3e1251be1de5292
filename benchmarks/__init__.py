# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Programs that measure how fast a part is: ``make bench NAME=…``, ``python -m benchmarks``."""
