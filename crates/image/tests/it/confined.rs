//! What the unpacker could do if an archive took it over.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    process::{Command, Stdio},
};

use rustix::{
    fs::{CWD, FileType, Mode},
    io::FdFlags,
};

use crate::place::{Place, is_root};

/// Marks a start of this executable that is to try to escape.
const PRISONER: &str = "try-to-escape";
/// Followed by the number of a descriptor that was left open.
const LEAKED: &str = "leaked-";

#[test]
fn the_confined_process_can_do_nothing_but_write_below_its_directory() {
    if std::env::args().any(|argument| argument == PRISONER) {
        escape();
    }
    if !is_root() {
        return;
    }
    let place = Place::new();
    let jail = place.path("jail");
    std::fs::create_dir(&jail).unwrap();
    std::fs::write(place.path("secret"), "secret").unwrap();
    let leaked = std::fs::File::open(place.path("secret")).unwrap();
    rustix::io::fcntl_setfd(&leaked, FdFlags::empty()).unwrap();
    let (mut socket, other) = UnixStream::pair().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "confined::the_confined_process_can_do_nothing_but_write_below_its_directory"])
        .args(["--test-threads=1", "--nocapture", PRISONER, &format!("{LEAKED}{}", leaked.as_raw_fd())])
        .current_dir(&jail)
        .stdin(OwnedFd::from(other))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut report = String::new();
    socket.read_to_string(&mut report).unwrap();
    child.wait().unwrap();
    let outcomes: BTreeMap<String, String> = serde_json::from_str(&report).unwrap_or_else(|_| panic!("{report:?}"));
    let (denied, absent) = ("Operation not permitted", "No such file");
    let expected = [
        ("write a file", "worked"),
        ("see the root", "worked: disk mine"),
        ("read /etc/passwd", absent),
        ("read the secret by ..", absent),
        ("read /proc", absent),
        ("make a device", "worked"),
        ("open the device", "Permission denied"),
        ("read the leaked descriptor", "Bad file number"),
        ("connect", denied),
        ("make a socket", denied),
        ("run a program", "failed"),
        ("signal the parent", denied),
        ("mount", denied),
        ("unmount", denied),
        ("change the root", denied),
        ("make a user namespace", denied),
        ("take back capabilities", denied),
        ("set the host name", denied),
        ("make a thread", "failed"),
        ("allocate 4 GiB", "failed"),
    ];
    for (attempt, outcome) in expected {
        let actual = outcomes.get(attempt).map_or("not tried", String::as_str);
        let fits = match outcome {
            "failed" => !actual.starts_with("worked"),
            outcome => actual.contains(outcome),
        };
        assert!(fits, "{attempt}: {actual}, expected {outcome}");
    }
}

fn escape() -> ! {
    let socket = UnixStream::from(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 10).unwrap());
    let parent = rustix::process::getppid().unwrap();
    let argument = std::env::args().find_map(|argument| argument.strip_prefix(LEAKED).map(str::to_owned)).unwrap();
    let path = std::env::current_dir().unwrap().join("../secret");
    image::unpack::confine::enter().unwrap();
    let mut outcomes = BTreeMap::new();
    let mut attempt = |name: &str, outcome: Result<String, String>| {
        outcomes.insert(name.to_owned(), outcome.map_or_else(|error| error, |text| format!("worked{text}")));
    };
    let quiet = |_: ()| String::new();
    attempt("write a file", std::fs::write("mine", "mine").map(quiet).map_err(|e| e.to_string()));
    attempt("read /etc/passwd", std::fs::read_to_string("/etc/passwd").map_err(|e| e.to_string()));
    attempt("read the secret by ..", std::fs::read_to_string(path).map_err(|e| e.to_string()));
    attempt("read /proc", std::fs::read_to_string("/proc/self/status").map_err(|e| e.to_string()));
    let node = rustix::fs::mknodat(CWD, "disk", FileType::CharacterDevice, Mode::RUSR, rustix::fs::makedev(1, 5));
    attempt("make a device", node.map(quiet).map_err(|e| std::io::Error::from(e).to_string()));
    attempt("open the device", std::fs::File::open("disk").map(|_| String::new()).map_err(|e| e.to_string()));
    let names = std::fs::read_dir("/").map(|entries| {
        let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        format!(": {}", names.join(" "))
    });
    attempt("see the root", names.map_err(|e| e.to_string()));
    let number: i32 = argument.parse().unwrap();
    attempt("read the leaked descriptor", nix::unistd::close(number).map(quiet).map_err(|e| e.desc().to_string()));
    let connected = std::net::TcpStream::connect("127.0.0.1:1");
    attempt("connect", connected.map(|_| String::new()).map_err(|e| e.to_string()));
    attempt("make a socket", UnixStream::pair().map(|_| String::new()).map_err(|e| e.to_string()));
    attempt("run a program", Command::new("/mine").spawn().map(|_| String::new()).map_err(|e| e.to_string()));
    let errno = |error: rustix::io::Errno| std::io::Error::from(error).to_string();
    let signalled = rustix::process::kill_process(parent, rustix::process::Signal::CONT);
    attempt("signal the parent", signalled.map(quiet).map_err(errno));
    let mounted = rustix::mount::mount("none", "/", "tmpfs", rustix::mount::MountFlags::empty(), None);
    attempt("mount", mounted.map(quiet).map_err(errno));
    let unmounted = rustix::mount::unmount("/", rustix::mount::UnmountFlags::DETACH);
    attempt("unmount", unmounted.map(quiet).map_err(errno));
    attempt("change the root", rustix::process::chroot("/").map(quiet).map_err(errno));
    let namespace = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER);
    attempt("make a user namespace", namespace.map(quiet).map_err(|e| e.desc().to_string()));
    let all = rustix::thread::CapabilitySet::all();
    let sets = rustix::thread::CapabilitySets { effective: all, permitted: all, inheritable: all };
    attempt("take back capabilities", rustix::thread::set_capabilities(None, sets).map(quiet).map_err(errno));
    attempt("set the host name", rustix::system::sethostname(b"mine").map(quiet).map_err(errno));
    let thread = std::thread::Builder::new().spawn(|| ());
    attempt("make a thread", thread.map(|_| String::new()).map_err(|e| e.to_string()));
    let mut large: Vec<u8> = Vec::new();
    attempt("allocate 4 GiB", large.try_reserve_exact(4 << 30).map(quiet).map_err(|e| e.to_string()));
    let report = serde_json::to_vec(&outcomes).unwrap();
    (&socket).write_all(&report).unwrap();
    std::process::exit(0);
}
