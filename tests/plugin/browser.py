"""A TensorBoard and a Chromium for tests of the page."""

import contextlib
import os
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
HIDE_TENSORFLOW = (
    "import sys; sys.modules['tensorflow'] = None; from tensorboard import main; main.run_main()"
)


@contextlib.contextmanager
def tensorboard(log_dir, *arguments):
    """Run TensorBoard on a free port; give its address once it answers.

    TensorFlow is hidden from it: TensorBoard imports it if it can, which takes longer than all the rest.
    """
    command = [
        sys.executable,
        "-c",
        HIDE_TENSORFLOW,
        "--logdir",
        str(log_dir),
        "--port",
        "0",
        "--reload_interval",
        "1",
    ]
    process = subprocess.Popen(
        [*command, *arguments], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    log = []
    try:
        yield _address(process, log)
    finally:
        process.terminate()
        process.wait(10)


def _address(process, log):
    found = threading.Event()

    def read():
        for line in process.stderr:
            log.append(line)
            if re.search(r"http://\S+", line):
                found.set()

    threading.Thread(target=read, daemon=True).start()
    if not found.wait(90):
        raise RuntimeError("TensorBoard did not start:\n" + "".join(log))
    address = re.search(r"http://\S+", "".join(log))[0].rstrip("/")
    _wait_for(address + "/data/plugin/lbgap/runs", log)
    return address


def _wait_for(url, log, seconds=60):
    """Wait until the runs are loaded."""
    for _ in range(10 * seconds):
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            if b'"tags":[{' in urllib.request.urlopen(url, timeout=10).read():
                return
        time.sleep(0.1)
    raise RuntimeError("TensorBoard loaded no run:\n" + "".join(log))


@contextlib.contextmanager
def chromium():
    """Run a Chromium without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()
