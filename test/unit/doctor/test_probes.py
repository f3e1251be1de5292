# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Modules that are really broken, really imported: the doctor outlives them."""

from argparse import Namespace
from dataclasses import replace
import os
from pathlib import Path
import select
import signal
import subprocess
import sys
import time

from harness.healthy import HEALTHY
from planted_faults import findings_of
import pytest

from td3_agent.doctor.command import graph_probe, live_findings
from td3_agent.doctor.facts import NOT_IN_TIME, NOT_TRIED, Level
from td3_agent.doctor.gather import gather_imports

ROOT = Path(__file__).parents[3]
PATIENCE_S = 60.0  # of a busy machine
FOR_EVER = 'import time\ntime.sleep(1000)\n'


@pytest.fixture
def plant(tmp_path, monkeypatch):
    """Return a function that makes a module of this name, found before all others."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(name, text):
        (tmp_path / f'{name}.py').write_text(text, 'utf-8')
        return tmp_path

    return make


class TestImports:
    @pytest.fixture
    def found(self, plant):
        texts = {
            'good': '__version__ = "1.2"',
            'refuses': 'raise ImportError("numpy.core.multiarray failed to import")',
            'crashes': 'import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)',
            'leaves': 'import os\nos._exit(3)',
            'clashes': 'import sys\nif "good" in sys.modules: raise ImportError("after good")',
            'half': 'import sys\nsys.stderr.write("A module compiled using NumPy 1.x\\n")',
            'lacks': 'import no_such_module_at_all',
            'talks': 'import os\nprint("{")\nos.write(1, b\'{"answer": 42}\\n\')',
            'last': '',
        }
        for name, text in texts.items():
            plant(name, text)
        return gather_imports([*texts, 'no_such'], PATIENCE_S)[0]

    def test_each_fault_is_told_apart(self, found, tmp_path):
        assert found['good'].version == '1.2'
        assert found['good'].path == str(tmp_path / 'good.py')
        assert 'multiarray failed' in found['refuses'].error
        assert found['refuses'].alone is False
        assert found['crashes'].error == 'the import was ended by signal 11'
        assert found['leaves'].error == 'the import ended the program with 3'
        assert 'compiled using NumPy' in found['half'].error
        assert not found['lacks'].missing  # it is there, what it needs is not
        assert found['no_such'].missing

    def test_what_comes_after_a_crash_is_still_tried(self, found):
        assert not found['last'].error

    def test_what_a_module_prints_is_no_answer(self, found):
        assert not found['talks'].error

    def test_a_clash_needs_two(self, plant):
        plant('first_one', '')
        plant('second_one', 'import sys\nif "first_one" in sys.modules: raise ImportError("no")')
        found, torch = gather_imports(['first_one', 'second_one'], PATIENCE_S)
        assert found['second_one'].alone is True
        assert torch is None
        findings = findings_of(replace(HEALTHY, imports=found))
        assert any('together with the others' in f.text for f in findings)

    def test_one_that_hangs_takes_only_its_own_blame(self, plant):
        for name, text in (('quick', ''), ('broken', 'raise ImportError("x")'), ('late', '')):
            plant(name, text)
        plant('hangs', FOR_EVER)
        found, _ = gather_imports(['quick', 'broken', 'hangs', 'late'], 5.0)
        assert not found['quick'].error
        assert found['hangs'].error == NOT_IN_TIME
        assert found['late'].error == NOT_TRIED
        assert found['broken'].alone is None  # no time was left to tell

    @pytest.mark.parametrize(('name', 'level'), [('rclpy', Level.ERROR), ('torch', Level.WARNING)])
    def test_needed_one_that_does_not_come_in_is_an_error(self, plant, name, level):
        plant(name, FOR_EVER)
        found, _ = gather_imports([name, 'json'], 0.5)
        findings = findings_of(replace(HEALTHY, imports=found))
        assert max(f.level for f in findings if f.check == 'imports') is level
        assert any(f.text == f'json: {NOT_TRIED}' for f in findings)


class TestLook:
    """rclpy is broken in the process that looks at the graph."""

    def look(self, patience_s=PATIENCE_S):
        words = Namespace(seconds=0.5, role_name='hero', camera_id='front', patience=patience_s)
        with graph_probe(words) as look:
            found = live_findings(look, replace(HEALTHY, imports={}), [])
        assert look._process.poll() is not None
        return found

    def test_rclpy_that_hangs_has_a_deadline(self, plant):
        plant('rclpy', FOR_EVER)
        started_s = time.monotonic()
        (finding,) = self.look(patience_s=0.5)
        assert time.monotonic() - started_s < 100.0
        assert finding.level is Level.ERROR
        assert finding.text == 'the graph cannot be read: no answer in 1 s'

    @pytest.mark.parametrize(
        ('text', 'words'),
        [
            ('import os\nos._exit(3)', 'the probe ended the program with 3'),
            ('import os\nos.abort()', 'the probe was ended by signal 6'),
            ('print("{}")\nraise ImportError("torn")', 'ImportError: torn'),
        ],
        ids=['leaves', 'aborts', 'raises'],
    )
    def test_rclpy_that_ends_the_program_is_a_finding(self, plant, text, words):
        plant('rclpy', text)
        (finding,) = self.look()
        assert finding.text == f'the graph cannot be read: {words}'


class TestInterrupt:
    def test_is_one_line(self, tmp_path):
        """While an import hangs, which tells through a pipe that it has begun."""
        begun = tmp_path / 'begun'
        os.mkfifo(begun)
        (tmp_path / 'numpy.py').write_text(f'open({str(begun)!r}, "w").close()\n{FOR_EVER}')
        program = (
            f'import signal, sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]; '
            'signal.signal(signal.SIGINT, signal.default_int_handler); '
            'from td3_agent.__main__ import main; main(["doctor", "--live", "--patience", "60"])'
        )
        reader = os.open(begun, os.O_RDONLY | os.O_NONBLOCK)
        with subprocess.Popen(
            [sys.executable, '-I', '-S', '-c', program],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            select.select([reader], [], [], PATIENCE_S)
            process.send_signal(signal.SIGINT)
            try:
                out, err = process.communicate(timeout=PATIENCE_S)
            finally:
                process.kill()
        os.close(reader)
        assert (process.returncode, out) == (130, '')
        assert err == 'td3_agent doctor: interrupted\n'
