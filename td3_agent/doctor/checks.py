# SPDX-License-Identifier: Apache-2.0
"""Judges a machine. Pure: facts in, findings out.

Each check yields what is wrong, and where nothing is, one line that says what was found.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import PurePath
from typing import TYPE_CHECKING

from td3_agent.doctor.findings import Finding, Level
from td3_agent.doctor.versions import (
    CARLA_MSGS_HASHES,
    ENDED_DISTROS,
    NUMPY_OF_DISTRO,
    PYTHON_OF_DISTRO,
    PYTHONS_OF_ROS_WHEELS,
    SIM_CARLA,
    carla_pythons,
    distros_for_carla,
    text,
)
from td3_agent.fastdds import profile_variable, stays_on_this_machine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from td3_agent.doctor.facts import Copy, Import, Machine

NEEDED = ('rclpy', 'geometry_msgs.msg', 'carla_msgs.msg', 'numpy', 'yaml', 'torch')
JUDGED_ELSEWHERE = ('carla', 'google.protobuf')
OPENCV = (
    'opencv-python',
    'opencv-python-headless',
    'opencv-contrib-python',
    'opencv-contrib-python-headless',
)
APT_FOLDERS = ('/usr/lib/python3/dist-packages', '/opt/ros')
# What an extension says when it meets another NumPy, C++ library or Python than its own.
ABI_SIGNS = (
    '_ARRAY_API',
    'numpy.core.multiarray failed',
    'compiled using NumPy',
    'numpy.dtype size changed',
    'undefined symbol',
    'GLIBCXX',
    'version `GLIBC',
    'ended by signal',
)
NOT_IN_TIME = 'not imported in time'
DEFAULT_RMW = 'rmw_fastrtps_cpp'
# Of Fast DDS without a profile.
DEFAULT_SEGMENT_BYTES = 512 * 1024
BYTES_PER_PIXEL = 4  # bgra8
IMAGES_UNDER_WAY = 4
PROCESSES = 4  # bridge, agent, gate, synchronizer
SMALL_SEGMENT_BYTES = 1024 * 1024  # of a process that sends no images
MEGABYTE = 1_000_000
SHM = '/dev/shm'  # noqa: S108  where Fast DDS keeps its segments
LEAST_DISK_BYTES, ENOUGH_DISK_BYTES = 100 * MEGABYTE, 1000 * MEGABYTE
LAST_SAFE_DOMAIN, LAST_DOMAIN = 101, 232  # beyond, ports that Linux hands out; none at all
INSTALL_MESSAGES = (
    'build them: colcon build --paths interfaces/carla_msgs, then source the install'
)


def all_findings(machine: Machine) -> list[Finding]:
    """Return the findings of every check, in order."""
    found: list[Finding] = []
    for check in CHECKS:
        found += check(machine)
    return found


def check_python(machine: Machine) -> Iterator[Finding]:
    """This package's Python, and the distribution's."""
    python, distro = machine.python, machine.environment.get('ROS_DISTRO', '')
    found = f'Python {text(python)} ({machine.executable})'
    if python not in PYTHONS_OF_ROS_WHEELS:
        fix = 'use Python 3.10, 3.11 or 3.12 (make setup PYTHON=/path/to/it)'
        yield Finding(Level.ERROR, 'python', f'{found} is not supported', fix)
        return
    native = PYTHON_OF_DISTRO.get(distro)
    if native and native != python and _is_apt(machine):
        yield Finding(
            Level.ERROR,
            'python',
            f'{found}, but ROS 2 {distro} from apt is built for Python {text(native)}',
            f'start with /usr/bin/python{text(native)}, or use the PyPI wheels (make setup)',
        )
        return
    yield Finding(Level.OK, 'python', found)


def check_distro(machine: Machine) -> Iterator[Finding]:
    """One distribution, a living one, and the one that was sourced."""
    distro = machine.environment.get('ROS_DISTRO', '')
    sourced = {
        PurePath(prefix).parts[3]
        for prefix in machine.ros_prefixes
        if prefix.startswith('/opt/ros/') and len(PurePath(prefix).parts) > 3
    }
    if not distro:
        yield Finding(
            Level.WARNING,
            'distro',
            'no ROS 2 is sourced',
            'source env.sh, or /opt/ros/*/setup.bash',
        )
    elif sourced - {distro}:
        names = ', '.join(sorted(sourced | {distro}))
        fix = 'open a new shell and source one of them only'
        yield Finding(Level.ERROR, 'distro', f'several distributions at once: {names}', fix)
    elif distro in ENDED_DISTROS:
        fix = f'move to one that CARLA {SIM_CARLA} shares a Python with: humble, jazzy or later'
        yield Finding(Level.WARNING, 'distro', f'ROS 2 {distro} is no longer supported', fix)
    else:
        source = 'apt' if _is_apt(machine) else 'PyPI wheels'
        yield Finding(Level.OK, 'distro', f'ROS 2 {distro} from {source}')


def check_carla(machine: Machine) -> Iterator[Finding]:
    """The CARLA wheel, its Python, and the distributions that share it."""
    carla = machine.imports.get('carla')
    version = next((copy.version for copy in machine.copies if copy.name == 'carla'), '')
    if carla is None or (carla.missing and not version):
        yield Finding(
            Level.NOTE,
            'carla',
            'no CARLA wheel: the embedded simulator and the bridge need one, the agent does not',
            f'pip install carla=={SIM_CARLA}',
        )
        return
    pythons = carla_pythons(version)
    if pythons and machine.python not in pythons:
        distros = ' or '.join(distros_for_carla(version)) or 'no distribution in use'
        yield Finding(
            Level.ERROR,
            'carla',
            f'carla {version} has wheels for Python {", ".join(map(text, pythons))} only, this is '
            f'{text(machine.python)}',
            f'pip install carla=={SIM_CARLA}; from apt, {distros} shares a Python with {version}',
        )
    elif not carla.error and version and version != SIM_CARLA:
        fix = f'pip install carla=={SIM_CARLA}, or keep it and use it with its own server alone'
        text_ = f'carla {version}; the embedded simulator is tested with {SIM_CARLA}'
        yield Finding(Level.WARNING, 'carla', text_, fix)
    elif not carla.error:
        yield Finding(Level.OK, 'carla', f'carla {version} from {carla.path}')


def check_imports(machine: Machine) -> Iterator[Finding]:
    """Every module comes in, in one process with all others, and says from where."""
    for name, result in machine.imports.items():
        if result.missing and name in JUDGED_ELSEWHERE:
            continue
        if result.error:
            yield _failed_import(name, result)
        elif name != 'carla':  # has a check of its own
            version = f' {result.version}' if result.version else ''
            yield Finding(Level.OK, 'imports', f'{name}{version} from {result.path}')


def _failed_import(name: str, result: Import) -> Finding:
    needed = name in NEEDED
    package = name.partition('.')[0]
    if result.missing:
        level = Level.ERROR if needed else Level.NOTE
        fix = INSTALL_MESSAGES if package == 'carla_msgs' else 'make setup, then source env.sh'
        return Finding(level, 'imports', f'{name} is not installed', fix if needed else '')
    if result.error == NOT_IN_TIME:
        fix = 'run it again (files are cached now), or with --patience 60'
        return Finding(Level.WARNING, 'imports', f'{name}: {result.error}', fix)
    if result.alone:
        fix = f'install {package} again, in the same environment as what it is used with'
        said = f'{name} cannot be imported together with the others: {result.error}'
        return Finding(Level.ERROR, 'imports', said, fix)
    if any(sign in result.error for sign in ABI_SIGNS):
        fix = (
            f'it was built for other libraries than these: reinstall {package} and numpy together'
        )
        return Finding(Level.ERROR, 'imports', f'{name}, ABI clash: {result.error}', fix)
    fix = f'pip install --force-reinstall {package}'
    return Finding(Level.ERROR, 'imports', f'{name} cannot be imported: {result.error}', fix)


def check_copies(machine: Machine) -> Iterator[Finding]:
    """No package is installed twice, from apt and from pip or in two folders."""
    by_name: dict[str, list[Copy]] = defaultdict(list)
    for copy in machine.copies:
        by_name[copy.name].append(copy)
    twice = {name: copies for name, copies in by_name.items() if len(copies) > 1}
    for name, (first, *others) in twice.items():
        hidden = ', '.join(f'{copy.version} in {copy.folder}' for copy in others)
        same = all(copy.version == first.version for copy in others)
        yield Finding(
            Level.NOTE if same else Level.WARNING,
            'copies',
            f'{name} {first.version} in {first.folder} hides {hidden}',
            f'keep one: pip uninstall {name}, or a virtual environment of its own',
        )
    if not twice:
        yield Finding(Level.OK, 'copies', f'{len(by_name)} packages, none of them twice')


def check_opencv(machine: Machine) -> Iterator[Finding]:
    """One OpenCV: all distributions write the same folder ``cv2``, and apt has its own."""
    installed = sorted({copy.name for copy in machine.copies if copy.name in OPENCV})
    cv2 = machine.imports.get('cv2')
    if len(installed) > 1:
        yield Finding(
            Level.ERROR,
            'opencv',
            f'{" and ".join(installed)} overwrite each other',
            f'pip uninstall -y {" ".join(installed)} && pip install opencv-python-headless',
        )
    elif installed and cv2 and _from_apt(cv2.path):
        yield Finding(
            Level.WARNING,
            'opencv',
            f'{installed[0]} is installed, but cv2 comes from {cv2.path}',
            f'pip uninstall {installed[0]}, or put its folder before that one in sys.path',
        )
    else:
        yield Finding(Level.OK, 'opencv', installed[0] if installed else 'none from pip')


def check_numpy(machine: Machine) -> Iterator[Finding]:
    """NumPy's major version is the one that the distribution's packages were compiled against."""
    numpy = machine.imports.get('numpy')
    built = NUMPY_OF_DISTRO.get(machine.environment.get('ROS_DISTRO', ''))
    if numpy is None or numpy.error:
        return
    major = int(numpy.version.partition('.')[0] or 0)
    if built and major != built and _is_apt(machine):
        yield Finding(
            Level.ERROR,
            'numpy',
            f'NumPy {numpy.version} from {numpy.path}, but ROS 2 from apt was compiled against '
            f'NumPy {built}',
            f"pip uninstall numpy, or pip install 'numpy<{built + 1}'",
        )
    else:
        yield Finding(Level.OK, 'numpy', f'NumPy {numpy.version}')


def check_protobuf(machine: Machine) -> Iterator[Finding]:
    """One major version of protobuf on the path."""
    versions = [copy.version for copy in machine.copies if copy.name == 'protobuf']
    majors = {version.partition('.')[0] for version in versions}
    if len(majors) > 1:
        fix = (
            'pip uninstall protobuf in the folder that should not win, or one environment for each'
        )
        said = f'protobuf {" and ".join(versions)} are both on the path'
        yield Finding(Level.ERROR, 'protobuf', said, fix)
    else:
        yield Finding(
            Level.OK, 'protobuf', versions[0] if versions else 'not installed, not needed'
        )


def check_torch(machine: Machine) -> Iterator[Finding]:
    """PyTorch and the GPU fit each other."""
    if machine.torch is None:
        return
    build = f'CUDA {machine.torch.cuda_build}' if machine.torch.cuda_build else 'CPU only'
    if machine.torch.cuda_build and machine.nvidia_driver and not machine.torch.cuda_runs:
        fix = 'update the NVIDIA driver, or in a container start it with --gpus all'
        said = f'PyTorch is built for {build}, but cannot use the GPU'
        yield Finding(Level.WARNING, 'torch', said, fix)
    elif machine.torch.cuda_build and not machine.nvidia_driver:
        fix = 'install the CPU build from the CPU index of PyTorch; it is several GB smaller'
        said = f'PyTorch is built for {build}, but there is no NVIDIA driver: it uses the CPU'
        yield Finding(Level.NOTE, 'torch', said, fix)
    elif machine.nvidia_driver and not machine.torch.cuda_build:
        fix = 'for training on the GPU, install a CUDA build of the same PyTorch'
        said = 'PyTorch is built for the CPU only, but there is an NVIDIA driver'
        yield Finding(Level.NOTE, 'torch', said, fix)
    else:
        yield Finding(Level.OK, 'torch', f'{build}, GPU in use' if build != 'CPU only' else build)


def check_rmw(machine: Machine) -> Iterator[Finding]:
    """The middleware that is asked for is installed."""
    wanted = machine.environment.get('RMW_IMPLEMENTATION', '')
    installed = [name for name in machine.rmw_installed if name != 'rmw_implementation']
    if wanted and wanted not in installed:
        have = ', '.join(installed) or 'none'
        fix = f'unset RMW_IMPLEMENTATION, or install ros-{_distro(machine)}-{_dashed(wanted)}'
        yield Finding(Level.ERROR, 'rmw', f'{wanted} is not installed (installed: {have})', fix)
    elif wanted and wanted != DEFAULT_RMW:
        said = (
            f'{wanted}: every process, the bridge too, must use it; Fast DDS profiles do nothing'
        )
        yield Finding(Level.NOTE, 'rmw', said)
    else:
        yield Finding(Level.OK, 'rmw', wanted or f'{DEFAULT_RMW} (by default)')


def check_shared_memory(machine: Machine) -> Iterator[Finding]:
    """Images fit into the shared memory of a process, and all segments into /dev/shm."""
    width_px, height_px = machine.camera_px
    image_bytes = width_px * height_px * BYTES_PER_PIXEL
    if machine.environment.get('RMW_IMPLEMENTATION', DEFAULT_RMW) != DEFAULT_RMW:
        return
    if machine.profile.error:
        return  # reported by the check of discovery
    segment_bytes = machine.profile.segment_bytes or DEFAULT_SEGMENT_BYTES
    what = f'an image of {width_px}x{height_px} has {_mb(image_bytes)}'
    if segment_bytes < image_bytes:
        yield Finding(
            Level.ERROR,
            'shm',
            f'{what}, the shared-memory segment {_mb(segment_bytes)}: images come late or never',
            f'export {profile_variable(machine.environment)}=config/fastdds_camera.xml, '
            'for the bridge too',
        )
    elif segment_bytes < IMAGES_UNDER_WAY * image_bytes and machine.profile.path:
        fix = (
            f'segment_size of at least {IMAGES_UNDER_WAY * image_bytes} in {machine.profile.path}'
        )
        yield Finding(Level.WARNING, 'shm', f'{what}, the segment {_mb(segment_bytes)}', fix)
    need_bytes = 2 * segment_bytes + (PROCESSES - 2) * SMALL_SEGMENT_BYTES
    if machine.shm_total_bytes < need_bytes:
        yield Finding(
            Level.ERROR,
            'shm',
            f'{SHM} has {_mb(machine.shm_total_bytes)}, bridge and agent need {_mb(need_bytes)}',
            'docker run --shm-size=512m (compose: shm_size), or --ipc=host',
        )
    elif machine.shm_free_bytes < need_bytes:
        fix = 'end old ROS 2 processes, then: fastdds shm clean, or rm /dev/shm/fast{rtps,dds}_*'
        said = f'{_mb(machine.shm_free_bytes)} of {SHM} are free, {_mb(need_bytes)} are needed'
        yield Finding(Level.WARNING, 'shm', said, fix)
    else:
        said = f'{what}, a segment {_mb(segment_bytes)}, {SHM} {_mb(machine.shm_free_bytes)} free'
        yield Finding(Level.OK, 'shm', said)


def check_discovery(machine: Machine) -> Iterator[Finding]:
    """The settings of discovery can be obeyed, and do not contradict each other."""
    faults = [*_range_faults(machine), *_profile_faults(machine)]
    yield from faults
    if not faults:
        scope = (
            'this machine only'
            if stays_on_this_machine(machine.environment)
            else 'the whole network'
        )
        yield Finding(Level.OK, 'discovery', f'{scope}; profile {machine.profile.path or "none"}')


def _range_faults(machine: Machine) -> Iterator[Finding]:
    environment = machine.environment
    reach = environment.get('ROS_AUTOMATIC_DISCOVERY_RANGE', '')
    old = environment.get('ROS_LOCALHOST_ONLY', '')
    if _distro(machine) == 'humble' and reach:
        yield Finding(
            Level.WARNING,
            'discovery',
            'Humble does not know ROS_AUTOMATIC_DISCOVERY_RANGE',
            'export ROS_LOCALHOST_ONLY=1 (or 0)',
        )
    elif reach and reach not in {'SUBNET', 'LOCALHOST', 'OFF', 'SYSTEM_DEFAULT'}:
        fix = 'export ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST (or SUBNET)'
        said = f'ROS_AUTOMATIC_DISCOVERY_RANGE={reach} is none of its values'
        yield Finding(Level.ERROR, 'discovery', said, fix)
    elif reach == 'OFF':
        fix = 'export ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST (or SUBNET)'
        yield Finding(Level.ERROR, 'discovery', 'discovery is off: no node finds another', fix)
    elif reach and old and _distro(machine) != 'humble':
        said = 'ROS_LOCALHOST_ONLY overrides ROS_AUTOMATIC_DISCOVERY_RANGE, and both are set'
        yield Finding(Level.WARNING, 'discovery', said, 'unset ROS_LOCALHOST_ONLY')


def _profile_faults(machine: Machine) -> Iterator[Finding]:
    if machine.profile.error:
        yield Finding(
            Level.ERROR,
            'discovery',
            f'the Fast DDS profile {machine.profile.path} cannot be used: {machine.profile.error}',
            'name a file that exists, e.g. config/fastdds_loopback.xml, or unset the variable',
        )
    elif machine.profile.loopback_only and not stays_on_this_machine(machine.environment):
        yield Finding(
            Level.WARNING,
            'discovery',
            f'{machine.profile.path} keeps all traffic on this machine, the environment does not',
            'config/fastdds_camera.xml for a bridge on another machine, '
            'ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST for one on this',
        )


def check_domain(machine: Machine) -> Iterator[Finding]:
    """The ROS domain is a number that works, and nobody else's."""
    given = machine.environment.get('ROS_DOMAIN_ID', '') or '0'
    if not given.isdecimal() or int(given) > LAST_DOMAIN:
        said = f'ROS_DOMAIN_ID={given} must be a number from 0 to {LAST_DOMAIN}'
        yield Finding(Level.ERROR, 'domain', said, 'export ROS_DOMAIN_ID=7')
        return
    domain_id = int(given)
    here = [p for p in machine.participants if p.domain_id == domain_id]
    strangers = sorted({p.user for p in here} - {machine.user})
    if strangers:
        users = ', '.join(map(str, strangers))
        said = f'domain {domain_id} is also used by user {users} of this machine'
        yield Finding(Level.ERROR, 'domain', said, _other_domain(machine))
    elif domain_id > LAST_SAFE_DOMAIN:
        said = f'domain {domain_id} uses ports that Linux hands out to other programs'
        yield Finding(Level.WARNING, 'domain', said, _other_domain(machine))
    elif here:
        programs = ', '.join(sorted({p.program or 'unknown' for p in here}))
        said = f'domain {domain_id} already has {len(here)} of your processes: {programs}'
        yield Finding(Level.NOTE, 'domain', said, 'end them if they are not meant to be heard')
    else:
        yield Finding(Level.OK, 'domain', f'domain {domain_id}, nobody else on this machine')


