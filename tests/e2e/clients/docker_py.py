"""Everyday operations of docker-py against the engine: `IMAGE` names a busybox, `DOCKER_HOST` the socket.

What each call is to do: https://docker-py.readthedocs.io/en/stable/
"""

import io
import os
import socket
import struct
import tarfile
import tempfile
import threading
import time
import unittest
import uuid

import docker
from docker.errors import APIError, ContainerError, ImageNotFound, NotFound
from docker.types import EndpointConfig, Healthcheck, IPAMConfig, IPAMPool, LogConfig, Mount, Ulimit

IMAGE = os.environ["IMAGE"]


def archive(files):
    """A tar archive of names and contents."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


class Case(unittest.TestCase):
    def setUp(self):
        self.client = docker.from_env(version="auto", timeout=60)
        self.addCleanup(self.client.close)

    def name(self):
        return "py-" + uuid.uuid4().hex[:8]

    def run_detached(self, *command, **more):
        container = self.client.containers.run(IMAGE, list(command) or ["sleep", "1000"], detach=True, **more)
        self.addCleanup(self.gone, container)
        return container

    def gone(self, container):
        try:
            container.remove(force=True, v=True)
        except NotFound:
            pass

    def until(self, look, wanted):
        end = time.monotonic() + 30
        while True:
            seen = look()
            if wanted(seen):
                return seen
            self.assertLess(time.monotonic(), end, f"still {seen!r}")
            time.sleep(0.05)


class Engine(Case):
    def test_it_says_who_it_is(self):
        self.assertTrue(self.client.ping())
        version = self.client.version()
        self.assertEqual(version["Os"], "linux")
        self.assertGreaterEqual(tuple(map(int, version["ApiVersion"].split("."))), (1, 41))
        self.assertEqual(self.client.info()["OSType"], "linux")
        self.assertIn("Images", self.client.df())

    def test_every_version_of_the_api_is_spoken(self):
        for minor in range(41, 51):
            client = docker.from_env(version=f"1.{minor}")
            self.addCleanup(client.close)
            self.assertIsInstance(client.containers.list(all=True), list, minor)
            self.assertIsInstance(client.images.list(), list, minor)
            self.assertIsInstance(client.networks.list(), list, minor)

    def test_it_is_no_swarm(self):
        with self.assertRaises(APIError) as caught:
            self.client.services.list()
        self.assertEqual(caught.exception.status_code, 503)
        self.assertIn("not a swarm manager", str(caught.exception))
        self.assertEqual(self.client.plugins.list(), [])

    def test_events_tell_what_happens(self):
        since = int(time.time())
        name = self.name()
        self.client.containers.run(IMAGE, ["true"], name=name, remove=True)
        seen = self.client.events(since=since, until=int(time.time()) + 2, decode=True, filters={"container": name})
        actions = [event["Action"] for event in seen]
        for action in ["create", "start", "die", "destroy"]:
            self.assertIn(action, actions)


class Containers(Case):
    def test_output_comes_back_and_failures_are_errors(self):
        self.assertEqual(self.client.containers.run(IMAGE, ["echo", "hello"], remove=True), b"hello\n")
        with self.assertRaises(ContainerError) as caught:
            self.client.containers.run(IMAGE, ["sh", "-c", "echo no >&2; exit 3"], remove=True)
        self.assertEqual((caught.exception.exit_status, caught.exception.stderr), (3, b"no\n"))
        with self.assertRaises(APIError):
            self.client.containers.run(IMAGE, ["/no/such/program"], remove=True)
        streamed = self.client.containers.run(IMAGE, ["sh", "-c", "echo a; echo b"], stream=True, remove=True)
        self.assertEqual(b"".join(streamed), b"a\nb\n")

    def test_a_life(self):
        container = self.run_detached("sh", "-c", "trap 'exit 4' TERM; echo begun; while :; do sleep 0.1; done")
        self.until(container.logs, lambda text: text == b"begun\n")
        self.assertEqual(container.status, "created")
        container.reload()
        self.assertEqual(container.status, "running")
        container.pause()
        container.reload()
        self.assertEqual(container.status, "paused")
        container.unpause()
        container.restart(timeout=5)
        container.stop(timeout=5)
        self.assertEqual(container.wait()["StatusCode"], 4)
        container.start()
        container.kill("SIGKILL")
        self.assertEqual(container.wait(condition="not-running")["StatusCode"], 137)
        name = self.name()
        container.rename(name)
        self.assertEqual(self.client.containers.get(name).id, container.id)
        container.remove()
        with self.assertRaises(NotFound):
            self.client.containers.get(name)

    def test_lists_are_filtered(self):
        label = self.name()
        one = self.run_detached(labels={"test": label})
        two = self.client.containers.create(IMAGE, ["true"], labels={"test": label})
        self.addCleanup(self.gone, two)
        ids = lambda **how: {found.id for found in self.client.containers.list(**how)}
        mine = {"label": f"test={label}"}
        self.assertEqual(ids(filters=mine), {one.id})
        self.assertEqual(ids(all=True, filters=mine), {one.id, two.id})
        self.assertEqual(ids(all=True, filters={**mine, "status": "created"}), {two.id})
        self.assertEqual(ids(all=True, filters={**mine, "id": one.id}), {one.id})
        self.assertEqual(ids(filters={**mine, "ancestor": IMAGE}), {one.id})
        self.assertEqual(ids(all=True, filters={**mine, "since": one.id}), {two.id})
        with self.assertRaises(APIError) as caught:
            self.client.containers.list(filters={"nothing": "x"})
        self.assertEqual(caught.exception.status_code, 400)

    def test_commands_run_inside(self):
        container = self.run_detached()
        result = container.exec_run(["sh", "-c", "echo out; echo err >&2; exit 5"], demux=True)
        self.assertEqual((result.exit_code, result.output), (5, (b"out\n", b"err\n")))
        self.assertEqual(container.exec_run("id -u", user="7").output, b"7\n")
        self.assertEqual(container.exec_run("pwd", workdir="/tmp").output, b"/tmp\n")
        self.assertEqual(container.exec_run("sh -c 'echo $X'", environment={"X": "1"}).output, b"1\n")
        self.assertEqual(b"".join(container.exec_run("echo streamed", stream=True).output), b"streamed\n")
        self.assertEqual(container.exec_run("tty", tty=True).output.strip(), b"/dev/pts/0")
        low = self.client.api
        exec_id = low.exec_create(container.id, ["cat"], stdin=True)["Id"]
        stream = low.exec_start(exec_id, socket=True)
        raw = getattr(stream, "_sock", stream)
        raw.sendall(b"through\n")
        raw.shutdown(socket.SHUT_WR)
        got = b""
        while piece := raw.recv(4096):
            got += piece
        self.assertEqual(got, struct.pack(">BxxxL", 1, 8) + b"through\n")
        stream.close()
        self.until(lambda: low.exec_inspect(exec_id)["Running"], lambda running: not running)

    def test_logs_are_cut_and_followed(self):
        container = self.run_detached("sh", "-c", "for i in 1 2 3; do echo $i; done; echo e >&2; sleep 1; echo 4")
        followed = b"".join(container.logs(stream=True, follow=True, stderr=False))
        self.assertEqual(followed, b"1\n2\n3\n4\n")
        self.assertEqual(container.logs(tail=1), b"4\n")
        self.assertEqual(container.logs(stdout=False), b"e\n")
        self.assertRegex(container.logs(timestamps=True, tail=1), rb"^\d{4}-\d\d-\d\dT[\d:.]+Z 4\n$")
        self.assertEqual(container.logs(since=int(time.time()) + 1000), b"")

    def test_it_is_attached_to(self):
        container = self.client.containers.create(IMAGE, ["cat"], stdin_open=True)
        self.addCleanup(self.gone, container)
        stream = container.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
        container.start()
        raw = getattr(stream, "_sock", stream)
        raw.sendall(b"typed\n")
        head = raw.recv(8, socket.MSG_WAITALL)
        self.assertEqual(struct.unpack(">BxxxL", head), (1, 6))
        self.assertEqual(raw.recv(6, socket.MSG_WAITALL), b"typed\n")
        stream.close()

    def test_it_is_attached_to_as_browsers_do(self):
        container = self.run_detached("cat", stdin_open=True)
        raw = socket.socket(socket.AF_UNIX)
        self.addCleanup(raw.close)
        raw.settimeout(30)
        raw.connect(os.environ["DOCKER_HOST"].removeprefix("unix://"))
        request = [
            f"GET /v1.50/containers/{container.id}/attach/ws?stream=1&stdin=1&stdout=1 HTTP/1.1",
            "Host: docker",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ]
        raw.sendall("\r\n".join(request).encode() + b"\r\n\r\n")
        head = b""
        while b"\r\n\r\n" not in head:
            head += raw.recv(1)
        self.assertIn(b" 101 ", head)
        self.assertIn(b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", head)
        # A binary message, masked with zeros, and what comes back without a mask.
        raw.sendall(b"\x82\x86\0\0\0\0typed\n")
        self.assertEqual(raw.recv(8, socket.MSG_WAITALL), b"\x82\x06typed\n")

    def test_a_terminal_is_resized(self):
        container = self.run_detached("sh", tty=True, stdin_open=True)
        container.resize(30, 100)
        self.until(lambda: container.exec_run("sh -c 'stty size < /proc/1/fd/0'").output.strip(), lambda s: s == b"30 100")

    def test_files_go_in_and_out(self):
        container = self.run_detached()
        self.assertTrue(container.put_archive("/tmp", archive({"one.txt": b"one", "two/three.txt": b"three"})))
        self.assertEqual(container.exec_run("cat /tmp/two/three.txt").output, b"three")
        pieces, stat = container.get_archive("/tmp/two")
        self.assertEqual(stat["name"], "two")
        with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as tar:
            self.assertEqual(tar.extractfile("two/three.txt").read(), b"three")
        with self.assertRaises(NotFound):
            container.get_archive("/nothing")
        self.assertIn({"Path": "/tmp/one.txt", "Kind": 1}, container.diff())
        with tarfile.open(fileobj=io.BytesIO(b"".join(container.export()))) as tar:
            self.assertIn("tmp/one.txt", tar.getnames())

    def test_processes_and_usage_are_told(self):
        container = self.run_detached()
        top = container.top()
        self.assertIn("PID", top["Titles"])
        self.assertTrue(any("sleep" in row[-1] for row in top["Processes"]))
        aux = container.top(ps_args="-o pid,ppid,user,comm")
        self.assertEqual((aux["Titles"], aux["Processes"][0][3]), (["PID", "PPID", "USER", "COMMAND"], "sleep"))
        stats = container.stats(stream=False)
        self.assertGreater(stats["memory_stats"]["usage"], 0)
        self.assertIn("eth0", stats["networks"])
        first = next(container.stats(stream=True, decode=True))
        self.assertEqual(first["id"], container.id)

    def test_limits_and_more_are_kept(self):
        container = self.run_detached(
            mem_limit="64m",
            memswap_limit="128m",
            nano_cpus=500_000_000,
            pids_limit=50,
            ulimits=[Ulimit(name="nofile", soft=100, hard=200)],
            cap_add=["NET_ADMIN"],
            cap_drop=["MKNOD"],
            dns=["9.9.9.9"],
            extra_hosts={"other": "10.1.2.3"},
            environment=["A=b"],
            hostname="named",
            domainname="example.org",
            user="0:0",
            working_dir="/tmp",
            tmpfs={"/scratch": "size=1m"},
            shm_size="2m",
            sysctls={"net.core.somaxconn": "99"},
            security_opt=["no-new-privileges"],
            log_config=LogConfig(type="json-file", config={"max-size": "1m"}),
            restart_policy={"Name": "on-failure", "MaximumRetryCount": 3},
            init=True,
            read_only=True,
            stop_signal="SIGINT",
            oom_score_adj=5,
            group_add=["12"],
            ipc_mode="shareable",
            labels={"a": "b"},
        )
        container.reload()
        host = container.attrs["HostConfig"]
        self.assertEqual((host["Memory"], host["NanoCpus"], host["PidsLimit"]), (64 << 20, 500_000_000, 50))
        self.assertEqual(host["RestartPolicy"], {"Name": "on-failure", "MaximumRetryCount": 3})
        run = lambda line: container.exec_run(["sh", "-c", line]).output.decode().strip()
        self.assertEqual(run("ulimit -n; hostname; pwd; echo $A"), "100\nnamed\n/tmp\nb")
        self.assertEqual(run("grep other /etc/hosts | cut -f1"), "10.1.2.3")
        self.assertEqual(run("cat /proc/sys/net/core/somaxconn"), "99")
        self.assertEqual(run("touch /x 2>/dev/null || echo refused"), "refused")
        self.assertIn("9.9.9.9", run("cat /etc/resolv.conf"))
        self.assertIn("12", run("id -G").split())
        container.update(mem_limit="96m", memswap_limit="192m", restart_policy={"Name": "no"})
        container.reload()
        self.assertEqual(container.attrs["HostConfig"]["Memory"], 96 << 20)

    def test_health_is_looked_at(self):
        check = Healthcheck(test=["CMD", "test", "-e", "/well"], interval=200_000_000, retries=2)
        container = self.run_detached(healthcheck=check)
        state = lambda: container.reload() or container.health
        self.until(state, lambda health: health == "unhealthy")
        container.exec_run("touch /well")
        self.until(state, lambda health: health == "healthy")

    def test_ports_are_published(self):
        container = self.run_detached("httpd", "-f", "-p", "80", ports={"80/tcp": ("127.0.0.1", None), "81/tcp": None})
        container.reload()
        bound = container.ports["80/tcp"][0]
        self.assertEqual(bound["HostIp"], "127.0.0.1")

        def connect():
            with socket.socket() as client:
                return client.connect_ex(("127.0.0.1", int(bound["HostPort"])))

        self.until(connect, lambda refused: refused == 0)

    def test_those_that_ended_are_pruned(self):
        label = self.name()
        ended = self.client.containers.create(IMAGE, ["true"], labels=[label])
        pruned = self.client.containers.prune(filters={"label": label})
        self.assertEqual(pruned["ContainersDeleted"], [ended.id])


class Images(Case):
    def test_one_is_looked_at_named_and_unnamed(self):
        image = self.client.images.get(IMAGE)
        self.assertIn(IMAGE, image.tags)
        self.assertEqual(image.attrs["Os"], "linux")
        self.assertTrue(image.history())
        name = self.name()
        self.assertTrue(image.tag(name, tag="x"))
        self.assertEqual(self.client.images.get(f"{name}:x").id, image.id)
        self.assertEqual([found.id for found in self.client.images.list(name=name)], [image.id])
        self.client.images.remove(f"{name}:x")
        with self.assertRaises(ImageNotFound):
            self.client.images.get(f"{name}:x")

    def test_one_is_built(self):
        name = self.name()
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "Dockerfile"), "w") as file:
                file.write(f"FROM {IMAGE}\nARG WHO\nCOPY here.txt /\nRUN echo $WHO > /who\nCMD cat /who /here.txt\n")
            with open(os.path.join(folder, "here.txt"), "w") as file:
                file.write("here\n")
            image, log = self.client.images.build(path=folder, tag=name, buildargs={"WHO": "me"}, rm=True)
        self.addCleanup(self.client.images.remove, name, force=True)
        self.assertTrue(any("Successfully built" in line.get("stream", "") for line in log))
        self.assertEqual(self.client.containers.run(image.id, remove=True), b"me\nhere\n")
        with self.assertRaises(docker.errors.BuildError):
            self.client.images.build(fileobj=io.BytesIO(f"FROM {IMAGE}\nRUN false\n".encode()))

    def test_one_survives_save_and_load(self):
        name = self.name() + ":1"
        image = self.client.images.get(IMAGE)
        image.tag(name)
        image = self.client.images.get(name)
        saved = b"".join(image.save(named=name))
        self.client.images.remove(name)
        loaded = self.client.images.load(saved)
        self.addCleanup(self.client.images.remove, name)
        # Once for each of its names.
        self.assertEqual({one.id for one in loaded}, {image.id})
        self.assertIn(name, loaded[0].tags)

    def test_one_is_made_of_a_container(self):
        container = self.run_detached("sh", "-c", "echo made > /made; sleep 1000")
        self.until(lambda: container.exec_run("cat /made").exit_code, lambda code: code == 0)
        name = self.name()
        image = container.commit(
            repository=name, tag="1", message="why", author="who", changes=["CMD [\"cat\", \"/made\"]", "ENV A=b"],
            conf={"Labels": {"from": "conf"}},
        )
        self.addCleanup(self.client.images.remove, f"{name}:1", force=True)
        self.assertEqual(self.client.images.get(f"{name}:1").id, image.id)
        self.assertEqual((image.attrs["Author"], image.attrs["Comment"]), ("who", "why"))
        self.assertEqual(image.labels, {"from": "conf"})
        self.assertEqual(self.client.containers.run(f"{name}:1", remove=True), b"made\n")
        self.assertEqual(self.client.containers.run(f"{name}:1", ["sh", "-c", "echo $A"], remove=True), b"b\n")

    def test_one_that_is_used_stays(self):
        name = self.name()
        self.client.images.get(IMAGE).tag(name)
        built, _ = self.client.images.build(fileobj=io.BytesIO(f"FROM {name}\nLABEL a={name}\n".encode()), tag=name)
        container = self.client.containers.run(name, ["sleep", "1000"], detach=True)
        try:
            with self.assertRaises(APIError) as caught:
                self.client.images.remove(built.id, force=True)
            self.assertEqual(caught.exception.status_code, 409)
            self.assertIn("cannot be forced) - image is being used by running container", str(caught.exception))
            with self.assertRaises(APIError) as caught:
                self.client.images.remove(name)
            self.assertIn("(must force) - container", str(caught.exception))
        finally:
            container.remove(force=True)
        self.client.images.remove(name)

    def test_what_is_not_there_is_said_so(self):
        with self.assertRaises(ImageNotFound):
            self.client.images.get("no-such-image:1")
        with self.assertRaises(ImageNotFound):
            self.client.containers.create("no-such-image:1")


class Networks(Case):
    def test_containers_find_one_another(self):
        pool = IPAMPool(subnet="10.222.0.0/24", gateway="10.222.0.1")
        network = self.client.networks.create(self.name(), driver="bridge", ipam=IPAMConfig(pool_configs=[pool]), labels={"a": "b"})
        self.addCleanup(network.remove)
        server = self.run_detached("httpd", "-f", "-p", "80", "-h", "/etc")
        self.addCleanup(self.gone, server)
        network.connect(server, aliases=["web"], ipv4_address="10.222.0.9")
        network.reload()
        self.assertEqual([one.id for one in network.containers], [server.id])
        found = self.client.containers.run(IMAGE, ["wget", "-qO-", "http://web/hostname"], network=network.name, remove=True)
        self.assertEqual(found.decode().strip(), server.id[:12])
        server.reload()
        self.assertEqual(server.attrs["NetworkSettings"]["Networks"][network.name]["IPAddress"], "10.222.0.9")
        network.disconnect(server)
        self.assertEqual([one.id for one in self.client.networks.list(names=[network.name])], [network.id])
        # At the start, with settings of its own.
        config = {network.name: EndpointConfig("1.44", aliases=["other"], ipv4_address="10.222.0.7")}
        other = self.run_detached(network=network.name, networking_config=config)
        self.assertEqual(other.exec_run("nslookup other").exit_code, 0)
        self.gone(other)

    def test_unused_ones_are_pruned(self):
        label = self.name()
        network = self.client.networks.create(self.name(), labels={label: ""})
        self.assertEqual(self.client.networks.prune(filters={"label": label})["NetworksDeleted"], [network.name])


class Volumes(Case):
    def test_they_keep_files(self):
        volume = self.client.volumes.create(self.name(), labels={"a": "b"})
        self.addCleanup(volume.remove, force=True)
        bind = {volume.name: {"bind": "/data", "mode": "rw"}}
        self.client.containers.run(IMAGE, ["sh", "-c", "echo kept > /data/file"], volumes=bind, remove=True)
        mount = Mount("/x", volume.name, read_only=True)
        self.assertEqual(self.client.containers.run(IMAGE, ["cat", "/x/file"], mounts=[mount], remove=True), b"kept\n")
        self.assertEqual([one.name for one in self.client.volumes.list(filters={"name": volume.name})], [volume.name])
        self.assertEqual(self.client.volumes.get(volume.name).attrs["Labels"], {"a": "b"})

    def test_one_in_use_stays_and_unused_ones_are_pruned(self):
        volume = self.client.volumes.create(self.name(), labels={"mine": "x"})
        container = self.run_detached(volumes=[f"{volume.name}:/data"])
        with self.assertRaises(APIError) as caught:
            volume.remove()
        self.assertEqual(caught.exception.status_code, 409)
        self.gone(container)
        pruned = self.client.volumes.prune(filters={"label": "mine=x", "all": True})
        self.assertEqual(pruned["VolumesDeleted"], [volume.name])

    def test_a_folder_of_the_machine_is_seen(self):
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "file"), "w") as file:
                file.write("here")
            seen = self.client.containers.run(IMAGE, ["cat", "/x/file"], volumes=[f"{folder}:/x:ro"], remove=True)
        self.assertEqual(seen, b"here")


class Listening(Case):
    def test_events_of_images_volumes_and_networks_arrive(self):
        heard, name = [], self.name()
        stream = self.client.events(decode=True)
        listener = threading.Thread(target=lambda: heard.extend(stream), daemon=True)
        listener.start()
        time.sleep(0.3)
        self.client.images.get(IMAGE).tag(name)
        self.client.images.remove(name)
        self.client.volumes.create(name).remove()
        self.client.networks.create(name).remove()
        wanted = [("image", "tag"), ("image", "untag"), ("volume", "create"), ("volume", "destroy"),
                  ("network", "create"), ("network", "destroy")]
        seen = lambda: [(event["Type"], event["Action"]) for event in list(heard)]
        self.until(seen, lambda told: all(one in told for one in wanted))
        stream.close()


if __name__ == "__main__":
    unittest.main(verbosity=2)
