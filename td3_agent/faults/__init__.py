# SPDX-License-Identifier: Apache-2.0
"""Loads and faults that the system has to survive, each runnable by its name."""
