# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""What a drive is made of, in plain NumPy: no ROS, no torch, no simulator."""
