# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Training: environments, exploration, the loop, its logs and its snapshots; no ROS."""
