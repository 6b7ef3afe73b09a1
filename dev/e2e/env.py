"""The environment of the end-to-end tests: kubectl, helm, psql, HTTP, a WebSocket, and ways to wait."""
import base64
import functools
import json
import os
import re
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, f"{ROOT}/dev")
from results import record  # noqa: F401 - also for those that import this

IMAGES = os.environ.get("IMAGES", os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")), "images"))
TAG = re.search(r"^appVersion: (\S+)", Path(ROOT, "charts/herd/Chart.yaml").read_text(), re.MULTILINE)[1]
HERD = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")), "debug", "herd")
KAFKA = os.environ["HERD_TEST_KAFKA"]
POSTGRES = os.environ["HERD_TEST_POSTGRES"]
DEMO, HOME = "herd-demo", "herd-system"


class Wrong(Exception):
    """What was expected did not come."""


def run(*command, given=None, check=True):
    done = subprocess.run(command, check=False, input=given, text=True, capture_output=True, cwd=ROOT)
    if check and done.returncode != 0:
        raise Wrong(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def kubectl(*arguments, given=None, check=True, namespace=DEMO):
    return run("kubectl", "-n", namespace, *arguments, given=given, check=check)


@functools.cache
def plugins():
    """A folder, gone at the end, where kubectl finds the herd command as its plugin."""
    folder = tempfile.TemporaryDirectory()
    os.symlink(HERD, f"{folder.name}/kubectl-herd")
    return folder


def start_herd(*arguments):
    """`kubectl herd`."""
    path = f"{plugins().name}:{os.environ['PATH']}"
    return subprocess.Popen(["kubectl", "herd", *arguments, "--namespace", DEMO], env=os.environ | {"PATH": path},
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def herd(*arguments):
    process = start_herd(*arguments)
    out, error = process.communicate(timeout=60)
    if process.returncode != 0:
        raise Wrong(f"kubectl herd {' '.join(arguments)}: {error.strip()}")
    return out


def get(kind, name, namespace=DEMO):
    text = kubectl("get", kind, name, "-o", "json", "--ignore-not-found", namespace=namespace)
    return json.loads(text) if text.strip() else None


def apply(document, namespace=DEMO):
    return kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", given=document, namespace=namespace)


def until(what, probe, seconds=60, every=0.2):
    """Waits until `probe` gives something true, and returns it; says what it gave last if it never does."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            found = probe()
        except (Wrong, OSError, urllib.error.URLError) as problem:
            found, last = None, problem
        else:
            last = found
        if found:
            return found
        if time.monotonic() > deadline:
            raise Wrong(f"waited {seconds} s for {what}; last seen: {last}")
        time.sleep(every)


def query(sql):
    """The first column of the first row, as text."""
    return run("psql", POSTGRES, "-qtAX", "-v", "ON_ERROR_STOP=1", "-c", "set search_path to herd_shop, public", "-c", sql).strip()


def condition(pipeline, kind):
    status = (get("herdpipeline", pipeline) or {}).get("status", {})
    return next((one for one in status.get("conditions", []) if one["type"] == kind), {})


def stage(pipeline, name):
    status = (get("herdpipeline", pipeline) or {}).get("status", {})
    return next((one for one in status.get("stages", []) if one["name"] == name), {})


def replicas(name):
    return (get("deployment", name) or {"spec": {}})["spec"].get("replicas")


def service(name):
    """Where a Service is reached, once it leads somewhere: that is a moment after its pod is ready."""
    host = get("service", name)["spec"]["clusterIP"]
    until(f"{name} to lead somewhere", lambda: socket.create_connection((host, 80), timeout=10).close() or True, 15)
    return f"http://{host}"


def fetch(url, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.status, answer.read().decode()


def generate(*arguments):
    """Sends generated events to the collector's Service; the report."""
    return said(start_generate(*arguments))


def start_generate(*arguments):
    """The same beside the test: [`said`] waits for its report."""
    command = [HERD, "generate", "--to", service("shop-collector"), "--json", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def said(process):
    out, error = process.communicate(timeout=300)
    if process.returncode != 0:
        raise Wrong(f"the generator ended with {process.returncode}: {error.strip()[-500:]}")
    return json.loads(out)


def process_of(pod, command, namespace):
    """The number of a pod's process."""
    uid = get("pod", pod, namespace)["metadata"]["uid"]
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            of_pod = uid in Path(f"/proc/{pid}/cgroup").read_text()
            if of_pod and Path(f"/proc/{pid}/comm").read_text().strip() == command:
                return int(pid)
        except FileNotFoundError:
            pass
    raise Wrong(f"no process {command} of {pod}")


def services():
    """Services for the Kafka and PostgreSQL of the tests, under the names that the demo uses."""
    address, port = KAFKA.split(":")
    postgres = re.search(r":(\d+)/", POSTGRES)[1]
    text = Path(ROOT, "dev/e2e/services.yaml").read_text()
    for name, value in (("ADDRESS", address), ("KAFKA_PORT", port), ("POSTGRES_PORT", postgres)):
        text = text.replace(name, value)
    apply(text)


def install():
    """The operator, from images that dev/images wrote."""
    for name in ("operator", "worker"):
        run(f"{ROOT}/dev/kubernetes/cluster", "load", f"ghcr.io/herd-dev/herd-{name}:{TAG}={IMAGES}/herd-{name}.tar")
    run("helm", "install", "herd", "charts/herd", "-n", HOME, "--create-namespace")
    kubectl("rollout", "status", "deployment/herd-operator", "--timeout=60s", namespace=HOME)


class WebSocket:
    """Enough of RFC 6455 to subscribe to a room and read its frames."""

    def __init__(self, url):
        host = url.removeprefix("http://").rstrip("/")
        self.socket = socket.create_connection((host, 80), timeout=10)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET /ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
        self.rest = b""
        while b"\r\n\r\n" not in self.rest:
            self.rest += self._receive()
        head, self.rest = self.rest.split(b"\r\n\r\n", 1)
        if b" 101 " not in head.split(b"\r\n")[0]:
            raise Wrong(f"no WebSocket: {head.decode()}")

    def _receive(self):
        data = self.socket.recv(65536)
        if not data:
            raise Wrong("the WebSocket was closed")
        return data

    def _take(self, count):
        while len(self.rest) < count:
            self.rest += self._receive()
        taken, self.rest = self.rest[:count], self.rest[count:]
        return taken

    def _send(self, opcode, payload):
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
        length = struct.pack("!B", 0x80 | len(payload)) if len(payload) < 126 else struct.pack("!BH", 0xFE, len(payload))
        self.socket.sendall(bytes([0x80 | opcode]) + length + mask + masked)

    def subscribe(self, room):
        self._send(1, json.dumps({"op": "subscribe", "room": room}).encode())

    def frame(self):
        """The next frame of text, as JSON."""
        while True:
            first, second = self._take(2)
            length = second & 0x7F
            if length == 126:
                length = struct.unpack("!H", self._take(2))[0]
            elif length == 127:
                length = struct.unpack("!Q", self._take(8))[0]
            payload = self._take(length)
            if first & 0x0F == 9:
                self._send(10, payload)
            elif first & 0x0F == 1:
                return json.loads(payload)

    def frames(self, seconds):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            yield self.frame()
