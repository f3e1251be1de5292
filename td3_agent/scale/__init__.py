# SPDX-License-Identifier: Apache-2.0
"""Many processes and machines, by Ray: rollout workers, episodes, sweeps."""
