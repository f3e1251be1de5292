# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Training on a cluster of several machines, made up on this one; one of them goes away."""

from contextlib import ExitStack
import os
from pathlib import Path
import signal

import pytest

ray = pytest.importorskip('ray', reason='needs Ray: pip install -r requirements/ray.in')
pytest.importorskip('gymnasium')

from ray._private import ray_constants  # noqa: E402
from ray.cluster_utils import Cluster  # noqa: E402
from ray_runs import trainer_of, unclosed_files_ignored  # noqa: E402

from td3_agent.training import ray_rollouts as module  # noqa: E402
from td3_agent.training.ray_session import (  # noqa: E402
    ENVIRONMENT,
    OBJECT_STORE_BYTES,
    ray_session,
    session_folder,
)

pytestmark = pytest.mark.slow

PATIENCE_S = 60.0


@pytest.fixture
def cluster():
    """Three machines on the loopback interface; the learner's has no CPU for workers."""
    memory = {'object_store_memory': OBJECT_STORE_BYTES}
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        folder = Path(stack.enter_context(session_folder()))
        (folder / 'ray').mkdir()  # Ray writes the cluster's address there, and does not make it
        patch.setenv('RAY_TMPDIR', str(folder))
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        patch.setenv('PYTHONPATH', str(Path(__file__).parent), prepend=os.pathsep)
        patch.setenv(ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR, '0')  # see session.py
        patch.setattr(ray_constants, 'ENABLE_RAY_CLUSTER', False)
        head = {'num_cpus': 0, 'include_dashboard': False, 'temp_dir': str(folder), **memory}
        # Starting a machine puts a handler of Ray's there, for good.
        stack.callback(signal.signal, signal.SIGTERM, signal.getsignal(signal.SIGTERM))
        with unclosed_files_ignored():
            made = Cluster(initialize_head=True, head_node_args=head)
            stack.callback(made.shutdown)
            made.others = [made.add_node(num_cpus=1, **memory) for _ in range(2)]
            stack.enter_context(ray_session(made.address, 2))
        yield made
        with unclosed_files_ignored():
            stack.close()


def wait_for(answers):
    ray.wait(answers, num_returns=len(answers), timeout=PATIENCE_S, fetch_local=False)


def test_cluster_may_make_the_learner_wait_and_lose_a_machine(
    cluster, tmp_path, monkeypatch, caplog
):
    trainer = trainer_of(tmp_path / 'run', 100, 'Wide', 'Wide', fragment_steps=10)
    rollouts = trainer._rollouts
    rollouts.start()
    while len(rollouts._asked) < 2 or not all(p.is_there for p in rollouts._slots):
        rollouts.act(0)
    # Both fragments are done, on other machines, and the learner comes back after ages.
    wait_for(list(rollouts._asked))
    with monkeypatch.context() as patch:
        patch.setattr(module, 'LOOK_S', 0.0)
        rollouts._clock_s += 2.0 * module.PATIENCE_S
        assert rollouts.act(0) == 20
    assert rollouts.lost == 0
    cluster.remove_node(cluster.others[0])
    while rollouts.lost == 0:
        rollouts.act(0)
    # Nowhere is room for the new worker; the other one goes on.
    (there,) = (n for n, slot in enumerate(rollouts._slots) if slot.is_there)
    wait_for([answer for answer, stream in rollouts._asked.items() if stream == there])
    rollouts._clock_s += 2.0 * module.PATIENCE_S
    assert rollouts.act(0) == 10
    assert rollouts.lost == 1
    assert '1 of 2 workers are not there after 300 s' in caplog.text
    trainer.close()
