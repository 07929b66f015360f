//! Docker's own command line against the engine: containers, networks, volumes, compose.

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use e2e::Cluster;

use crate::shared::{IMAGE, cluster, fresh, lacks, said};

/// The command line, joined with one engine; names of one test begin alike and are removed with it.
struct Docker<'a> {
    cluster: &'a Cluster,
    prefix: String,
}

static TESTS: AtomicU32 = AtomicU32::new(0);

fn docker() -> Option<Docker<'static>> {
    on(cluster()?)
}

fn on(cluster: &Cluster) -> Option<Docker<'_>> {
    let there =
        Command::new("docker").arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success());
    if lacks((!there).then_some("no docker on this machine: only its command line is needed")) {
        return None;
    }
    Some(Docker { cluster, prefix: format!("t{}", TESTS.fetch_add(1, Ordering::Relaxed)) })
}

impl Docker<'_> {
    fn command(&self) -> Command {
        let mut command = self.cluster.place.command("docker");
        command.env("DOCKER_HOST", format!("unix://{}", self.cluster.run_dir().join("docker.sock").display()));
        command
    }

    fn output(&self, line: &[&str]) -> Output {
        self.command().args(line).stdin(Stdio::null()).output().unwrap()
    }

    /// What a command says that must succeed.
    #[track_caller]
    fn good(&self, line: &[&str]) -> String {
        let output = self.output(line);
        assert!(output.status.success(), "{line:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// The exit code and the words of one that need not.
    fn any(&self, line: &[&str]) -> (i32, String) {
        let output = self.output(line);
        (output.status.code().unwrap_or(-1), said(&output))
    }

    fn name(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// What is served at a port of the machine; nothing where nobody listens.
    fn fetch(&self, host: &str, port: &str) -> String {
        let mut fetch = self.cluster.place.command("curl");
        let got = fetch.args(["-s", "--max-time", "10", &format!("http://{host}:{port}/")]).output().unwrap();
        String::from_utf8(got.stdout).unwrap()
    }

    /// Asks until the answer is the one that is waited for.
    #[track_caller]
    fn until(&self, line: &[&str], wanted: impl Fn(&str) -> bool) -> String {
        let begun = Instant::now();
        loop {
            let answer = self.good(line);
            if wanted(&answer) {
                return answer;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "{line:?} still says {answer}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Docker<'_> {
    fn drop(&mut self) {
        let filter = format!("name=^{}-", self.prefix);
        let left = self.output(&["ps", "-aq", "--filter", &filter]);
        for id in String::from_utf8_lossy(&left.stdout).split_whitespace() {
            let _ = self.output(&["rm", "-fv", id]);
        }
    }
}

#[test]
fn a_container_runs_to_its_end_and_its_exit_code_and_output_come_back() {
    let Some(docker) = docker() else { return };
    let output = docker.output(&["run", "--rm", IMAGE, "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!(output.status.code(), Some(7), "{}", said(&output));
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (b"out\n".as_slice(), b"err\n".as_slice()));
    // What cannot be run has upstream's codes.
    assert_eq!(docker.any(&["run", "--rm", IMAGE, "/no/such/program"]).0, 127);
    assert_eq!(docker.any(&["run", "--rm", IMAGE, "/etc"]).0, 126);
    let mut child = docker
        .command()
        .args(["run", "--rm", "-i", IMAGE, "wc", "-c"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), &[b'x'; 100_000]).unwrap();
    assert_eq!(String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap().trim(), "100000");
}

#[test]
fn a_container_is_started_looked_at_stopped_and_removed() {
    let Some(docker) = docker() else { return };
    let name = docker.name("web");
    let id = docker.good(&[
        "run",
        "-d",
        "--name",
        &name,
        "--label",
        "a=b",
        IMAGE,
        "sh",
        "-c",
        "echo one; echo two; trap 'exit 3' TERM; while :; do sleep 0.1; done",
    ]);
    assert_eq!(id.len(), 64);
    docker.until(&["logs", &name], |text| text == "one\ntwo");
    assert_eq!(docker.good(&["logs", "--tail", "1", &name]), "two");
    assert_eq!(
        docker.good(&["ps", "-q", "--no-trunc", "--filter", "label=a=b", "--filter", &format!("name={name}")]),
        id
    );
    assert_eq!(docker.any(&["run", "--name", &name, IMAGE]).0, 125, "a name is given once");
    let (code, text) = docker.any(&["rm", &name]);
    assert!(code != 0 && text.contains("container is running"), "{text}");
    assert_eq!(docker.good(&["exec", &name, "sh", "-c", "echo $HOSTNAME"]), id[..12]);
    assert_eq!(
        docker.any(&[
            "exec",
            "-u",
            "7:8",
            "-w",
            "/tmp",
            "-e",
            "X=1",
            &name,
            "sh",
            "-c",
            "id -u; id -g; pwd; echo $X; exit 5"
        ]),
        (5, "7\n8\n/tmp\n1\n".into())
    );
    assert_eq!(docker.any(&["exec", &name, "/no/such"]).0, 127);
    assert!(docker.good(&["top", &name]).contains("sleep"));
    docker.good(&["pause", &name]);
    assert_eq!(docker.good(&["inspect", "-f", "{{.State.Status}}", &name]), "paused");
    docker.good(&["unpause", &name]);
    docker.good(&["rename", &name, &format!("{name}-2")]);
    let name = format!("{name}-2");
    docker.good(&["stop", &name]);
    assert_eq!(docker.good(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", &name]), "exited 3");
    docker.good(&["start", &name]);
    docker.good(&["kill", &name]);
    docker.until(&["inspect", "-f", "{{.State.ExitCode}}", &name], |text| text == "137");
    docker.good(&["rm", &name]);
    assert!(
        docker.any(&["inspect", &name]).1.contains("no such object")
            || docker.any(&["inspect", &name]).1.contains("No such")
    );
}

#[test]
fn limits_and_privileges_are_those_asked_for() {
    let Some(docker) = docker() else { return };
    let run =
        |flags: &[&str], script: &str| docker.good(&[&["run", "--rm"], flags, &[IMAGE, "sh", "-c", script]].concat());
    assert_eq!(run(&["--ulimit", "nofile=100:200"], "ulimit -n; ulimit -Hn"), "100\n200");
    assert_eq!(run(&["--cap-drop", "ALL"], "grep CapEff /proc/self/status | cut -f2"), "0000000000000000");
    assert_eq!(run(&["--sysctl", "net.ipv4.ip_default_ttl=33"], "cat /proc/sys/net/ipv4/ip_default_ttl"), "33");
    assert_eq!(run(&["--hostname", "name", "--user", "5:6"], "hostname; id -u; id -g"), "name\n5\n6");
    assert_eq!(run(&["--add-host", "database:10.0.0.9"], "grep database /etc/hosts | cut -f1"), "10.0.0.9");
    assert_eq!(run(&["--tmpfs", "/scratch:size=1m"], "df -k /scratch | tail -1 | awk '{print $2}'"), "1024");
    assert_eq!(run(&["--shm-size", "2m"], "df -k /dev/shm | tail -1 | awk '{print $2}'"), "2048");
    assert_eq!(run(&["--read-only"], "touch /x 2>/dev/null || echo refused"), "refused");
    assert_eq!(run(&["--init"], "cat /proc/1/comm | head -c 5"), "pause");
    assert_eq!(run(&["--network", "none"], "ls /sys/class/net"), "lo");
    assert_eq!(run(&["--security-opt", "no-new-privileges"], "grep NoNewPrivs /proc/self/status | cut -f2"), "1");
    for refused in [&["--restart", "sometimes"][..], &["--cap-add", "NOTHING"], &["--memory", "1m"]] {
        assert_eq!(docker.any(&[&["run", "--rm"], refused, &[IMAGE, "true"]].concat()).0, 125, "{refused:?}");
    }
}

#[test]
fn files_go_in_and_out_and_changes_are_told() {
    let Some(docker) = docker() else { return };
    let (name, folder) =
        (docker.name("files"), std::env::temp_dir().join(format!("madang-e2e-docker-{}", std::process::id())));
    fs::create_dir_all(folder.join("tree/sub")).unwrap();
    fs::write(folder.join("tree/sub/file"), "text").unwrap();
    let path = |name: &str| folder.join(name).display().to_string();
    docker.good(&["create", "--name", &name, IMAGE, "cat", "/tree/sub/file"]);
    docker.good(&["cp", &path("tree"), &format!("{name}:/")]);
    assert_eq!(docker.good(&["start", "-a", &name]), "text");
    docker.good(&["cp", &format!("{name}:/tree/sub"), &path("back")]);
    assert_eq!(fs::read_to_string(folder.join("back/file")).unwrap(), "text");
    let changes = docker.good(&["diff", &name]);
    assert!(changes.lines().any(|line| line == "A /tree/sub/file"), "{changes}");
    docker.good(&["export", "-o", &path("all.tar"), &name]);
    let listed = Command::new("tar").args(["-tf", &path("all.tar")]).output().unwrap();
    assert!(said(&listed).lines().any(|line| line == "tree/sub/file"));
    let (code, text) = docker.any(&["cp", &format!("{name}:/nothing"), &path("x")]);
    assert!(code != 0 && text.contains("Could not find the file"), "{text}");
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn volumes_keep_files_and_begin_with_the_images() {
    let Some(docker) = docker() else { return };
    let volume = docker.name("data");
    docker.good(&["volume", "create", &volume]);
    let mount = format!("{volume}:/etc");
    assert!(docker.good(&["run", "--rm", "-v", &mount, IMAGE, "ls", "/etc"]).contains("passwd"));
    docker.good(&["run", "--rm", "-v", &mount, IMAGE, "sh", "-c", "echo kept > /etc/kept"]);
    assert_eq!(docker.good(&["run", "--rm", "-v", &format!("{volume}:/x:ro"), IMAGE, "cat", "/x/kept"]), "kept");
    let name = docker.name("user");
    docker.good(&["create", "--name", &name, "-v", &mount, "-v", "/anonymous", IMAGE]);
    let (code, text) = docker.any(&["volume", "rm", &volume]);
    assert!(code != 0 && text.contains("volume is in use"), "{text}");
    docker.good(&["rm", "-v", &name]);
    docker.good(&["volume", "rm", &volume]);
    assert!(docker.good(&["volume", "ls", "-q"]).lines().all(|line| line != volume));
}

#[test]
fn containers_of_a_network_find_one_another_by_name_and_others_do_not() {
    let Some(docker) = docker() else { return };
    let (network, server) = (docker.name("net"), docker.name("server"));
    docker.good(&["network", "create", &network]);
    docker.good(&[
        "run",
        "-d",
        "--name",
        &server,
        "--network",
        &network,
        "--network-alias",
        "web",
        "-p",
        "8000",
        IMAGE,
        "sh",
        "-c",
        "mkdir /www; echo hello > /www/index.html; exec httpd -f -p 8000 -h /www",
    ]);
    for host in [server.as_str(), "web"] {
        let line = ["run", "--rm", "--network", &network, IMAGE, "wget", "-qO-", &format!("http://{host}:8000/")];
        assert_eq!(docker.good(&line), "hello", "{host}");
    }
    let port = docker.good(&["port", &server, "8000/tcp"]);
    let port = port.rsplit(':').next().unwrap().to_owned();
    // Of the machine's addresses of both families, although the container has one of IPv4 alone.
    for host in ["127.0.0.1", "[::1]"] {
        assert_eq!(docker.fetch(host, &port), "hello\n", "{host}");
    }
    // It is there again after a restart at once, in spite of connections that have just ended.
    docker.good(&["restart", "-t", "0", &server]);
    let again = docker.good(&["port", &server, "8000/tcp"]);
    assert!(again.lines().all(|line| line.rsplit(':').next().is_some_and(|number| number != "0")), "{again}");
    let alone = docker.name("alone");
    let script = "mkdir /www; echo alone > /www/index.html; exec httpd -f -p 8000 -h /www";
    docker.good(&["run", "-d", "--name", &alone, "-p", "[::1]::8000", IMAGE, "sh", "-c", script]);
    let port_of_one = docker.good(&["port", &alone, "8000/tcp"]);
    let number = port_of_one.strip_prefix("[::1]:").unwrap_or_else(|| panic!("{port_of_one}"));
    docker.until(&["exec", &alone, "sh", "-c", "wget -qO- http://127.0.0.1:8000/ || true"], |said| said == "alone");
    assert_eq!((docker.fetch("[::1]", number).as_str(), docker.fetch("127.0.0.1", number).as_str()), ("alone\n", ""));
    docker.good(&["rm", "-f", &alone]);
    let outside = docker.any(&["run", "--rm", IMAGE, "timeout", "3", "wget", "-qO-", "http://web:8000/"]);
    assert_ne!(outside.0, 0, "{outside:?}");
    let ip = docker.good(&["inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", &server]);
    let across = docker.any(&["run", "--rm", IMAGE, "timeout", "3", "wget", "-qO-", &format!("http://{ip}:8000/")]);
    assert_ne!(across.0, 0, "networks are apart: {across:?}");
    let (code, text) = docker.any(&["network", "rm", &network]);
    assert!(code != 0 && text.contains("has active endpoints"), "{text}");
    let joined = docker.name("joined");
    docker.good(&["run", "-d", "--name", &joined, IMAGE, "sleep", "1000"]);
    docker.good(&["network", "connect", "--alias", "late", &network, &joined]);
    assert_eq!(docker.good(&["exec", &joined, "wget", "-qO-", "http://web:8000/"]), "hello");
    docker.good(&["network", "disconnect", &network, &joined]);
    docker.good(&["rm", "-f", &server, &joined]);
    docker.good(&["network", "rm", &network]);
}

#[test]
fn a_network_with_ipv6_gives_addresses_names_and_published_ports_of_both_families() {
    let Some(docker) = docker() else { return };
    let (network, free, server) = (docker.name("six"), docker.name("free"), docker.name("server"));
    docker.good(&["network", "create", "--ipv6", "--subnet", "fd00:66::/64", &network]);
    let shown = docker.good(&["network", "inspect", "-f", "{{.EnableIPv6}} {{(index .IPAM.Config 1)}}", &network]);
    assert!(shown.starts_with("true {fd00:66::/64") && shown.contains("fd00:66::1"), "{shown}");
    let script = "mkdir /www; echo hello > /www/index.html; exec httpd -f -p 8000 -h /www";
    docker.good(&[
        "run",
        "-d",
        "--name",
        &server,
        "--network",
        &network,
        "--ip6",
        "fd00:66::99",
        "--network-alias",
        "web",
        "-p",
        "8000",
        IMAGE,
        "sh",
        "-c",
        script,
    ]);
    let of =
        "{{range .NetworkSettings.Networks}}{{.GlobalIPv6Address}} {{.GlobalIPv6PrefixLen}} {{.IPv6Gateway}}{{end}}";
    assert_eq!(docker.good(&["inspect", "-f", of, &server]), "fd00:66::99 64 fd00:66::1");
    let ask = |script: &str| docker.good(&["run", "--rm", "--network", &network, IMAGE, "sh", "-c", script]);
    assert_eq!(ask("wget -qO- http://[fd00:66::99]:8000/"), "hello");
    // Its name has both addresses, and an address of its own is what others see of it.
    let found = ask("nslookup -type=aaaa web; ip -6 addr show eth0; ip -6 route");
    for part in ["fd00:66::99", "fd00:66::2/64", "default via fd00:66::1"] {
        assert!(found.contains(part), "{part}: {found}");
    }
    let ports = docker.good(&["port", &server, "8000/tcp"]);
    let mut lines: Vec<&str> = ports.lines().collect();
    lines.sort_unstable();
    let number = lines[0].rsplit(':').next().unwrap().to_owned();
    assert_eq!(lines, [format!("0.0.0.0:{number}"), format!("[::]:{number}")]);
    for host in ["127.0.0.1", "[fd00:66::1]", "[::1]"] {
        assert_eq!(docker.fetch(host, &number), "hello\n", "{host}");
    }
    // Without a subnet the machine has one of its own, apart from others.
    docker.good(&["network", "create", "--ipv6", &free]);
    let own = docker.good(&["network", "inspect", "-f", "{{(index .IPAM.Config 1).Subnet}}", &free]);
    assert!(own.starts_with("fd") && own.ends_with("/64"), "{own}");
    let line = ["run", "--rm", "--network", &free, IMAGE, "timeout", "3", "wget", "-qO-", "http://[fd00:66::99]:8000/"];
    let (code, text) = docker.any(&line);
    assert_ne!(code, 0, "networks are apart: {text}");
    let (code, text) = docker.any(&["run", "--rm", "--network", &network, "--ip6", "fd00:66::99", IMAGE, "true"]);
    assert!(code != 0 && text.contains("Address already in use"), "{text}");
    let (code, text) = docker.any(&["network", "create", "--ipv6", "--subnet", "fd00:66::/48", &docker.name("twice")]);
    assert!(code != 0 && text.contains("overlaps"), "{text}");
    docker.good(&["rm", "-f", &server]);
    docker.good(&["network", "rm", &network, &free]);
}

#[test]
fn a_network_of_ipv6_alone_has_names_and_is_reached_from_both_families() {
    let Some(docker) = docker() else { return };
    let (network, server) = (docker.name("only"), docker.name("six"));
    docker.good(&["network", "create", "--ipv4=false", "--ipv6", "--subnet", "fd00:67::/64", &network]);
    let form = "{{.EnableIPv4}} {{.EnableIPv6}}{{range .IPAM.Config}} {{.Subnet}} {{.Gateway}}{{end}}";
    let shown = docker.good(&["network", "inspect", "-f", form, &network]);
    assert_eq!(shown, "false true fd00:67::/64 fd00:67::1");
    let script = "mkdir /www; echo six > /www/index.html; exec httpd -f -p 8000 -h /www";
    let published = ["-p", "8000", "--network-alias", "web"];
    let run = ["run", "-d", "--name", &server, "--network", &network];
    docker.good(&[&run[..], &published, &[IMAGE, "sh", "-c", script]].concat());
    let form = "{{range .NetworkSettings.Networks}}{{json .}}{{end}}";
    let place: serde_json::Value = serde_json::from_str(&docker.good(&["inspect", "-f", form, &server])).unwrap();
    let of = ["IPAddress", "Gateway", "GlobalIPv6Address"].map(|field| place[field].as_str().unwrap_or_default());
    assert_eq!(of, ["", "", "fd00:67::2"], "{place}");
    let script = "wget -qO- http://web:8000/; ip -4 addr show dev eth0; ip -4 route; cat /etc/resolv.conf";
    let said = docker.good(&["run", "--rm", "--network", &network, IMAGE, "sh", "-c", script]);
    assert!(said.starts_with("six\n") && said.contains("nameserver fd00:67::1\n"), "{said}");
    assert!(!said.contains("inet ") && !said.contains("default"), "{said}");
    let port = docker.good(&["port", &server, "8000/tcp"]);
    let port = port.rsplit(':').next().unwrap();
    for host in ["127.0.0.1", "[::1]", "[fd00:67::1]"] {
        assert_eq!(docker.fetch(host, port), "six\n", "{host}");
    }
    // A further network gives it the other family.
    docker.good(&["network", "connect", "bridge", &server]);
    let own = docker.good(&["exec", &server, "sh", "-c", "ip -4 route; ip -6 route"]);
    assert!(own.contains("default via 172.") && own.contains("default via fd00:67::1"), "{own}");
    assert_eq!(docker.fetch("127.0.0.1", port), "six\n");
    docker.good(&["rm", "-f", &server]);
    docker.good(&["network", "rm", &network]);
    let (code, text) = docker.any(&["network", "create", "--ipv4=false", &docker.name("none")]);
    assert!(code != 0 && text.contains("IPv4 or IPv6 must be enabled"), "{text}");
}

#[test]
fn what_was_asked_for_is_done_although_the_client_hangs_up() {
    let Some(docker) = docker() else { return };
    let name = docker.name("stubborn");
    let script = "trap 'echo asked' TERM; echo up; while true; do sleep 1; done";
    docker.good(&["run", "-d", "--name", &name, IMAGE, "sh", "-c", script]);
    docker.until(&["logs", &name], |log| log.contains("up"));
    let socket = docker.cluster.run_dir().join("docker.sock");
    let mut client = std::os::unix::net::UnixStream::connect(socket).unwrap();
    let request = format!("POST /containers/{name}/stop?t=3 HTTP/1.1\r\nHost: docker\r\nContent-Length: 0\r\n\r\n");
    std::io::Write::write_all(&mut client, request.as_bytes()).unwrap();
    docker.until(&["logs", &name], |log| log.contains("asked"));
    drop(client);
    let ended = docker.until(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", &name], |state| {
        !state.starts_with("running")
    });
    assert_eq!(ended, "exited 137");
}

#[test]
fn a_build_step_is_root_inside_and_its_layers_are_roots() {
    let Some(docker) = docker() else { return };
    let folder = tempfile::tempdir().unwrap();
    let steps = "RUN cat /proc/self/uid_map > /map && id -u > /who && touch /mine && chown 70000:5 /mine\n\
                 RUN --mount=type=cache,target=/c --mount=type=tmpfs,target=/t --mount=type=bind,target=/b \\\n\
                 stat -c %u:%g /c /t /b/Dockerfile > /mounts\n";
    std::fs::write(folder.path().join("Dockerfile"), format!("FROM {IMAGE}\n{steps}")).unwrap();
    let name = docker.name("isolated");
    let mut build = docker.cluster.madang("build");
    let built = build.args(["-t", &name]).arg(folder.path()).output().unwrap();
    assert!(built.status.success(), "{}", said(&built));
    let said = docker.good(&["run", "--rm", &name, "sh", "-c", "cat /map /who /mounts; stat -c %u:%g /mine"]);
    let words: Vec<&str> = said.split_whitespace().collect();
    assert_eq!(words, ["0", "2147483648", "2147483647", "0", "0:0", "0:0", "0:0", "70000:5"], "{said}");
    docker.good(&["rmi", &name]);
}

#[test]
fn health_is_looked_at_and_events_tell_of_it() {
    let Some(docker) = docker() else { return };
    let name = docker.name("health");
    docker.good(&[
        "run",
        "-d",
        "--name",
        &name,
        "--health-cmd",
        "test -e /well",
        "--health-interval",
        "200ms",
        "--health-retries",
        "2",
        IMAGE,
        "sleep",
        "1000",
    ]);
    let state = ["inspect", "-f", "{{.State.Health.Status}}", name.as_str()];
    docker.until(&state, |text| text == "unhealthy");
    docker.good(&["exec", &name, "touch", "/well"]);
    docker.until(&state, |text| text == "healthy");
    let filter = format!("container={name}");
    // docker asks for events up to a whole second.
    let events = ["events", "--since", "10m", "--until", "0s", "--filter", &filter, "--format", "{{.Action}}"];
    let wanted = ["create", "start", "health_status: unhealthy", "health_status: healthy"];
    docker.until(&events, |told| wanted.iter().all(|action| told.lines().any(|line| line == *action)));
}

#[test]
fn restart_policies_start_again_what_failed() {
    let Some(docker) = docker() else { return };
    let name = docker.name("again");
    docker.good(&["run", "-d", "--name", &name, "--restart", "on-failure:2", IMAGE, "sh", "-c", "echo run; exit 1"]);
    docker.until(&["inspect", "-f", "{{.State.Status}} {{.RestartCount}}", &name], |text| text == "exited 2");
    assert_eq!(docker.good(&["logs", &name]), "run\nrun\nrun");
}

#[test]
fn containers_outlive_the_engine_and_are_found_again() {
    let Some(mut cluster) = fresh(91, &["--without", "registry"]) else { return };
    let (socket, id) = {
        let Some(docker) = on(&cluster) else { return };
        let id = docker.good(&[
            "run",
            "-d",
            "--name",
            "stays",
            "--restart",
            "always",
            "-p",
            "127.0.0.1:18080:80",
            IMAGE,
            "sh",
            "-c",
            "echo begun; sleep 1000",
        ]);
        docker.good(&["run", "-d", "--name", "ends", IMAGE, "sh", "-c", "sleep 2; exit 9"]);
        (docker.good(&["inspect", "-f", "{{.State.Pid}}", &id]), id)
    };
    cluster.kill().unwrap();
    std::thread::sleep(Duration::from_secs(3));
    assert!(Path::new("/proc").join(&socket).exists(), "the container runs on");
    cluster.serve().unwrap();
    let Some(docker) = on(&cluster) else { return };
    assert_eq!(docker.good(&["inspect", "-f", "{{.State.Pid}} {{.State.Status}}", &id]), format!("{socket} running"));
    assert_eq!(docker.good(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "ends"]), "exited 9");
    assert_eq!(docker.good(&["logs", "stays"]), "begun");
    assert_eq!(docker.good(&["exec", "stays", "echo", "here"]), "here");
    assert_eq!(docker.good(&["port", "stays"]), "80/tcp -> 127.0.0.1:18080");
    docker.good(&["rm", "-f", "stays", "ends"]);
}

#[test]
fn pods_and_containers_see_only_their_own() {
    let Some(docker) = docker() else { return };
    let name = docker.name("apart");
    docker.good(&["run", "-d", "--name", &name, IMAGE, "sleep", "1000"]);
    let all = docker.good(&["ps", "-a", "--format", "{{.Names}}"]);
    assert!(all.lines().all(|line| !line.starts_with("k8s")), "{all}");
    let text = docker.any(&["node", "ls"]).1;
    assert!(text.contains("This node is not a swarm manager"), "{text}");
}

#[test]
fn an_image_is_made_of_a_container_and_stays_while_that_runs() {
    let Some(docker) = docker() else { return };
    let (name, image) = (docker.name("source"), format!("{}:1", docker.name("made")));
    docker.good(&["run", "-d", "--name", &name, IMAGE, "sleep", "1000"]);
    docker.good(&["exec", &name, "touch", "/made"]);
    docker.good(&["commit", "-a", "who", "-m", "why", "-c", "CMD [\"ls\", \"/made\"]", "-c", "ENV A=b", &name, &image]);
    let shown = docker.good(&["image", "inspect", "-f", "{{.Author}} {{.Comment}} {{.Config.Cmd}}", &image]);
    assert_eq!(shown, "who why [ls /made]");
    assert_eq!(docker.good(&["run", "--rm", &image]), "/made");
    assert_eq!(docker.good(&["run", "--rm", &image, "sh", "-c", "echo $A"]), "b");
    let user = docker.name("user");
    docker.good(&["run", "-d", "--name", &user, &image, "sleep", "1000"]);
    let id = docker.good(&["image", "inspect", "-f", "{{.Id}}", &image]);
    let (code, text) = docker.any(&["rmi", "-f", &id]);
    assert!(code != 0 && text.contains("(cannot be forced) - image is being used by running container"), "{text}");
    docker.good(&["rm", "-f", &user]);
    docker.good(&["rmi", &id]);
    let filter = format!("image={id}");
    let events =
        ["events", "--since", "10m", "--until", "0s", "--filter", &filter, "--format", "{{.Type}} {{.Action}}"];
    docker.until(&events, |told| {
        ["image create", "image tag", "image untag", "image delete"]
            .iter()
            .all(|one| told.lines().any(|line| line == *one))
    });
}

#[test]
fn a_container_in_several_networks_leaves_by_one_that_leads_anywhere() {
    let Some(docker) = docker() else { return };
    let (inner, outer) = (docker.name("a-inner"), docker.name("b-outer"));
    docker.good(&["network", "create", "--internal", &inner]);
    docker.good(&["network", "create", &outer]);
    let name = docker.name("both");
    docker.good(&["create", "--name", &name, "--network", &inner, IMAGE, "ip", "route"]);
    docker.good(&["network", "connect", &outer, &name]);
    let routes = docker.good(&["start", "-a", &name]);
    let gateway = docker.good(&["network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", &outer]);
    assert!(routes.contains(&format!("default via {gateway}")), "{routes}");
    docker.good(&["rm", &name]);
    docker.good(&["network", "rm", &inner, &outer]);
}

#[test]
fn our_own_commands_do_as_dockers() {
    let Some(docker) = docker() else { return };
    let run = |command: &str, line: &[&str]| {
        let output = docker.cluster.madang(command).args(line).stdin(Stdio::null()).output().unwrap();
        (output.status.code().unwrap_or(-1), said(&output))
    };
    assert_eq!(run("run", &["--rm", IMAGE, "sh", "-c", "echo out; exit 4"]), (4, "out\n".into()));
    let name = docker.name("own");
    assert_eq!(run("run", &["-d", "--name", &name, IMAGE, "sh", "-c", "echo said; sleep 1000"]).0, 0);
    docker.until(&["logs", &name], |text| text == "said");
    assert_eq!(run("logs", &[&name]), (0, "said\n".into()));
    assert!(run("ps", &[]).1.contains(&name));
    let filter = format!("name={name}");
    assert_eq!(
        run("ps", &["--filter", &filter, "--format", "{{.Names}} {{.State}}"]),
        (0, format!("{name} running\n"))
    );
    assert_eq!(run("images", &["--format", "{{.Repository}}:{{.Tag}}", IMAGE]), (0, format!("{IMAGE}\n")));
    let script = "echo $A; df -k /t | tail -1 | awk '{print $2}'";
    let more = ["--rm", "--mount", "type=tmpfs,target=/t,tmpfs-size=1m", "--cpu-shares", "512", "--no-healthcheck"];
    assert_eq!(run("run", &[&more[..], &["-e", "A=b", IMAGE, "sh", "-c", script]].concat()), (0, "b\n1024\n".into()));
    assert_eq!(run("exec", &[&name, "sh", "-c", "echo in; exit 6"]), (6, "in\n".into()));
    assert_eq!(run("stop", &["-t", "0", &name]), (0, format!("{name}\n")));
    assert_eq!(run("rm", &[&name]), (0, format!("{name}\n")));
    assert_ne!(run("inspect", &[&name]).0, 0);
}

#[test]
fn removing_the_instance_leaves_nothing_of_its_containers() {
    let Some(mut cluster) = fresh(92, &["--without", "registry"]) else { return };
    let pids: Vec<String> = {
        let Some(docker) = on(&cluster) else { return };
        docker.good(&["network", "create", "apart"]);
        docker.good(&["volume", "create", "--opt", "type=tmpfs", "--opt", "device=tmpfs", "mounted"]);
        let run = |flags: &[&str]| docker.good(&[&["run", "-d"], flags, &[IMAGE, "sleep", "1000"]].concat());
        run(&[
            "--name",
            "one",
            "--network",
            "apart",
            "-p",
            "127.0.0.1:0:80",
            "-v",
            "mounted:/v",
            "--restart",
            "always",
        ]);
        run(&["--name", "two", "--init", "--ipc", "shareable"]);
        run(&["--name", "host", "--network", "host"]);
        docker.good(&["create", "--name", "three", "-v", "/anonymous", IMAGE, "true"]);
        let pid = |name: &&str| docker.good(&["inspect", "-f", "{{.State.Pid}}", name]);
        ["one", "two", "host"].iter().map(pid).collect()
    };
    cluster.stop().unwrap();
    assert!(pids.iter().all(|pid| Path::new("/proc").join(pid).exists()), "containers outlive the server");
    let removed = cluster.madang("uninstall").arg("--data").output().unwrap();
    assert!(removed.status.success(), "{}", said(&removed));
    assert!(!pids.iter().any(|pid| Path::new("/proc").join(pid).exists()));
    let data = cluster.data_dir();
    assert!(!data.exists() && !cluster.run_dir().exists());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&*data.to_string_lossy()), "{mounts}");
    let links = cluster.place.command("ip").args(["-brief", "link"]).output().unwrap();
    assert!(!said(&links).contains("md"), "{}", said(&links));
    let tables = cluster.place.command("nft").args(["list", "tables"]).output().unwrap();
    assert_eq!(said(&tables).trim(), "");
}
