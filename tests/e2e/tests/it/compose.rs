//! `docker compose`, unmodified, on the engine's socket: what people do with it every day.
//!
//! In the second tier: needs `docker` 28 or newer, and compose and buildx as its plugins, which `MADANG_COMPOSE` and
//! `MADANG_BUILDX` name. <https://docs.docker.com/reference/compose-file/>

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use crate::shared::{IMAGE, cluster, lacks};

/// A folder with a `compose.yaml`, taken down with all it made when the test ends.
struct Project {
    folder: tempfile::TempDir,
    name: &'static str,
    socket: PathBuf,
}

impl Project {
    /// None where this machine lacks a client. `@IMAGE@` in the text is the test image.
    fn new(name: &'static str, compose: &str) -> Option<Self> {
        let cluster = cluster()?;
        let found = Command::new("docker").arg("--version").output().is_ok_and(|output| output.status.success());
        if lacks((!found).then_some("no docker: install docker-cli")) {
            return None;
        }
        let plugin = |variable: &str| std::env::var_os(variable).map(PathBuf::from).filter(|path| path.exists());
        let (Some(compose_plugin), Some(buildx)) = (plugin("MADANG_COMPOSE"), plugin("MADANG_BUILDX")) else {
            lacks(Some("no compose or no buildx: MADANG_COMPOSE and MADANG_BUILDX name them"));
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let plugins = folder.path().join("config/cli-plugins");
        fs::create_dir_all(&plugins).unwrap();
        std::os::unix::fs::symlink(compose_plugin, plugins.join("docker-compose")).unwrap();
        std::os::unix::fs::symlink(buildx, plugins.join("docker-buildx")).unwrap();
        let project = Self { folder, name, socket: cluster.run_dir().join("docker.sock") };
        project.file("compose.yaml", compose);
        Some(project)
    }

    fn file(&self, name: &str, text: &str) {
        let path = self.folder.path().join("project").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text.replace("@IMAGE@", IMAGE)).unwrap();
    }

    fn docker(&self, line: &[&str]) -> Output {
        let mut command = cluster().unwrap().place.command("docker");
        command
            .args(line)
            .current_dir(self.folder.path().join("project"))
            .env("DOCKER_HOST", format!("unix://{}", self.socket.display()))
            .env("DOCKER_CONFIG", self.folder.path().join("config"))
            .env("BUILDX_CONFIG", self.folder.path().join("buildx"))
            .env("BUILDKIT_PROGRESS", "plain")
            .env("COMPOSE_PROJECT_NAME", self.name)
            .env_remove("DOCKER_CONTEXT")
            .stdin(Stdio::null());
        command.output().unwrap()
    }

    fn any(&self, line: &[&str]) -> (i32, String) {
        let output = self.docker(&[&["compose"], line].concat());
        (output.status.code().unwrap_or(-1), said(&output))
    }

