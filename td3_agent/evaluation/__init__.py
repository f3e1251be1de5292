# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Evaluation: episodes, figures, tables, pictures, the demo; ROS only where it drives over ROS."""
