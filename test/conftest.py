# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""What tests share: an environment of the run, contexts and domains for ROS 2 nodes, deadlines.

Where rclpy or carla_msgs is missing, the tests that need them are skipped, not failed.
"""

import atexit
from importlib.util import find_spec
import logging
import os
from pathlib import Path
import shutil
import signal
import site
import sys
import tempfile

import hypothesis
import pytest

from td3_agent import processes

# Examples have no time limit of their own: the machine may be busy with something else. Those that
# failed in an earlier run are not tried again by themselves; the report says how to.
hypothesis.settings.register_profile('td3_agent', deadline=None, database=None, print_blob=True)
hypothesis.settings.load_profile('td3_agent')

# Would lead to files and servers of the user's: caches, settings, logs, a running cluster.
STRAYS = ('MPLCONFIGDIR', 'RAY_ADDRESS', 'RAY_TMPDIR', 'ROS_HOME', 'ROS_LOG_DIR', 'TORCH_HOME')
STRAYS += ('XDG_CACHE_HOME', 'XDG_CONFIG_HOME', 'XDG_DATA_HOME', 'XDG_STATE_HOME')
IS_WORKER = 'PYTEST_XDIST_WORKER' in os.environ  # of a run whose folder is there already


def make_run_folder():
    """Give this run an empty HOME and TMPDIR of its own; return the folder that holds both."""
    folder = Path(tempfile.mkdtemp(prefix='td3_'))
    os.environ['PYTHONUSERBASE'] = site.getuserbase()  # packages in HOME are still found
    for name in STRAYS:
        os.environ.pop(name, None)
    for name, path in (('HOME', folder / 'home'), ('TMPDIR', folder)):
        path.mkdir(exist_ok=True)
        os.environ[name] = str(path)
    tempfile.tempdir = None
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


# Shells ignore SIGINT for what they start with "&", and programs inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
RUN_FOLDER = None if IS_WORKER else make_run_folder()
# Before rclpy is imported: what the tests say stays on this machine and in a domain of their own.
os.environ |= processes.ros_environment(processes.free_domain_id())
DOMAIN_LOCK = processes._locks.pop()  # held until this process ends

if find_spec('launch_ros'):  # the folder launch/ of the checkout is found as "launch"
    import launch.logging  # noqa: F401

    logging.setLoggerClass(logging.Logger)  # loggers of launch's class never reach caplog

# Scripts are programs, not a package; their functions are tested by importing them. Benchmarks
# are a package of the checkout that is not installed.
sys.path += [str(Path(__file__).parents[1] / 'scripts'), str(Path(__file__).parents[1])]
sys.path.append(str(Path(__file__).parent))

import forked  # noqa: E402

ROS_FOLDERS = ('faults', 'node', 'system')
APART = ('faults', 'system')
WITH_SHARED_DRIVES = ('test_bags_system.py', 'test_ros_env.py')  # in fixtures of their modules
WITHOUT_ROS = ('test_launch_files.py',)  # bring stand-ins of their own
MISSING = [name for name in ('rclpy', 'carla_msgs') if find_spec(name) is None]
LONGEST_S = 300.0  # of any test, on however busy a machine


class ModuleWithoutRos(pytest.Module):
    """A test module that cannot even be imported here."""

    def collect(self):
        pytest.skip(f'needs ROS 2: {" and ".join(MISSING)} not found', allow_module_level=True)


def pytest_configure(config):
    """Fork node programs, except where everything is tested, the start of programs too."""
    if config.option.markexpr:
        processes.ProcessGroup.popen = staticmethod(forked.start)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):  # noqa: ARG001  pytest's name
    """Have the kernel end the process if a test hangs; pytest-xdist goes on with another one.

    Fast DDS can lock up while it holds the interpreter: then no other thread of Python runs, and
    no handler of a signal, which is all that pytest-timeout has. ``faulthandler_timeout`` in
    pyproject.toml tells where, shortly before.
    """
    signal.setitimer(signal.ITIMER_REAL, LONGEST_S)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0.0)


def pytest_collection_modifyitems(items):
    """Begin with what takes long, so that two processes end at about the same time."""
    items.sort(
        key=lambda item: not {'system', 'slow'} & {mark.name for mark in item.iter_markers()}
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Give each process of pytest-xdist a whole file at a time, of processes a test."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            path = Path(nodeid.partition('::')[0])
            is_apart = path.parent.name in APART and path.name not in WITH_SHARED_DRIVES
            return nodeid if is_apart else str(path)

    config.option.loadscopereorder = False
    return Scheduling(config, log)


def pytest_sessionfinish(session):
    """Keep what the run has written when something failed."""
    if RUN_FOLDER and session.testsfailed:
        atexit.unregister(shutil.rmtree)
        print(f'\nfiles of this run: {RUN_FOLDER}')


def pytest_terminal_summary(terminalreporter):
    """Tell why a test ran twice (pytest-rerunfailures only names it)."""
    for report in terminalreporter.stats.get('rerun', []):
        told = getattr(report.longrepr, 'reprcrash', None) or report.longrepr
        terminalreporter.write_line(f'ran twice: {report.nodeid}: {told}', yellow=True)


def module_without_ros(parent, file, **where):
    """Return what stands for a test module that needs ROS 2, where there is none."""
    folder = file.relative_to(Path(__file__).parent).parts[0]
    if MISSING and folder in ROS_FOLDERS and file.name not in WITHOUT_ROS:
        return ModuleWithoutRos.from_parent(parent, **where)
    return None


if hasattr(pytest, 'version_tuple'):  # from 7 on

    def pytest_pycollect_makemodule(module_path, parent):
        return module_without_ros(parent, module_path, path=module_path)

else:  # that of Ubuntu 22.04, which colcon test takes there

    def pytest_pycollect_makemodule(path, parent):
        return module_without_ros(parent, Path(path), fspath=path)


# Nodes of one process hear of each other within milliseconds.
TIMINGS = {
    'liveliness.LOOK_PERIOD_S': 0.01,
    'liveliness.SETTLE_NS': 50_000_000,
    'synchronizer_node.GRAPH_PERIOD_S': 0.02,
    'gate_node.GRAPH_PERIOD_S': 0.02,
}


@pytest.fixture
def ros(monkeypatch):
    """Nodes with a context and a domain of their own, ended after the test."""
    from harness.ros import Ros

    for name, value in TIMINGS.items():
        monkeypatch.setattr(f'td3_agent.nodes.{name}', value)
    nodes = Ros(processes.free_domain_id())
    try:
        yield nodes
    finally:
        nodes.close()


@pytest.fixture
def rig(request, tmp_path):
    """Processes in a ROS domain of their own, and what is expected of them.

    ``make faults`` runs its cases in full length; here other tests run beside.
    """
    from harness.rig import Rig

    campaign = getattr(request.config, 'campaign', None)
    options = {'folder': tmp_path, 'quick': True, 'patience': 4.0}
    with Rig(**(campaign.options(request) if campaign else options)) as made:
        yield made


@pytest.fixture
def program():
    """Return a function that starts ``python -m`` with words; nothing is left of it afterwards."""
    from harness.programs import Program

    programs = []

    def start(*words, **options):
        programs.append(Program(*words, **options))
        return programs[-1]

    yield start
    for each in programs:
        each.kill()


@pytest.fixture
def diagnosed(ros):
    """Return what nodes say of themselves: the newest status of a node, and a wait for one."""
    from harness.ros import Diagnosed

    return Diagnosed(ros)
