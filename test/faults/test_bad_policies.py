# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Cases with a bad policy: its file, or the driver while it drives."""

import json
import os
import pickle
import shutil
import time

from diagnostic_msgs.msg import DiagnosticStatus
from faults.by_hand import BridgeByHand
from harness.messages import ROLE
from harness.programs import resources
from harness.rig import LONGEST_NAMING_S, LONGEST_STOP_S
from harness.ros import lifecycle_state
from harness.watcher import is_stop
import numpy as np
import pytest

from td3_agent.nodes import topics
from td3_agent.nodes.diagnostics import INSTANCE, instance_of
from td3_agent.nodes.gate_node import GateNode
from td3_agent.nodes.td3_agent_node import Td3AgentNode
from td3_agent.policy.policy_file import MANIFEST_KEY, policy_file

MOST_GROWTH_MB = 128.0  # caches of torch; an allocation by a bad header is far more
SLOW_S = 0.7  # far beyond max_frame_age_s, 0.5 s
DEADLINE_S = 0.2
CANARY = 'TD3_AGENT_CANARY'  # path of the file that a hostile pickle creates


class Hostile:
    """Runs a program when it is unpickled."""

    def __reduce__(self):
        return os.system, (f'touch ${CANARY}',)


HOSTILE = pickle.dumps(Hostile())


def cut_to(share):
    def damage(path):
        data = path.read_bytes()
        path.write_bytes(data[: int(share * len(data))])

    return damage


def one_bit_flipped(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def edited(*keys, value):
    """Change the manifest in the header of the file, tensors as they were."""

    def damage(path):
        data = path.read_bytes()
        end = 8 + int.from_bytes(data[:8], 'little')
        header = json.loads(data[8:end])
        content = part = json.loads(header['__metadata__'][MANIFEST_KEY])
        for key in keys[:-1]:
            part = part[key]
        part[keys[-1]] = value
        header['__metadata__'][MANIFEST_KEY] = json.dumps(content)
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, 'little') + text + data[end:])

    return damage


def replaced(data):
    """Replace the file by other content of the same size."""
    return lambda path: path.write_bytes(data.ljust(path.stat().st_size, b'\0'))


DAMAGES = {  # the change of the file, and a word of the reported reason
    'missing file': (lambda path: path.unlink(), 'No such file'),
    'cut to nothing': (cut_to(0.0), 'empty (0 bytes)'),
    'cut to a half': (cut_to(0.5), 'bytes of weights'),
    'one bit': (one_bit_flipped, 'SHA-256'),
    'another kind': (edited('kind', value='gymnasium'), 'kind'),
    'endless image': (edited('actor', 'image_shape', value=[4, 1 << 30, 1 << 30]), 'image'),
    'pickle': (replaced(HOSTILE), 'header length'),
    'header of 2^62 bytes': (replaced((1 << 62).to_bytes(8, 'little')), 'header length'),
    'writable by everyone': (lambda path: path.chmod(0o777), 'writable by everyone'),
    'folder writable by everyone': (
        lambda path: path.parent.chmod(0o777),
        'its folder is writable by everyone',
    ),
}


@pytest.mark.case('F14', 'checkpoints that are damaged, or hostile')
def test_checkpoint_damaged(rig):
    """Rejected with a reason, before any allocation; nothing runs, nothing is published."""
    canary = rig.folder / 'canary'
    os.environ[CANARY] = str(canary)
    good = policy_file('lane')
    ros = rig.nodes()
    bridge = BridgeByHand(ros)
    start_agent(ros, bridge, good)  # loads torch, which allocates once
    before_mb = resources()['rss_mb']
    for number, (what, (damage, words)) in enumerate(DAMAGES.items()):
        path = rig.folder / f'policy_{number}' / good.name
        path.parent.mkdir(mode=0o755)
        shutil.copyfile(good, path)
        damage(path)
        state, said, publishers = start_agent(ros, bridge, path)
        assert (state, said.level) == ('unconfigured', DiagnosticStatus.ERROR), what
        assert words in said.message, what
        assert publishers == 0, what
    growth_mb = resources()['rss_mb'] - before_mb
    assert bridge.twists == []
    state, _, publishers = start_agent(ros, bridge, good)
    assert (state, publishers) == ('active', 2), 'the undamaged one'
    assert not canary.exists(), 'code of a pickle was run'
    assert growth_mb <= MOST_GROWTH_MB
    rig.figures |= {'checkpoints': len(DAMAGES), 'memory_grown_mb': round(growth_mb, 1)}


def start_agent(ros, bridge, policy):
    """Start an agent on a policy; return its state, status and number of command publishers."""
    node = ros.make(Td3AgentNode, driver='td3', policy=str(policy))
    own, commands = instance_of(node), (topics.twist(ROLE), topics.twist_stamped(ROLE))
    ros.spin_until(lambda: lifecycle_state(node) in {'unconfigured', 'active'}, 'a decision')
    ros.spin_until(lambda: bridge.status.value('td3_agent', INSTANCE) == own, 'diagnostics')
    publishers = sum(publisher.topic_name in commands for publisher in node.publishers)
    found = lifecycle_state(node), bridge.status('td3_agent'), publishers
    ros.drop(node)
    return found


def raising(error):
    def act(_):
        raise error

    return act


def slow(_):
    time.sleep(SLOW_S)
    return np.array([1.0, 0.0], np.float32)


MISBEHAVIOURS = {  # what the driver does, and a word of the diagnostics
    'an action that is no number': (lambda _: np.array([np.nan, 0.0], np.float32), 'finite'),
    'an action of another size': (lambda _: np.zeros(3, np.float32), 'shape'),
    'a TypeError': (raising(TypeError('out of order')), 'out of order'),
    'no memory': (raising(MemoryError('no memory left')), 'no memory left'),
    'a RuntimeError of torch': (raising(RuntimeError('CUDA out of memory')), 'CUDA'),
    f'a response after {SLOW_S} s': (slow, 'driver answered after'),
}


@pytest.mark.case('F15', 'a policy that returns NaN, raises, or takes its time')
def test_policy_misbehaves(rig):
    """The car is stopped, diagnostics say why, and it drives again when the policy does."""
    ros = rig.nodes()
    bridge = BridgeByHand(ros)
    # On its own thread: while the policy sleeps, the gate must not.
    ros.make_apart(GateNode, deadline_s=DEADLINE_S, silence_s=60.0)
    agent = ros.make_apart(Td3AgentNode, driver='pure_pursuit')
    bridge.wait_until_driving()
    driver = agent.loaded.driver
    act, slowest_s = driver.act, 0.0
    for what, (bad, words) in MISBEHAVIOURS.items():
        driver.act = bad
        begun_s = time.monotonic()
        command = bridge.answered(bridge.give())
        slowest_s = max(slowest_s, time.monotonic() - begun_s)
        assert is_stop(command), f'{what} stops the car'
        named_s = ros.within(
            lambda words=words: bridge.status.faulty('td3_agent', words),
            LONGEST_NAMING_S + SLOW_S,
        )
        assert named_s is not None, f'{what} is diagnosed'
        driver.act = act
        ros.spin_until(lambda: not is_stop(bridge.answered(bridge.give())), 'driving again')
    rig.in_time('slowest stop', slowest_s, LONGEST_STOP_S)
    bridge.expect_sound()
    rig.figures |= {'slowest_stop_s': round(slowest_s, 3), 'kinds': len(MISBEHAVIOURS)}
