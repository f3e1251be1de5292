# SPDX-License-Identifier: Apache-2.0
"""Judges Python packages: what is imported, and from where. Pure: facts in, findings out."""

from __future__ import annotations

from collections import defaultdict
import re
from typing import TYPE_CHECKING

from td3_agent.doctor.facts import APT_FOLDERS, NOT_IN_TIME, NOT_TRIED
from td3_agent.doctor.findings import Finding, Level
from td3_agent.doctor.fixes import OPENCV, ROS_MODULES, fit_together, install, reinstall
from td3_agent.doctor.versions import NUMPY_OF_DISTRO

if TYPE_CHECKING:
    from collections.abc import Iterator

    from td3_agent.doctor.facts import Copy, Import, Machine

NEEDED = ('rclpy', 'geometry_msgs.msg', 'carla_msgs.msg', 'numpy', 'yaml', 'torch')
SLOW = ('torch',)  # on a busy machine it takes longer than anybody waits
JUDGED_ELSEWHERE = ('carla', 'google.protobuf')
ROS_PACKAGES = ('rclpy', 'carla-msgs')
# What an extension says when it meets another NumPy, C++ library or Python than its own.
ABI_SIGNS = (
    '_ARRAY_API',
    'numpy.core.multiarray failed',
    'compiled using NumPy',
    'numpy.dtype size changed',
    'undefined symbol',
    'GLIBCXX',
    'version `GLIBC',
)
SIGNAL_SIGN = 'ended by signal'
NO_LIBRARY = re.compile(r'(lib[\w.+-]+): cannot open shared object file')
NO_MODULE = re.compile(r"No module named '([\w.]+)'")
APT_OF_LIBRARY = {
    'libGL.so.1': 'libgl1',
    'libglib-2.0.so.0': 'libglib2.0-0',
    'libgthread-2.0.so.0': 'libglib2.0-0',
}


def check_imports(machine: Machine) -> Iterator[Finding]:
    """Every module comes in, in one process with all others, and says from where."""
    not_tried = [name for name, result in machine.imports.items() if result.error == NOT_TRIED]
    if not_tried:
        fix = 'mend that one, or try with --patience 60'
        yield Finding(Level.NOTE, 'imports', f'{", ".join(not_tried)}: {NOT_TRIED}', fix)
    for name, result in machine.imports.items():
        if name in not_tried or (result.missing and name in JUDGED_ELSEWHERE):
            continue
        if result.error:
            # Without its middleware rclpy ends every program: the check of that says so.
            if not (name == 'rclpy' and machine.lacks_rmw and not result.missing):
                yield _failed_import(machine, name, result)
        elif name != 'carla':  # has a check of its own
            version = f' {result.version}' if result.version else ''
            yield Finding(Level.OK, 'imports', f'{name}{version} from {result.path}')


def _failed_import(machine: Machine, name: str, result: Import) -> Finding:
    needed = name in NEEDED
    if result.missing:
        fix = install(machine, name.partition('.')[0]) if needed else ''
        level = Level.ERROR if needed else Level.NOTE
        return Finding(level, 'imports', f'{name} is not installed', fix)
    if result.error == NOT_IN_TIME:
        level = Level.ERROR if needed and name not in SLOW else Level.WARNING
        fix = 'run it again (files are cached now), or with --patience 60'
        return Finding(level, 'imports', f'{name}: {result.error}', fix)
    said, fix = _cause(machine, name, result)
    return Finding(Level.ERROR, 'imports', said, fix)


def _cause(machine: Machine, name: str, result: Import) -> tuple[str, str]:
    """Return what is wrong with an import that failed, and the fix."""
    module, error = name.partition('.')[0], result.error
    if result.alone:
        said = f'{name} cannot be imported together with the others: {error}'
        return said, f'{reinstall(machine, module)}, in the environment that the others are in'
    if SIGNAL_SIGN in error:
        return f'{name}: {error}', _signal_fix(machine, module)
    said = f'{name} cannot be imported: {error}'
    if library := NO_LIBRARY.search(error):
        return said, _library_fix(module, library[1])
    if lacking := NO_MODULE.search(error):
        return said, _module_fix(machine, module, lacking[1])
    if any(sign in error for sign in ABI_SIGNS):
        return f'{name}, ABI clash: {error}', fit_together(machine, module)
    return said, reinstall(machine, module)


def _signal_fix(machine: Machine, module: str) -> str:
    """A crash has many causes; one is known, and one is common."""
    if module == 'carla' and 'HOME' not in machine.environment:
        return 'export HOME=~ (or any folder): CARLA looks for it, and crashes where it is unset'
    return (
        f'often, but not always, two builds of one library: {fit_together(machine, module)}; '
        f'python3 -X faulthandler -c "import {module}" says where'
    )


def _library_fix(module: str, library: str) -> str:
    if module in ROS_MODULES:
        return f'source the setup file of its ROS 2 or workspace: {library} lies there'
    if package := APT_OF_LIBRARY.get(library):
        return f'apt install {package}'
    return f'install what holds {library} (apt-file search {library})'


def _module_fix(machine: Machine, module: str, lacking: str) -> str:
    package = lacking.partition('.')[0]
    if package == module:  # its own compiled part has the name of another Python
        return reinstall(machine, module)
    present = machine.imports.get(package)
    if present and not present.error:  # in another version
        return fit_together(machine, module)
    return install(machine, package)


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
            _one_copy(first),
        )
    if not twice:
        yield Finding(Level.OK, 'copies', f'{len(by_name)} packages, none of them twice')


def _one_copy(first: Copy) -> str:
    if first.name in ROS_PACKAGES:
        return 'open a new shell and source one ROS 2, or workspace, only'
    if first.folder.startswith(APT_FOLDERS):  # pip does not touch it
        return 'use a virtual environment of its own'
    return f'keep one: pip uninstall {first.name}, or a virtual environment of its own'


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
    elif installed and cv2 and cv2.path.startswith(APT_FOLDERS):
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
    built = NUMPY_OF_DISTRO.get(machine.distro)
    if numpy is None or numpy.error:
        return
    major = re.match(r'\d+', numpy.version)  # one built from sources may have no number
    if built and machine.is_apt and major and int(major[0]) != built:
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
