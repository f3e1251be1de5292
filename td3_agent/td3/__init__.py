# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The algorithm: learner, replay buffer, critics, health, snapshots. PyTorch; no ROS."""
