# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Bags: recording a drive, replaying it offline and live, and looking at it in a browser."""