def _other_domain(machine: Machine) -> str:
    used = {p.domain_id for p in machine.participants}
    free = next(k for k in range(1, LAST_SAFE_DOMAIN + 1) if k not in used)
    return f'export ROS_DOMAIN_ID={free}, for every process of the system'


def check_messages(machine: Machine) -> Iterator[Finding]:
    """carla_msgs has the definitions that bridge and agent share."""
    if len(machine.message_prefixes) > 1:
        first, *others = machine.message_prefixes
        said = f'carla_msgs in {first} hides the one in {", ".join(others)}'
        fix = 'source the workspace of one of them only'
        yield Finding(Level.WARNING, 'messages', said, fix)
    other = sorted(
        name
        for name, wanted in CARLA_MSGS_HASHES.items()
        if machine.message_hashes.get(name, wanted) != wanted
    )
    if other:
        names = ', '.join(name.rpartition('/')[2] for name in other)
        said = f'carla_msgs is not 1.3.0, other definitions of {names}: the bridge is not heard'
        yield Finding(Level.ERROR, 'messages', said, INSTALL_MESSAGES)
    elif machine.message_hashes and len(machine.message_prefixes) == 1:
        said = f'carla_msgs 1.3.0 by type hashes, in {machine.message_prefixes[0]}'
        yield Finding(Level.OK, 'messages', said)
    elif machine.message_prefixes and not machine.message_hashes:
        said = 'this ROS 2 has no type hashes: definitions of carla_msgs were not compared'
        yield Finding(Level.NOTE, 'messages', said)


