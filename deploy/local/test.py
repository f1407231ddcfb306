#!/usr/bin/env python3
"""Runs every tier of tests and closes with one line: N passed, N failed.

  rust     cargo test of the whole workspace, on a real Kafka and a real ClickHouse
  avro     the golden bytes of the schemas against a second implementation, fastavro
  tag      the JavaScript tag: its build is current, its unit tests
  browser  headless Chromium on a whole stack of its own, started for it on free ports

Everything is shown as it happens. A tier that fails to build, ends badly or prints no count has failed, and so has one
that says nothing for a quarter of an hour: it is ended, and the last it said is above. A tier or test that could not run
on this machine is listed with the reason; with CI=true it has failed.
Usage: test.py [TIER...]     (all of them by default)
"""
import contextlib
import os
import pathlib
import queue
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
HERE = ROOT / "deploy/local"
CI = os.environ.get("CI") == "true"
VENV = ROOT / ".local/venv"
TAG = ROOT / "collector/tag"
BROWSER = HERE / "browser"

# How each tool tells its counts in one line.
COUNTS = [
    re.compile(r"^test result: \w+\. (?P<passed>\d+) passed; (?P<failed>\d+) failed; (?P<ignored>\d+) ignored"),
    re.compile(r"^(?P<passed>\d+) passed, (?P<failed>\d+) failed(?P<ignored>)$"),
]
NODE_COUNT = re.compile(r"^(?:#|ℹ) (pass|fail) (\d+)$")
NOT_RUN = re.compile(r"NOT RUN: (.+)")
ON_MOCK = re.compile(r"(.+: ran on the mock broker only.*)")
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
# Seconds; several times what the longest test takes, or the longest part of a build.
LONGEST_SILENCE = 900


def put_all(stream, lines):
    for line in stream:
        lines.put(line)
    lines.put(None)


def lines_of(process):
    """What a process prints, line by line. Whoever stops reading early ends it with all that it started."""
    lines = queue.Queue()
    threading.Thread(target=put_all, args=(process.stdout, lines), daemon=True).start()
    try:
        while (line := lines.get(timeout=LONGEST_SILENCE)) is not None:
            yield line
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise


class Tier:
    """What one tier has shown so far."""

    def __init__(self, name):
        self.name, self.passed, self.failed, self.ignored, self.counts = name, 0, 0, 0, 0
        self.problems, self.not_run = [], []

    def read(self, line):
        line = COLOURS.sub("", line).strip()
        for pattern in COUNTS:
            if found := pattern.match(line):
                self.count(int(found["passed"]), int(found["failed"]))
                self.ignored += int(found["ignored"] or 0)
        if found := NODE_COUNT.match(line):
            number = int(found[2])
            self.count(*((number, 0) if found[1] == "pass" else (0, number)))
        if found := NOT_RUN.search(line):
            # Cargo has no word for this and counts it as passed.
            self.passed -= self.name == "rust"
            self.not_run.append(found[1])
        elif found := ON_MOCK.match(line):
            self.not_run.append(found[1])

    def count(self, passed, failed):
        self.passed += passed
        self.failed += failed
        self.counts += 1

    def run(self, *command, cwd=ROOT, counts=False, environment=None):
        """Runs a command, shows and reads its output. True when it succeeded and, where `counts`, told a count."""
        words = [str(word) for word in command]
        before = self.counts, self.failed
        print(f"\n$ {' '.join(words)}", flush=True)
        try:
            process = subprocess.Popen(words, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                       errors="replace", env={**os.environ, **(environment or {})},
                                       start_new_session=True)
        except OSError as problem:
            self.problems.append(f"{words[0]} can't be run: {problem}")
            return False
        try:
            with contextlib.closing(lines_of(process)) as lines:
                for line in lines:
                    print(line, end="", flush=True)
                    self.read(line)
        except queue.Empty:
            self.problems.append(f"`{' '.join(words)}` said nothing for {LONGEST_SILENCE} seconds and was ended")
            return False
        code = process.wait()
        if code != 0 and self.failed == before[1]:
            self.problems.append(f"`{' '.join(words)}` ended with code {code}")
        elif counts and self.counts == before[0]:
            self.problems.append(f"`{' '.join(words)}` printed no count")
        return code == 0

    def skip(self, reason):
        self.not_run.append(reason)


def rust(tier):
    # The programs first: the test of the local stack starts them.
    if tier.run("cargo", "build", "--workspace", "--bins") and tier.run("cargo", "test", "--workspace", "--no-run"):
        tier.run("cargo", "test", "--workspace", "--no-fail-fast", counts=True)


def avro(tier):
    requirements = HERE / "python/requirements.txt"
    stamp = VENV / ".stamp"
    if not stamp.exists() or stamp.read_text() != requirements.read_text():
        shutil.rmtree(VENV, ignore_errors=True)
        made = tier.run(sys.executable, "-m", "venv", VENV) and tier.run(
            VENV / "bin/pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps", "--require-hashes",
            "--only-binary", ":all:", "-r", requirements)
        if not made:
            return
        stamp.write_text(requirements.read_text())
    tier.run(VENV / "bin/python", ROOT / "schemas/tests/fastavro_golden.py", counts=True)


