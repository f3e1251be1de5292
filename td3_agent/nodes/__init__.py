# SPDX-License-Identifier: Apache-2.0
"""Thin rclpy nodes: they turn messages into values, call the pure code, and publish."""