def check_disk(machine: Machine) -> Iterator[Finding]:
    """There is room for ledgers, bags and checkpoints."""
    said = f'{_mb(machine.disk_free_bytes)} free in {machine.disk_folder}'
    fix = 'make room, or point --out at another disk'
    if machine.disk_free_bytes < LEAST_DISK_BYTES:
        yield Finding(Level.ERROR, 'disk', said, fix)
    elif machine.disk_free_bytes < ENOUGH_DISK_BYTES:
        yield Finding(Level.WARNING, 'disk', said, fix)
    else:
        yield Finding(Level.OK, 'disk', said)


CHECKS: tuple[Callable[[Machine], Iterator[Finding]], ...] = (
    check_python,
    check_distro,
    check_carla,
    check_imports,
    check_copies,
    check_opencv,
    check_numpy,
    check_protobuf,
    check_torch,
    check_rmw,
    check_shared_memory,
    check_discovery,
    check_domain,
    check_messages,
    check_disk,
)


def _from_apt(path: str) -> bool:
    return path.startswith(APT_FOLDERS)


def _is_apt(machine: Machine) -> bool:
    """Whether rclpy is that of the distribution, not a wheel."""
    rclpy = machine.imports.get('rclpy')
    if rclpy is not None and rclpy.path:
        return _from_apt(rclpy.path)
    return any(prefix.startswith('/opt/ros/') for prefix in machine.ros_prefixes)


def _distro(machine: Machine) -> str:
    return machine.environment.get('ROS_DISTRO', '')


def _dashed(name: str) -> str:
    return name.replace('_', '-')


def _mb(size_bytes: int) -> str:
    return f'{size_bytes / MEGABYTE:.1f} MB'
