"""Ryuk, which cleans up after Testcontainers: its own program in a container that the engine's socket is mounted into.

`IMAGE` names a busybox, `DOCKER_HOST` the socket, `RYUK` the static program. What a library asks of it: https://github.com/testcontainers/moby-ryuk
"""

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
import unittest

import docker

IMAGE = os.environ["IMAGE"]
RYUK = "testcontainers/ryuk:0.8.1"
OTHERS = {"org.testcontainers.session-id": "somebody-else"}
SLEEP = ["sleep", "1000"]
"""How long it may take until everything has gone, in seconds."""
PATIENCE = 120


def leave():
    """What a run of tests makes; then it dies as by the loss of power."""
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.labels import LABEL_SESSION_ID, SESSION_ID
    from testcontainers.core.network import Network

    client = docker.from_env()
    labels = {LABEL_SESSION_ID: SESSION_ID}
    network = Network().create()
    running = DockerContainer(IMAGE).with_command(SLEEP).with_network(network)
    running.start()
    kept = DockerContainer(IMAGE).with_command(SLEEP).with_volume_mapping("ryuk-data", "/data", "rw")
    kept.start()
    stopped = client.containers.create(IMAGE, ["true"], labels=labels)
    volume = client.volumes.create("ryuk-left", labels=labels)
    client.volumes.get("ryuk-data")
    text = f"FROM {IMAGE}\nLABEL {LABEL_SESSION_ID}={SESSION_ID}\nRUN echo left > /left\n"
    image, _ = client.images.build(fileobj=io.BytesIO(text.encode()), tag="ryuk/left:1")
    reaper = client.containers.get(f"testcontainers-ryuk-{SESSION_ID}")
    said = {
        "containers": [running.get_wrapped_container().id, kept.get_wrapped_container().id, stopped.id],
        "networks": [network.id],
        "volumes": [volume.name],
        "images": [image.id],
        "reaper": reaper.id,
    }
    print(json.dumps(said), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def packed():
    """A context with the program and what its image is made from."""
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        text = b"FROM scratch\nCOPY ryuk /bin/ryuk\nCMD [\"/bin/ryuk\"]\nLABEL org.testcontainers.ryuk=true\n"
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text))
        tar.add(os.environ["RYUK"], "ryuk")
    context.seek(0)
    return context


class Reaping(unittest.TestCase):
    def setUp(self):
        self.client = docker.from_env()
        self.client.images.build(fileobj=packed(), custom_context=True, tag=RYUK)

    def is_gone(self, get, what):
        try:
            get(what)
        except docker.errors.NotFound:
            return True
        return False

    def left(self, said):
        kinds = {
            "containers": self.client.containers.get,
            "networks": self.client.networks.get,
            "volumes": self.client.volumes.get,
            "images": self.client.images.get,
        }
        left = [(kind, what) for kind, get in kinds.items() for what in said[kind] if not self.is_gone(get, what)]
        if not self.is_gone(self.client.containers.get, said["reaper"]):
            left.append(("reaper", said["reaper"]))
        return left

    def test_what_a_run_that_died_has_left_goes_and_what_is_anothers_stays(self):
        other = self.client.containers.run(IMAGE, SLEEP, labels=OTHERS, detach=True)
        network = self.client.networks.create("ryuk-other", labels=OTHERS)
        volume = self.client.volumes.create("ryuk-other", labels=OTHERS)
        try:
            more = {**os.environ, "RYUK_RECONNECTION_TIMEOUT": "1s"}
            child = subprocess.run([sys.executable, "-B", __file__, "leave"], env=more, capture_output=True, text=True)
            self.assertEqual(child.returncode, -signal.SIGKILL, child.stderr)
            said = json.loads(child.stdout)
            self.assertIn("reaper", dict(self.left(said)))
            deadline = time.monotonic() + PATIENCE
            while left := self.left(said):
                if time.monotonic() > deadline:
                    logs = "gone" if "reaper" not in dict(left) else self.client.containers.get(said["reaper"]).logs()
                    self.fail(f"{left} is still there: {logs}")
                time.sleep(0.5)
            other.reload()
            self.assertEqual(other.status, "running")
            network.reload()
            volume.reload()
            # A named volume without a label is nobody's to remove.
            self.client.volumes.get("ryuk-data").remove()
        finally:
            other.remove(force=True)
            network.remove()
            volume.remove()
            self.client.images.remove(RYUK)


if __name__ == "__main__":
    leave() if sys.argv[1:] == ["leave"] else unittest.main(verbosity=2)
