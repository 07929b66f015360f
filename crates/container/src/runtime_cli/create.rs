//! `create`, `run` and `exec`: everything up to the order that the shim's program carries out.

use std::{env, fs, path::Path as FilePath, path::PathBuf};

use oci_spec::runtime::{Process, Spec};
use prost::Message;

use super::{
    Global,
    arguments::{Arguments, Option},
    state::{self, State},
};
use crate::{
    cgroup::Version,
    child::{Context, Failure},
    clock,
    command::{self, Order, Status, write_whole},
    compile,
    plan::Plan,
    protocol::FaultKind,
    seccomp,
};

const CREATE: &[Option] = &[
    Option::value("bundle", Some('b')),
    Option::value("console-socket", None),
    Option::value("pid-file", None),
    Option::value("preserve-fds", None),
    Option::flag("no-new-keyring", None),
    Option::flag("no-pivot", None),
    Option::flag("detach", Some('d')),
    Option::flag("keep", None),
];

/// `create ID`, and `run ID`. Gives the file with the order.
pub fn create(global: &Global, words: &[String], run: bool) -> Result<PathBuf, Failure> {
    let arguments = Arguments::parse(words, CREATE)?;
    let id = arguments.id()?;
    if arguments.has("no-pivot") {
        return Err(Failure::new("--no-pivot is not supported: containers always change their root"));
    }
    let bundle = fs::canonicalize(arguments.value("bundle").unwrap_or(".")).context(|| "bundle")?;
    let config = bundle.join("config.json");
    let text = fs::read(&config).context(|| format!("read {}", config.display()))?;
    let mut spec: Spec = serde_json::from_slice(&text).context(|| format!("understand {}", config.display()))?;
    check_version(&spec)?;
    make_absolute(&mut spec, &bundle)?;
    let group = state::group_path(global, &spec, id)?;
    let version = Version::detect().context(|| "control groups")?;
    let mut plan =
        compile::plan(&spec, compile::Rootfs::Directory, &version, Some(&group)).context(|| "config.json")?;
    plan.bundle =
        format!("\"ociVersion\":\"{}\",\"id\":\"{id}\",\"bundle\":{}", super::VERSION, serde_json::json!(bundle));
    let inherited = arguments.number("preserve-fds")?.unwrap_or(0) + listening_descriptors(&mut plan);
    if let Some(process) = &mut plan.process {
        process.inherited = inherited;
        process.keep_keyring = arguments.has("no-new-keyring");
    }
    let socket = absolute(arguments.value("console-socket"))?;
    let terminal = plan.process.as_ref().is_some_and(|process| process.terminal);
    if terminal && socket.is_empty() && (!run || arguments.has("detach")) {
        return Err(Failure::new("a container with a terminal needs --console-socket"));
    }
    let state = State {
        id: id.into(),
        bundle,
        created: String::from_utf8_lossy(&clock::stamp(clock::now())).into_owned(),
        owner: rustix::process::geteuid().as_raw(),
    };
    let mut order = Order {
        pid_file: absolute(arguments.value("pid-file"))?,
        console_socket: socket,
        run,
        detach: arguments.has("detach"),
        keep: arguments.has("keep"),
        ..Order::default()
    };
    let directory = global.make_directory(id)?;
    order.directory =
        compile::text(&fs::canonicalize(&directory.0).context(|| "state directory")?).context(|| "state directory")?;
    let write = || -> Result<PathBuf, Failure> {
        let json = |value: serde_json::Result<Vec<u8>>| value.context(|| "write JSON");
        write_whole(&directory.0.join("config.json"), &json(serde_json::to_vec(&spec))?)?;
        write_whole(&directory.0.join("plan"), &plan.encode_to_vec())?;
        write_whole(&directory.0.join("state.json"), &json(serde_json::to_vec(&state))?)?;
        order.plan = Some(plan);
        super::write_order(global, &directory, order)
    };
    write().inspect_err(|_| drop(fs::remove_dir_all(&directory.0)))
}

/// Paths as they are from here: the program that takes them may be elsewhere.
fn absolute(path: std::option::Option<&str>) -> Result<String, Failure> {
    match path {
        None | Some("") => Ok(String::new()),
        Some(path) => {
            let path = std::path::absolute(path).context(|| format!("path {path}"))?;
            compile::text(&path).context(|| "path")
        }
    }
}

fn check_version(spec: &Spec) -> Result<(), Failure> {
    if spec.version().split('.').next() == Some("1") {
        return Ok(());
    }
    Err(Failure::new(format!("ociVersion {:?} is not supported: this is {}", spec.version(), super::VERSION)))
}

/// Paths that a bundle may give relative to itself.
fn make_absolute(spec: &mut Spec, bundle: &FilePath) -> Result<(), Failure> {
    if let Some(root) = spec.root_mut() {
        let path = fs::canonicalize(bundle.join(root.path())).context(|| "root.path")?;
        root.set_path(path);
    }
    for mount in spec.mounts_mut().iter_mut().flatten() {
        let bind = mount.typ().as_deref() == Some("bind")
            || mount.options().iter().flatten().any(|option| option == "bind" || option == "rbind");
        if let (true, Some(source)) = (bind, mount.source().clone())
            && source.is_relative()
        {
            mount.set_source(Some(bundle.join(source)));
        }
    }
    Ok(())
}

