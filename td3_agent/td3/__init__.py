# SPDX-License-Identifier: Apache-2.0
"""The algorithm: networks, policy and checkpoint. PyTorch; no ROS."""