def node_packages(tier, folder):
    """Installs what a folder's lock file pins, unless that is there."""
    lock, installed = folder / "package-lock.json", folder / "node_modules/.package-lock.json"
    if installed.exists() and installed.stat().st_mtime >= lock.stat().st_mtime:
        return True
    return tier.run("npm", "ci", "--no-audit", "--no-fund", cwd=folder)


def tag(tier):
    if shutil.which("node") is None or shutil.which("npm") is None:
        return tier.skip("tag: node or npm is missing")
    if node_packages(tier, TAG):
        tier.run("npm", "run", "check", cwd=TAG)
        tier.run("npm", "test", cwd=TAG, counts=True)


def free_ports(number):
    """Free ports of the loopback interface, all different, below those that Linux gives to outgoing connections."""
    ports = []
    for port in random.sample(range(12_000, 32_000), 1_000):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            ports.append(port)
        if len(ports) == number:
            return ports
    sys.exit("no free ports from 12000 to 32000 on 127.0.0.1; stop what listens there")


def browser(tier):
    tools = {"chromium": "CHROMIUM", "node": None, "npm": None, "java": None, "mvn": None}
    missing = [tool for tool, variable in tools.items() if not (os.environ.get(variable or "") or shutil.which(tool))]
    if missing:
        return tier.skip(f"browser: {', '.join(missing)} missing")
    if not (node_packages(tier, BROWSER) and tier.run("cargo", "build", "--workspace", "--bins")):
        return
    tier.run("npm", "test", cwd=BROWSER, counts=True)
    names = ["KAFKA", "CLICKHOUSE_HTTP", "CLICKHOUSE_TCP", "COLLECTOR", "COLLECTOR_METRICS", "ENRICHER_METRICS",
             "SINK_METRICS", "SITE"]
    ports = dict(zip(names, free_ports(len(names))))
    directory = tempfile.mkdtemp(prefix="hitmeter-browser-")
    environment = {f"HITMETER_{name}_PORT": str(port) for name, port in ports.items()}
    environment["HITMETER_DIRECTORY"] = directory
    addresses = {"DEMO_URL": "SITE", "COLLECTOR_URL": "COLLECTOR", "CLICKHOUSE_URL": "CLICKHOUSE_HTTP"}
    program = ROOT / "target/debug/hitmeter-local"
    try:
        if tier.run(program, "up", environment=environment):
            urls = {variable: f"http://127.0.0.1:{ports[name]}" for variable, name in addresses.items()}
            if not tier.run("node", "visit.mjs", cwd=BROWSER, counts=True, environment=urls):
                subprocess.run(["tail", "-n", "30", *sorted(pathlib.Path(directory, "logs").glob("*.log"))])
    finally:
        tier.run(program, "down", environment=environment)
        shutil.rmtree(directory, ignore_errors=True)


TIERS = {"rust": rust, "avro": avro, "tag": tag, "browser": browser}


def prepare():
    """Installs and fetches; what is missing afterwards, the tiers name."""
    installed = subprocess.run([str(HERE / "install.sh"), "test"]).returncode == 0
    fetched = subprocess.run([sys.executable, str(HERE / "fetch.py")]).returncode == 0
    if not installed or (CI and not fetched):
        sys.exit("0 passed, 1 failed")


def main(names):
    # What it started is in sessions of its own, and must not outlive it.
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, lambda number, _: sys.exit(128 + number))
    prepare()
    tiers = []
    for name in names:
        print(f"\n=== {name}", flush=True)
        tiers.append(tier := Tier(name))
        TIERS[name](tier)
    passed, failed = sum(tier.passed for tier in tiers), sum(tier.failed for tier in tiers)
    print("\n=== summary")
    for tier in tiers:
        ignored = f", {tier.ignored} marked as ignored" if tier.ignored else ""
        print(f"{tier.name:8} {tier.passed} tests passed, {tier.failed} failed{ignored}")
        for problem in tier.problems:
            print(f"{tier.name:8} FAILED: {problem}")
        for reason in tier.not_run:
            print(f"{tier.name:8} NOT RUN: {reason}")
        if tier.counts == 0 and not tier.problems and not tier.not_run:
            tier.problems.append("no count")
            print(f"{tier.name:8} FAILED: it printed no count")
        failed += len(tier.problems) + (len(tier.not_run) if CI else 0)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    unknown = [name for name in sys.argv[1:] if name not in TIERS]
    if unknown:
        sys.exit(f"test: no such tier: {', '.join(unknown)} (there are {', '.join(TIERS)})")
    sys.exit(main(sys.argv[1:] or list(TIERS)))
