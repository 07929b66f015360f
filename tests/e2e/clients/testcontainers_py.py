"""What Testcontainers (its Python library) asks of the engine, without Ryuk: `IMAGE` names a busybox, `DOCKER_HOST` the socket.

https://testcontainers-python.readthedocs.io/
"""

import os
import pathlib
import tempfile
import unittest
import urllib.request

from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer
from testcontainers.core.image import DockerImage
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import (
    ContainerStatusWaitStrategy,
    ExecWaitStrategy,
    FileExistsWaitStrategy,
    HealthcheckWaitStrategy,
    HttpWaitStrategy,
    LogMessageWaitStrategy,
    PortWaitStrategy,
)

IMAGE = os.environ["IMAGE"]
testcontainers_config.ryuk_disabled = True

SERVE = ["sh", "-c", "mkdir /www; echo hello > /www/index.html; echo serving; exec httpd -f -p 8000 -h /www"]


class Waiting(unittest.TestCase):
    def test_a_service_is_waited_for_and_reached(self):
        for wait in [
            LogMessageWaitStrategy("serving"),
            PortWaitStrategy(8000),
            HttpWaitStrategy(8000, "/").for_status_code(200),
            ExecWaitStrategy(["test", "-e", "/www/index.html"]),
            ContainerStatusWaitStrategy(),
        ]:
            with self.subTest(type(wait).__name__):
                container = DockerContainer(IMAGE).with_command(SERVE).with_exposed_ports(8000)
                with container.waiting_for(wait.with_startup_timeout(30)) as service:
                    HttpWaitStrategy(8000, "/").with_startup_timeout(30).wait_until_ready(service)
                    host, port = service.get_container_host_ip(), service.get_exposed_port(8000)
                    with urllib.request.urlopen(f"http://{host}:{port}/", timeout=10) as answer:
                        self.assertEqual(answer.read(), b"hello\n")

    def test_health_is_waited_for(self):
        check = {"test": ["CMD", "test", "-e", "/etc/passwd"], "interval": 200_000_000}
        container = DockerContainer(IMAGE).with_command(["sleep", "1000"]).with_kwargs(healthcheck=check)
        with container.waiting_for(HealthcheckWaitStrategy().with_startup_timeout(30)) as healthy:
            healthy.reload()
            self.assertEqual(healthy.get_wrapped_container().health, "healthy")

    def test_a_file_is_waited_for(self):
        with tempfile.TemporaryDirectory() as folder:
            container = DockerContainer(IMAGE).with_command(["sh", "-c", "touch /out/done; sleep 1000"])
            container.with_volume_mapping(folder, "/out", "rw")
            wait = FileExistsWaitStrategy(os.path.join(folder, "done")).with_startup_timeout(30)
            with container.waiting_for(wait):
                pass


class Containers(unittest.TestCase):
    def test_settings_reach_the_container(self):
        container = (
            DockerContainer(IMAGE)
            .with_command(["sleep", "1000"])
            .with_env("A", "b")
            .with_tmpfs_mount("/scratch", "size=1m")
            .with_name("tc-settings")
            .with_kwargs(hostname="named", mem_limit="64m", cap_add=["NET_ADMIN"])
        )
        with container as running:
            said = running.exec(["sh", "-c", "echo $A; hostname; grep -c /scratch /proc/mounts"])
            self.assertEqual((said.exit_code, said.output), (0, b"b\nnamed\n1\n"))
            info = running.get_container_info()
            self.assertEqual((info.Name, info.State.Running), ("/tc-settings", True))
            labels = running.get_wrapped_container().labels
            self.assertEqual(labels["org.testcontainers"], "true")

    def test_output_and_the_exit_code_come_back(self):
        with DockerContainer(IMAGE).with_command(["sh", "-c", "echo out; echo err >&2; exit 3"]) as running:
            self.assertEqual(running.wait(), 3)
            self.assertEqual(running.get_logs(), (b"out\n", b"err\n"))

    def test_files_are_copied_both_ways(self):
        with tempfile.TemporaryDirectory() as folder:
            here = pathlib.Path(folder)
            (here / "in.txt").write_text("in")
            container = DockerContainer(IMAGE).with_command(["sh", "-c", "cp /before.txt /after.txt; sleep 1000"])
            container.with_copy_into_container(b"before", "/before.txt")
            with container as running:
                running.copy_into_container(here / "in.txt", "/deep/er/in.txt")
                self.assertEqual(running.exec("cat /deep/er/in.txt").output, b"in")
                ExecWaitStrategy(["test", "-s", "/after.txt"]).with_startup_timeout(30).wait_until_ready(running)
                running.copy_from_container("/after.txt", here / "out.txt")
            self.assertEqual((here / "out.txt").read_bytes(), b"before")

    def test_containers_of_a_network_find_one_another(self):
        with Network() as network:
            server = DockerContainer(IMAGE).with_command(SERVE).with_network(network).with_network_aliases("web")
            with server.waiting_for(LogMessageWaitStrategy("serving").with_startup_timeout(30)):
                client = DockerContainer(IMAGE).with_command(["sleep", "1000"]).with_network(network)
                with client as running:
                    wait = ExecWaitStrategy(["wget", "-qO-", "http://web:8000/"]).with_startup_timeout(30)
                    wait.wait_until_ready(running)
                    self.assertEqual(running.exec("wget -qO- http://web:8000/").output, b"hello\n")

    def test_an_image_is_built_and_removed(self):
        with tempfile.TemporaryDirectory() as folder:
            pathlib.Path(folder, "Dockerfile").write_text(f"FROM {IMAGE}\nRUN echo built > /built\nCMD cat /built\n")
            with DockerImage(path=folder, tag="tc-built:1") as image:
                with DockerContainer(str(image)) as running:
                    self.assertEqual(running.wait(), 0)
                    self.assertEqual(running.get_logs()[0], b"built\n")


if __name__ == "__main__":
    unittest.main(verbosity=2)
