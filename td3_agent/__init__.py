# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""A TD3 driving agent for the CARLA ROS bridge."""

__version__ = '0.1.0'
