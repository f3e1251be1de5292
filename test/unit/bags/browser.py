# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium on a pipe (DevTools protocol); nothing listens on the network."""

import base64
from contextlib import suppress
import fcntl
import json
import os
import select
import shutil
import subprocess
import time

import pytest

NAMES = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable', 'chrome')
DEADLINE_S = 60.0


def find_browser():
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page."""

    def __init__(self, program, folder):
        ours, theirs_out = os.pipe()
        theirs_in, self._to = os.pipe()
        # Away from 3 and 4, where the browser looks for them.
        high_in, high_out = (fcntl.fcntl(fd, fcntl.F_DUPFD, 20) for fd in (theirs_in, theirs_out))
        self._from, self._buffer, self._number = ours, b'', 0
        self.errors = []
        options = [
            '--headless=new',
            '--no-sandbox',
            '--disable-gpu',
            '--disable-dev-shm-usage',
            '--hide-scrollbars',
            '--remote-debugging-pipe',
            '--no-first-run',
            '--disable-background-networking',
        ]
        self._process = subprocess.Popen(
            [program, *options, f'--user-data-dir={folder}', 'about:blank'],
            pass_fds=(3, 4),
            preexec_fn=lambda: (os.dup2(high_in, 3), os.dup2(high_out, 4)),  # noqa: PLW1509
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for fd in (theirs_in, theirs_out, high_in, high_out):
            os.close(fd)
        self._session = None
        page = self.call('Target.createTarget', url='about:blank')['targetId']
        attached = self.call('Target.attachToTarget', targetId=page, flatten=True)
        self._session = attached['sessionId']
        for domain in ('Page', 'Runtime', 'Network', 'Log'):
            self.call(f'{domain}.enable')

    def call(self, method, **params):
        """Call the browser and return its answer."""
        self._number += 1
        message = {'id': self._number, 'method': method, 'params': params}
        if self._session:
            message['sessionId'] = self._session
        os.write(self._to, json.dumps(message).encode() + b'\0')
        deadline_s = time.monotonic() + DEADLINE_S
        while True:
            answer = self._receive(deadline_s)
            if answer.get('id') == self._number:
                assert 'error' not in answer, answer
                return answer['result']
            self._note(answer)

    def _receive(self, deadline_s):
        while b'\0' not in self._buffer:
            ready, _, _ = select.select([self._from], [], [], deadline_s - time.monotonic())
            data = os.read(self._from, 1 << 20) if ready else b''
            if not data:
                pytest.fail('the browser does not answer')
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b'\0')
        return json.loads(message)

    def _note(self, event):
        """Keep what a reader would find in the console, and every request for a file."""
        method, params = event.get('method'), event.get('params', {})
        if method == 'Runtime.exceptionThrown':
            self.errors.append(params['exceptionDetails'])
        elif method == 'Log.entryAdded' and params['entry']['level'] == 'error':
            self.errors.append(params['entry']['text'])
        elif method == 'Network.requestWillBeSent':
            url = params['request']['url']
            if not url.startswith(('data:', 'file:', 'about:')):
                self.errors.append(f'asks for {url}')

    def open(self, path):
        """Open a file and wait until it is shown."""
        self.call('Page.navigate', url=path.resolve().as_uri())
        self.until("document.readyState === 'complete' && !!document.getElementById('cursor')")

    def js(self, expression):
        """Evaluate an expression and return its value."""
        result = self.call('Runtime.evaluate', expression=expression, returnByValue=True)
        assert 'exceptionDetails' not in result, result
        return result['result'].get('value')

    def until(self, expression):
        """Wait until an expression holds."""
        deadline_s = time.monotonic() + DEADLINE_S
        while not self.js(expression):
            if time.monotonic() > deadline_s:
                pytest.fail(f'never: {expression}')
            time.sleep(0.02)

    def click(self, selector, across=0.5, down=0.5):
        """Press the mouse somewhere within an element."""
        box = self.js(
            f'(() => {{ const e = document.querySelector({selector!r});'
            "e.scrollIntoView({block: 'center'}); const b = e.getBoundingClientRect();"
            'return [b.left, b.top, b.width, b.height]; })()'
        )
        x, y = box[0] + across * box[2], box[1] + down * box[3]
        for kind in ('mouseMoved', 'mousePressed', 'mouseReleased'):
            button = 'none' if kind == 'mouseMoved' else 'left'
            self.call('Input.dispatchMouseEvent', type=kind, x=x, y=y, button=button, clickCount=1)

    def look(self, width, height, *, dark=False, media=''):
        """Take on the looks of a screen."""
        self.call(
            'Emulation.setDeviceMetricsOverride',
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {'name': 'prefers-color-scheme', 'value': 'dark' if dark else 'light'}
        self.call('Emulation.setEmulatedMedia', media=media, features=[scheme])

    def screenshot(self, path):
        """Write the whole page as a PNG."""
        shot = self.call('Page.captureScreenshot', captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot['data']))

    def close(self):
        """End the browser."""
        with suppress(OSError, AssertionError):
            self._session = None
            self.call('Browser.close')
        self._process.terminate()
        self._process.wait(10.0)
        os.close(self._to)
        os.close(self._from)
