"""Starts the release binary for the scripts beside it, and ends it. What they ask it is theirs."""

import os
import re
import subprocess
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BINARY = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/token-billing"
START_TIMEOUT_S = 10
STOP_TIMEOUT_S = 15


class Failure(Exception):
    """What is wrong, in a sentence for the reader."""


class Service:
    """The running service, at `address`; it ends with the block it was made for, and must end well."""

    def __init__(self, directory, **settings):
        if not BINARY.exists():
            raise Failure(f"{BINARY} is missing: run `cargo build --release` first")
        # What the surroundings set must not count.
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self.process = subprocess.Popen(
            [BINARY],
            cwd=directory,
            env={**kept, "NO_COLOR": "1", "BILLING_LISTEN": "127.0.0.1:0", **settings},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        watchdog = threading.Timer(START_TIMEOUT_S, self.process.kill)
        watchdog.start()
        first = self.process.stdout.readline()
        watchdog.cancel()
        named = re.search(r"address=(\S+)", first)
        if named is None:
            self.stop()
            raise Failure(f"the service's first line names no address: {first.strip()!r}")
        self.address = named[1]
        # A log that nobody reads fills its pipe.
        threading.Thread(target=lambda: [None for _ in self.process.stdout], daemon=True).start()

    def stop(self):
        """Ends it; its exit status."""
        self.process.terminate()
        try:
            return self.process.wait(timeout=STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Failure(f"the service didn't stop within {STOP_TIMEOUT_S} s of SIGTERM") from None

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        status = self.stop()
        if status != 0 and kind is None:
            raise Failure(f"the service ended with status {status} after SIGTERM")