/// Sockets that a service manager has opened for us are the container's.
fn listening_descriptors(plan: &mut Plan) -> u32 {
    let number = |name: &str| env::var(name).ok()?.parse::<u32>().ok();
    let ours = number("LISTEN_PID").is_none_or(|pid| pid == std::process::id());
    let count = number("LISTEN_FDS").filter(|_| ours).unwrap_or(0).min(1000);
    if let (1.., Some(process)) = (count, &mut plan.process) {
        process.env.push(format!("LISTEN_FDS={count}"));
        process.env.push("LISTEN_PID=1".into());
        if let Ok(names) = env::var("LISTEN_FDNAMES") {
            process.env.push(format!("LISTEN_FDNAMES={names}"));
        }
    }
    count
}

const EXEC: &[Option] = &[
    Option::value("console-socket", None),
    Option::value("cwd", None),
    Option::value("env", Some('e')),
    Option::flag("tty", Some('t')),
    Option::value("user", Some('u')),
    Option::value("additional-gids", Some('g')),
    Option::value("process", Some('p')),
    Option::flag("detach", Some('d')),
    Option::value("pid-file", None),
    Option::value("process-label", None),
    Option::value("apparmor", None),
    Option::flag("no-new-privs", None),
    Option::value("cap", Some('c')),
    Option::value("preserve-fds", None),
    Option::value("cgroup", None),
    Option::flag("ignore-paused", None),
];

/// `exec ID COMMAND`. Gives the file with the order.
pub fn exec(global: &Global, words: &[String]) -> Result<PathBuf, Failure> {
    let arguments = Arguments::parse(words, EXEC)?;
    let id = arguments.id()?;
    let (_, directory) = global.load(id)?;
    match command::status(&directory) {
        Status::Running | Status::Created => {}
        Status::Paused if arguments.has("ignore-paused") => {}
        other => {
            let message = format!("cannot exec in container {id} that is {}", other.name());
            return Err(Failure { kind: FaultKind::State, message });
        }
    }
    let spec = state::specification(&directory)?;
    let process = match arguments.value("process") {
        Some(file) => {
            let text = fs::read(file).context(|| format!("read {file}"))?;
            serde_json::from_slice(&text).context(|| format!("understand {file}"))?
        }
        None => process(&arguments, spec.process().clone().unwrap_or_default())?,
    };
    let mut process = compile::process(&process).context(|| "process")?;
    if let Some(rules) = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref()) {
        process.seccomp = Some(seccomp::compile(rules).context(|| "seccomp")?);
    }
    process.inherited = arguments.number("preserve-fds")?.unwrap_or(0);
    let mut cgroup = directory.plan()?.cgroup;
    if let Some(cgroup) = &mut cgroup {
        (cgroup.writes, cgroup.device_program) = (Vec::new(), Vec::new());
    }
    let order = Order {
        directory: compile::text(&directory.0).context(|| "state directory")?,
        process: Some(process),
        pid_file: absolute(arguments.value("pid-file"))?,
        console_socket: absolute(arguments.value("console-socket"))?,
        detach: arguments.has("detach"),
        cgroup,
        ..Order::default()
    };
    super::write_order(global, &directory, order)
}

/// The container's own process, changed as the options say.
fn process(arguments: &Arguments, mut process: Process) -> Result<Process, Failure> {
    let words = arguments.rest().get(1..).unwrap_or_default();
    if words.is_empty() {
        return Err(Failure::new("there is nothing to run"));
    }
    process.set_args(Some(words.to_vec()));
    process.set_terminal(Some(arguments.has("tty")));
    if let Some(cwd) = arguments.value("cwd") {
        process.set_cwd(cwd.into());
    }
    let mut env = process.env().clone().unwrap_or_default();
    for variable in arguments.values("env") {
        let name = variable.split('=').next().unwrap_or_default();
        env.retain(|other| other.split('=').next() != Some(name));
        env.push(variable.into());
    }
    process.set_env(Some(env));
    let number =
        |text: &str| text.parse::<u32>().map_err(|_| Failure::new(format!("{text:?} is not a user or group number")));
    if let Some(user) = arguments.value("user") {
        let (uid, gid) = user.split_once(':').map_or((user, None), |(uid, gid)| (uid, Some(gid)));
        let uid = number(uid)?;
        let gid = gid.map(number).transpose()?;
        let user = process.user_mut();
        user.set_uid(uid);
        if let Some(gid) = gid {
            user.set_gid(gid);
        }
    }
    let groups = arguments.values("additional-gids").map(number).collect::<Result<Vec<_>, _>>()?;
    if !groups.is_empty() {
        process.user_mut().set_additional_gids(Some(groups));
    }
    if arguments.has("no-new-privs") {
        process.set_no_new_privileges(Some(true));
    }
    if let Some(label) = arguments.value("process-label") {
        process.set_selinux_label(Some(label.into()));
    }
    if let Some(profile) = arguments.value("apparmor") {
        process.set_apparmor_profile(Some(profile.into()));
    }
    let capabilities: Vec<_> = arguments.values("cap").collect();
    if !capabilities.is_empty() {
        // The default of the type is not the empty sets.
        let mut sets = match process.capabilities() {
            Some(sets) => serde_json::to_value(sets).context(|| "capabilities")?,
            None => serde_json::json!({}),
        };
        for set in ["bounding", "effective", "permitted"] {
            let known = sets[set].as_array().cloned().unwrap_or_default();
            let added = capabilities.iter().map(|name| serde_json::json!(name));
            sets[set] = known.into_iter().chain(added).collect();
        }
        let sets = serde_json::from_value(sets).context(|| format!("{capabilities:?} are not capabilities"))?;
        process.set_capabilities(Some(sets));
    }
    Ok(process)
}