    /// What `docker compose LINE` prints, which must succeed.
    #[track_caller]
    fn good(&self, line: &[&str]) -> String {
        let output = self.docker(&[&["compose"], line].concat());
        assert!(output.status.success(), "compose {line:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// What `docker LINE` prints.
    #[track_caller]
    fn plain(&self, line: &[&str]) -> String {
        let output = self.docker(line);
        assert!(output.status.success(), "{line:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    #[track_caller]
    fn until(&self, line: &[&str], wanted: impl Fn(&str) -> bool) -> String {
        let begun = Instant::now();
        loop {
            let answer = self.good(line);
            if wanted(&answer) {
                return answer;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "compose {line:?} still says {answer}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// What is left of the project: containers, networks, volumes.
    fn left(&self) -> Vec<String> {
        let filter = format!("label=com.docker.compose.project={}", self.name);
        let mut left = Vec::new();
        for line in [&["ps", "-aq"][..], &["network", "ls", "-q"], &["volume", "ls", "-q"]] {
            let found = self.plain(&[line, &["--filter", &filter]].concat());
            left.extend(found.lines().map(|id| format!("{} {id}", line[0])));
        }
        left
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        let output = self.docker(&["compose", "--profile", "*", "down", "-v", "-t", "1", "--remove-orphans"]);
        if std::thread::panicking() {
            eprintln!("{}", said(&output));
        }
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

const WEB: &str = r#"
services:
  web:
    image: @IMAGE@
    command: ["sh", "-c", "mkdir -p /www; hostname > /www/index.html; echo serving; exec httpd -f -p 8000 -h /www"]
    ports: ["127.0.0.1::8000"]
    init: true
    volumes: ["data:/data"]
  client:
    image: @IMAGE@
    command: sleep 1000
    stop_grace_period: 1s
    init: true
volumes:
  data:
"#;

#[test]
#[ignore = "needs docker compose"]
fn services_are_brought_up_used_and_taken_down() {
    let Some(project) = Project::new("c-life", WEB) else { return };
    project.good(&["up", "-d"]);
    let services = project.good(&["ps", "--format", "{{.Service}} {{.State}}"]);
    let mut services: Vec<&str> = services.lines().collect();
    services.sort_unstable();
    assert_eq!(services, ["client running", "web running"]);
    project.until(&["logs", "--no-log-prefix", "web"], |text| text == "serving");
    assert_eq!(project.good(&["exec", "-T", "client", "wget", "-qO-", "http://web:8000/"]).len(), 12);
    assert_eq!(project.any(&["exec", "-T", "client", "sh", "-c", "exit 9"]).0, 9);
    assert!(project.good(&["port", "web", "8000"]).starts_with("127.0.0.1:"));
    assert!(project.good(&["top", "client"]).contains("sleep 1000"));
    assert!(project.good(&["images"]).contains("busybox"));
    assert_eq!(project.good(&["run", "--rm", "-T", "client", "sh", "-c", "echo once"]), "once");
    assert_eq!(project.any(&["run", "--rm", "-T", "client", "sh", "-c", "exit 6"]).0, 6);
    // Nothing has changed: the same containers go on.
    let before = project.good(&["ps", "-q"]);
    project.good(&["up", "-d"]);
    assert_eq!(project.good(&["ps", "-q"]), before);

    project.good(&["cp", "compose.yaml", "client:/copied"]);
    project.good(&["exec", "-T", "client", "test", "-s", "/copied"]);
    project.good(&["pause", "client"]);
    assert_eq!(project.good(&["ps", "--format", "{{.State}}", "client"]), "paused");
    project.good(&["unpause", "client"]);
    project.good(&["stop", "-t", "1"]);
    assert_eq!(project.good(&["ps", "-q"]), "");
    assert_eq!(project.good(&["ps", "-aq"]).lines().count(), 2);
    project.good(&["start"]);
    assert_eq!(project.good(&["ps", "-q"]).lines().count(), 2);
    project.good(&["restart", "-t", "1", "client"]);
    project.good(&["exec", "-T", "client", "true"]);
    project.good(&["kill", "client"]);
    project.until(&["ps", "-a", "--format", "{{.State}} {{.ExitCode}}", "client"], |text| text == "exited 137");
    project.good(&["rm", "-f", "client"]);
    assert_eq!(project.good(&["ps", "-aq"]).lines().count(), 1);
    project.good(&["down", "-t", "1"]);
    assert_eq!(project.left(), ["volume c-life_data"]);
    project.good(&["down", "-v"]);
    assert_eq!(project.left(), [""; 0]);
}

#[test]
#[ignore = "needs docker compose"]
fn a_service_that_changed_is_made_anew_and_others_are_scaled() {
    let Some(project) = Project::new("c-scale", WEB) else { return };
    project.good(&["up", "-d", "--scale", "client=3"]);
    assert_eq!(project.good(&["ps", "-q", "client"]).lines().count(), 3);
    let (clients, web) = (project.good(&["ps", "-q", "client"]), project.good(&["ps", "-q", "web"]));
    project.file("compose.yaml", &WEB.replace("init: true\n    volumes", "environment: {A: b}\n    volumes"));
    project.good(&["up", "-d", "--no-recreate", "--scale", "client=3"]);
    assert_eq!(project.good(&["ps", "-q", "web"]), web);
    project.good(&["up", "-d", "-t", "1", "--scale", "client=3"]);
    assert_ne!(project.good(&["ps", "-q", "web"]), web);
    assert_eq!(project.good(&["ps", "-q", "client"]), clients);
    assert_eq!(project.good(&["exec", "-T", "web", "sh", "-c", "echo $A"]), "b");
    // Its volume went over to the new one.
    assert!(
        project
            .plain(&["inspect", "-f", "{{range .Mounts}}{{.Name}}{{end}}", "c-scale-web-1"])
            .contains("c-scale_data")
    );
    project.good(&["scale", "client=1"]);
    assert_eq!(project.good(&["ps", "-q", "client"]).lines().count(), 1);
    project.good(&["up", "-d", "-t", "1", "--force-recreate", "client"]);
    assert!(!clients.contains(&project.good(&["ps", "-q", "client"])));
}

#[test]
#[ignore = "needs docker compose"]
fn services_wait_for_the_health_and_the_end_of_others() {
    let compose = r#"
services:
  first:
    image: @IMAGE@
    command: ["sh", "-c", "sleep 1; echo done > /shared/first"]
    volumes: ["shared:/shared"]
  healthy:
    image: @IMAGE@
    command: ["sh", "-c", "test -e /shared/first && sleep 1 && touch /well && sleep 1000"]
    init: true
    volumes: ["shared:/shared"]
    healthcheck:
      test: ["CMD", "test", "-e", "/well"]
      interval: 200ms
      retries: 50
    depends_on:
      first: {condition: service_completed_successfully}
  last:
    image: @IMAGE@
    command: ["sh", "-c", "echo last; sleep 1000"]
    init: true
    depends_on:
      healthy: {condition: service_healthy}
volumes:
  shared:
"#;
    let Some(project) = Project::new("c-order", compose) else { return };
    project.good(&["up", "-d", "--wait"]);
    let time = |name: &str, field: &str| project.plain(&["inspect", "-f", &format!("{{{{.State.{field}}}}}"), name]);
    assert!(time("c-order-first-1", "FinishedAt") <= time("c-order-healthy-1", "StartedAt"));
    assert!(time("c-order-healthy-1", "StartedAt") < time("c-order-last-1", "StartedAt"));
    assert_eq!(time("c-order-healthy-1", "Health.Status"), "healthy");

    let failing = compose.replace("touch /well", "true").replace("retries: 50", "retries: 2");
    project.good(&["down", "-v", "-t", "1"]);
    project.file("compose.yaml", &failing);
    let (code, text) = project.any(&["up", "-d"]);
    assert!(code != 0 && text.contains("is unhealthy"), "{code}: {text}");
}

#[test]
#[ignore = "needs docker compose"]
fn networks_keep_services_apart_and_aliases_lead_to_them() {
    let compose = r#"
services:
  front:
    image: @IMAGE@
    command: sleep 1000
    init: true
    networks: [outer]
  middle:
    image: @IMAGE@
    command: ["sh", "-c", "mkdir /www; echo middle > /www/index.html; exec httpd -f -p 80 -h /www"]
    init: true
    networks:
      outer: {aliases: [gate, door]}
      inner: {ipv4_address: 10.223.0.10}
  back:
    image: @IMAGE@
    command: ["sh", "-c", "mkdir /www; echo back > /www/index.html; exec httpd -f -p 80 -h /www"]
    init: true
    networks: [inner]
  linked:
    image: @IMAGE@
    command: sleep 1000
    init: true
    links: ["middle:other-name"]
    networks: [outer]
  shares:
    image: @IMAGE@
    command: sleep 1000
    init: true
    network_mode: service:back
networks:
  outer:
  inner:
    internal: true
    ipam:
      config: [{subnet: 10.223.0.0/24}]
"#;
    let Some(project) = Project::new("c-nets", compose) else { return };
    project.good(&["up", "-d"]);
    for (from, to, expected) in [
        ("front", "middle", "middle"),
        ("front", "gate", "middle"),
        ("front", "door", "middle"),
        ("linked", "other-name", "middle"),
        ("middle", "back", "back"),
        ("back", "10.223.0.10", "middle"),
        ("shares", "127.0.0.1", "back"),
    ] {
        let url = format!("http://{to}/");
        project.until(&["exec", "-T", from, "sh", "-c", &format!("timeout 5 wget -qO- {url} || true")], |text| {
            text == expected
        });
    }
    assert_ne!(project.any(&["exec", "-T", "front", "timeout", "3", "wget", "-qO-", "http://10.223.0.10/"]).0, 0);
    assert_ne!(project.any(&["exec", "-T", "front", "nslookup", "other-name"]).0, 0, "a link is its owner's alone");
}

#[test]
#[ignore = "needs docker compose"]
fn services_have_addresses_of_ipv6_where_their_network_has() {
    let compose = r#"
services:
  web:
    image: @IMAGE@
    command: ["sh", "-c", "mkdir /www; echo six > /www/index.html; exec httpd -f -p 80 -h /www"]
    init: true
    ports: ["80", "[::1]::80"]
    networks:
      chosen: {ipv6_address: "fd00:c6::66"}
      free:
      only:
  client:
    image: @IMAGE@
    command: sleep 1000
    init: true
    networks: [free]
networks:
  chosen:
    enable_ipv6: true
    ipam:
      config: [{subnet: "fd00:c6::/64"}]
  free:
    enable_ipv6: true
  only:
    enable_ipv4: false
    enable_ipv6: true
"#;
    let Some(project) = Project::new("c-six", compose) else { return };
    project.good(&["up", "-d"]);
    let of = |name: &str| {
        let form = "{{.EnableIPv4}} {{.EnableIPv6}}{{range .IPAM.Config}} {{.Subnet}}{{end}}";
        project.plain(&["network", "inspect", "-f", form, &format!("c-six_{name}")])
    };
    let (chosen, free) = (of("chosen"), of("free"));
    assert!(chosen.starts_with("true true ") && chosen.ends_with(" fd00:c6::/64"), "{chosen}");
    assert!(free.starts_with("true true ") && free.contains(" fd") && free.ends_with("/64"), "{free}");
    let only = of("only");
    assert!(only.starts_with("false true fd") && only.ends_with("/64"), "{only}");
    let own = project.good(&["exec", "-T", "web", "ip", "-6", "addr"]);
    assert!(own.contains("fd00:c6::66/64"), "{own}");
    // By its name in a network that both are in, and from the machine's own loopback.
    let found = project.good(&["exec", "-T", "client", "nslookup", "-type=aaaa", "web"]);
    let six = found.lines().filter_map(|line| line.strip_prefix("Address: ")).find(|address| address.starts_with("fd"));
    let url = format!("http://[{}]/", six.unwrap_or_else(|| panic!("{found}")));
    project.until(&["exec", "-T", "client", "sh", "-c", &format!("wget -qO- {url} || true")], |text| text == "six");
    let ports = project.plain(&["port", "c-six-web-1", "80/tcp"]);
    let loopback: Vec<&str> = ports.lines().filter(|line| !line.starts_with("0.0.0.0:")).collect();
    assert_eq!(loopback.len(), 2, "{ports}");
    for port in loopback {
        let port = port.rsplit(':').next().unwrap();
        let mut fetch = cluster().unwrap().place.command("curl");
        let got = fetch.args(["-s", "--max-time", "10", &format!("http://[::1]:{port}/")]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&got.stdout), "six\n", "{ports}");
    }
}

#[test]
#[ignore = "needs docker compose"]
fn files_variables_profiles_secrets_and_configs_are_read() {
    let compose = r#"
name: renamed-by-the-environment
services:
  app:
    image: ${APP_IMAGE:?no image}
    command: sleep 1000
    init: true
    env_file: [app.env]
    environment:
      FROM_DOTENV: ${DOTENV}
      WITH_DEFAULT: ${NOTHING:-fallback}
    secrets: [word]
    configs: [{source: settings, target: /etc/settings}]
    labels: {a: b}
    extra_hosts: ["elsewhere:10.9.8.7"]
    ulimits: {nofile: {soft: 100, hard: 200}}
    tmpfs: /scratch
    cap_drop: [ALL]
    user: "7:8"
    working_dir: /tmp
    hostname: named
    mem_limit: 64m
    cpus: 0.5
    pids_limit: 50
    logging: {driver: json-file, options: {max-size: 1m}}
  extra:
    image: ${APP_IMAGE}
    command: sleep 1000
    init: true
    read_only: true
    profiles: [more]
secrets:
  word: {file: ./word.txt}
configs:
  settings: {content: "in=line"}
"#;
    let Some(project) = Project::new("c-files", compose) else { return };
    project.file(".env", "APP_IMAGE=@IMAGE@\nDOTENV=dotted\n");
    project.file("app.env", "# words\nFROM_FILE=filed\nQUOTED=\"a b\"\n");
    project.file("word.txt", "hush");
    let shown = project.good(&["config"]);
    for part in ["FROM_FILE: filed", "WITH_DEFAULT: fallback", IMAGE, "name: c-files"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert_eq!(project.good(&["config", "--services"]), "app");
    project.good(&["up", "-d"]);
    let inside = |line: &str| project.good(&["exec", "-T", "app", "sh", "-c", line]);
    assert_eq!(inside("echo $FROM_FILE-$QUOTED-$FROM_DOTENV-$WITH_DEFAULT"), "filed-a b-dotted-fallback");
    assert_eq!(inside("cat /run/secrets/word; echo; cat /etc/settings"), "hush\nin=line");
    assert_eq!(inside("id -u; id -g; pwd; hostname; ulimit -n"), "7\n8\n/tmp\nnamed\n100");
    assert_eq!(inside("grep elsewhere /etc/hosts | cut -f1"), "10.9.8.7");
    let limits = ["inspect", "-f", "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}}"];
    assert_eq!(project.plain(&[&limits[..], &["c-files-app-1"]].concat()), "67108864 500000000 50");
    assert_eq!(project.good(&["ps", "-q"]).lines().count(), 1);
    project.good(&["--profile", "more", "up", "-d"]);
    assert_eq!(project.good(&["ps", "-q"]).lines().count(), 2);
    assert_ne!(project.any(&["exec", "-T", "extra", "touch", "/x"]).0, 0);
    fs::remove_file(project.folder.path().join("project/.env")).unwrap();
    let (code, text) = project.any(&["config"]);
    assert!(code != 0 && text.contains("no image"), "{text}");
    project.file(".env", "APP_IMAGE=@IMAGE@\nDOTENV=dotted\n");
}

#[test]
#[ignore = "needs docker compose"]
fn images_are_built_with_arguments_and_targets_and_rebuilt_when_files_change() {
    let compose = r#"
services:
  one:
    build:
      context: .
      args: {WHO: me}
      target: final
    image: c-build-one:latest
    command: cat /who /here.txt
  two:
    build:
      context: .
      dockerfile_inline: |
        FROM @IMAGE@
        RUN echo inline > /inline
    command: cat /inline
"#;
    let Some(project) = Project::new("c-build", compose) else { return };
    let dockerfile = "FROM @IMAGE@ AS base\nARG WHO\nRUN echo $WHO > /who\nFROM base AS final\nCOPY here.txt /\nFROM base AS unused\nRUN false\n";
    project.file("Dockerfile", dockerfile);
    project.file("here.txt", "here\n");
    project.good(&["build"]);
    assert_eq!(project.good(&["run", "--rm", "-T", "one"]), "me\nhere");
    assert_eq!(project.good(&["run", "--rm", "-T", "two"]), "inline");
    project.file("here.txt", "there\n");
    project.good(&["up", "--build", "-d"]);
    project.until(&["logs", "--no-log-prefix", "one"], |text| text == "me\nthere");
    project.file("Dockerfile", &dockerfile.replace("echo $WHO", "exit 7; echo"));
    let (code, text) = project.any(&["build", "one"]);
    assert!(code != 0 && text.contains("exit code: 7"), "{text}");
    project.file("Dockerfile", dockerfile);
    project.good(&["down", "--rmi", "all", "-v"]);
    let images = project.plain(&["images", "--format", "{{.Repository}}"]);
    assert!(!images.contains("c-build"), "{images}");
    assert!(images.contains("busybox"), "{images}");
}
