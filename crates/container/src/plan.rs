//! A plan: what a runtime specification comes to, in the shim's own terms.
//!
//! ```text
//! oci_spec::runtime::Spec ──(compile, in the daemon)──▶ Plan ──(socket)──▶ shim ──(clone)──▶ container
//! ```
//!
//! The daemon does everything that needs tables, names or judgement (mount options, capability and resource names,
//! seccomp filters, device programs); the shim only carries out. So the shim stays small, and compiling is a pure function
//! that tests can look at.
//!
//! The types are protobuf messages, because daemons and shims of different versions talk to each other: unknown fields
//! are skipped, absent ones are the default. Field numbers are never used again.

/// One container: everything the shim needs to make it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Plan {
    /// What runs.
    #[prost(message, optional, tag = "1")]
    pub process: Option<Process>,
    /// The root file system.
    #[prost(message, optional, tag = "2")]
    pub root: Option<Root>,
    /// In the order in which they are made.
    #[prost(message, repeated, tag = "3")]
    pub mounts: Vec<Mount>,
    /// Namespaces to make anew or to join; those not listed are the shim's, which are the pod's.
    #[prost(message, repeated, tag = "4")]
    pub namespaces: Vec<Namespace>,
    /// Device nodes to make, beside the links that every container has.
    #[prost(message, repeated, tag = "5")]
    pub devices: Vec<Device>,
    /// Paths hidden below `/dev/null` or an empty read-only directory.
    #[prost(string, repeated, tag = "6")]
    pub masked: Vec<String>,
    /// Paths remounted read-only.
    #[prost(string, repeated, tag = "7")]
    pub readonly: Vec<String>,
    /// Below `/proc/sys`, dots already slashes.
    #[prost(message, repeated, tag = "8")]
    pub sysctls: Vec<Setting>,
    /// For a UTS namespace of the container's own.
    #[prost(string, optional, tag = "9")]
    pub hostname: Option<String>,
    /// For a UTS namespace of the container's own.
    #[prost(string, optional, tag = "10")]
    pub domainname: Option<String>,
    /// For a user namespace of the container's own.
    #[prost(message, repeated, tag = "11")]
    pub uids: Vec<IdMap>,
    /// For a user namespace of the container's own.
    #[prost(message, repeated, tag = "12")]
    pub gids: Vec<IdMap>,
    /// Its control group, absent where the container stays in its parent's.
    #[prost(message, optional, tag = "13")]
    pub cgroup: Option<Cgroup>,
    /// `MS_PRIVATE`, `MS_SLAVE` or `MS_SHARED`: how the container's root mount passes mounts on.
    #[prost(uint64, tag = "14")]
    pub propagation: u64,
    /// Hooks of the specification.
    #[prost(message, repeated, tag = "15")]
    pub hooks: Vec<Hook>,
    /// `personality(2)`.
    #[prost(uint64, optional, tag = "16")]
    pub personality: Option<u64>,
    /// Lines of `/proc/PID/timens_offsets`.
    #[prost(string, optional, tag = "17")]
    pub time_offsets: Option<String>,
    /// What hooks are given on standard input: the state's fields that do not change, as JSON members.
    #[prost(string, tag = "18")]
    pub bundle: String,
    /// Annotations, as a JSON object, for the state that hooks see.
    #[prost(string, tag = "19")]
    pub annotations: String,
}

/// A process: a container's first, or one that is run in a container later.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Process {
    /// The program, looked up in `PATH` where it has no slash, and its arguments.
    #[prost(string, repeated, tag = "1")]
    pub args: Vec<String>,
    /// `NAME=VALUE`.
    #[prost(string, repeated, tag = "2")]
    pub env: Vec<String>,
    /// Absolute; made where it is missing (by containers, not by later processes).
    #[prost(string, tag = "3")]
    pub cwd: String,
    /// Whether standard input, output and error are a terminal.
    #[prost(bool, tag = "4")]
    pub terminal: bool,
    /// Terminal size at the beginning; 0 is unset.
    #[prost(uint32, tag = "5")]
    pub rows: u32,
    /// Terminal size at the beginning; 0 is unset.
    #[prost(uint32, tag = "6")]
    pub columns: u32,
    /// User, as the container sees it.
    #[prost(uint32, tag = "7")]
    pub uid: u32,
    /// Group, as the container sees it.
    #[prost(uint32, tag = "8")]
    pub gid: u32,
    /// Supplementary groups.
    #[prost(uint32, repeated, tag = "9")]
    pub groups: Vec<u32>,
    /// File mode mask, `0o022` where absent.
    #[prost(uint32, optional, tag = "10")]
    pub umask: Option<u32>,
    /// Capability sets.
    #[prost(message, optional, tag = "11")]
    pub capabilities: Option<Capabilities>,
    /// `PR_SET_NO_NEW_PRIVS`.
    #[prost(bool, tag = "12")]
    pub no_new_privileges: bool,
    /// Resource limits.
    #[prost(message, repeated, tag = "13")]
    pub rlimits: Vec<Rlimit>,
    /// `oom_score_adj`, the parent's where absent.
    #[prost(int32, optional, tag = "14")]
    pub oom_score_adj: Option<i32>,
    /// System call filter.
    #[prost(message, optional, tag = "15")]
    pub seccomp: Option<Seccomp>,
    /// Written to `/proc/self/attr/apparmor/exec`.
    #[prost(string, optional, tag = "16")]
    pub apparmor: Option<String>,
    /// Written to `/proc/self/attr/exec`.
    #[prost(string, optional, tag = "17")]
    pub selinux: Option<String>,
    /// `ioprio_set(2)`: class and priority in one number.
    #[prost(uint32, optional, tag = "18")]
    pub io_priority: Option<u32>,
    /// `sched_setattr(2)`.
    #[prost(message, optional, tag = "19")]
    pub scheduler: Option<Scheduler>,
    /// The name given where `HOME` is to be looked up; absent where `HOME` is in `env`.
    #[prost(bool, tag = "20")]
    pub set_home: bool,
    /// Descriptors from number 3 on that it inherits.
    #[prost(uint32, tag = "21")]
    pub inherited: u32,
    /// Whether it stays in its parent's session keyring.
    #[prost(bool, tag = "22")]
    pub keep_keyring: bool,
}

/// Capability sets as bit masks, bit `n` for capability number `n`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Capabilities {
    /// What the process and its children can ever have.
    #[prost(uint64, tag = "1")]
    pub bounding: u64,
    /// What it has now.
    #[prost(uint64, tag = "2")]
    pub effective: u64,
    /// What it may take.
    #[prost(uint64, tag = "3")]
    pub permitted: u64,
    /// What passes through `execve` of marked files.
    #[prost(uint64, tag = "4")]
    pub inheritable: u64,
    /// What passes through `execve` of other files.
    #[prost(uint64, tag = "5")]
    pub ambient: u64,
}

/// `setrlimit(2)`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Rlimit {
    /// `RLIMIT_…`.
    #[prost(uint32, tag = "1")]
    pub resource: u32,
    /// Soft limit, in the resource's unit.
    #[prost(uint64, tag = "2")]
    pub soft: u64,
    /// Hard limit, in the resource's unit.
    #[prost(uint64, tag = "3")]
    pub hard: u64,
}

/// `sched_setattr(2)`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Scheduler {
    /// `SCHED_…`.
    #[prost(uint32, tag = "1")]
    pub policy: u32,
    /// `SCHED_FLAG_…`.
    #[prost(uint64, tag = "2")]
    pub flags: u64,
    /// Nice value.
    #[prost(int32, tag = "3")]
    pub nice: i32,
    /// Real-time priority.
    #[prost(uint32, tag = "4")]
    pub priority: u32,
    /// Nanoseconds.
    #[prost(uint64, tag = "5")]
    pub runtime: u64,
    /// Nanoseconds.
    #[prost(uint64, tag = "6")]
    pub deadline: u64,
    /// Nanoseconds.
    #[prost(uint64, tag = "7")]
    pub period: u64,
}

/// A compiled system call filter.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Seccomp {
    /// `struct sock_filter[]`, in the machine's byte order.
    #[prost(bytes = "vec", tag = "1")]
    pub program: Vec<u8>,
    /// `SECCOMP_FILTER_FLAG_…`.
    #[prost(uint32, tag = "2")]
    pub flags: u32,
}

/// The root file system.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Root {
    /// The directory, and where the overlay is mounted where there is one.
    #[prost(string, tag = "1")]
    pub path: String,
    /// Whether it is remounted read-only in the end.
    #[prost(bool, tag = "2")]
    pub readonly: bool,
    /// Layers to mount inside the container's mount namespace.
    #[prost(message, optional, tag = "3")]
    pub overlay: Option<Overlay>,
}

/// An overlay mount.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Overlay {
    /// Lower directories, the topmost first.
    #[prost(string, repeated, tag = "1")]
    pub lowers: Vec<String>,
    /// Where writes go; empty for a read-only root.
    #[prost(string, tag = "2")]
    pub upper: String,
    /// The overlay's own directory on the upper's file system; empty with an empty upper.
    #[prost(string, tag = "3")]
    pub work: String,
    /// Further options, such as `volatile`.
    #[prost(string, repeated, tag = "4")]
    pub options: Vec<String>,
    /// In a user namespace: whether what is written belongs on the disk to the users that the namespace sees, as the lower
    /// layers' files do. The upper and the overlay's own directory then have the same parent.
    #[prost(bool, tag = "5")]
    pub mapped: bool,
}

/// What a mount is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum Source {
    /// A new file system of type `kind`.
    New = 0,
    /// An existing file or directory.
    Bind = 1,
    /// The container's control groups, as version 1 or 2 has them.
    Cgroup = 2,
    /// Nothing new: only the attributes of what is mounted there change.
    Remount = 3,
}

/// One mount.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Mount {
    /// What it is made of.
    #[prost(enumeration = "Source", tag = "1")]
    pub source: i32,
    /// File system type.
    #[prost(string, tag = "2")]
    pub kind: String,
    /// The device, or the path to bind.
    #[prost(string, tag = "3")]
    pub from: String,
    /// Path in the container.
    #[prost(string, tag = "4")]
    pub to: String,
    /// File system options.
    #[prost(string, repeated, tag = "5")]
    pub options: Vec<String>,
    /// `MOUNT_ATTR_…` to set.
    #[prost(uint64, tag = "6")]
    pub set: u64,
    /// `MOUNT_ATTR_…` to clear.
    #[prost(uint64, tag = "7")]
    pub clear: u64,
    /// The same for everything below.
    #[prost(uint64, tag = "8")]
    pub set_below: u64,
    /// The same for everything below.
    #[prost(uint64, tag = "9")]
    pub clear_below: u64,
    /// `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`, `MS_UNBINDABLE` or 0.
    #[prost(uint64, tag = "10")]
    pub propagation: u64,
    /// Whether the propagation is set on everything below as well.
    #[prost(bool, tag = "11")]
    pub propagation_below: bool,
    /// Whether a bind takes what is mounted below its source with it.
    #[prost(bool, tag = "12")]
    pub recursive: bool,
    /// Whether a new tmpfs begins with a copy of what it hides.
    #[prost(bool, tag = "13")]
    pub copy_up: bool,
    /// Identifier mapping of this mount, for user namespaces.
    #[prost(message, repeated, tag = "14")]
    pub uids: Vec<IdMap>,
    /// Identifier mapping of this mount, for user namespaces.
    #[prost(message, repeated, tag = "15")]
    pub gids: Vec<IdMap>,
    /// Whether the identifier mapping also holds for everything below.
    #[prost(bool, tag = "16")]
    pub map_below: bool,
    /// For [`Source::Cgroup`] on version 1: what is mounted below.
    #[prost(message, repeated, tag = "17")]
    pub hierarchies: Vec<Hierarchy>,
    /// Whether identifiers are mapped: as `uids` and `gids` say, or as the container's user namespace does.
    #[prost(bool, tag = "18")]
    pub mapped: bool,
}

/// One mounted hierarchy of version 1.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Hierarchy {
    /// Directory name below the mount: `cpu,cpuacct`.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Mount option: `cpu,cpuacct` or `name=systemd`.
    #[prost(string, tag = "2")]
    pub option: String,
    /// The container's directory in it on the machine, bound where there is no cgroup namespace.
    #[prost(string, tag = "3")]
    pub directory: String,
    /// Whether it is a version 2 hierarchy beside the others.
    #[prost(bool, tag = "4")]
    pub unified: bool,
}

/// A namespace to make or join.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Namespace {
    /// `CLONE_NEW…`.
    #[prost(uint64, tag = "1")]
    pub kind: u64,
    /// Where to join; empty for a new one.
    #[prost(string, tag = "2")]
    pub path: String,
}

/// A device node.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Device {
    /// Path in the container.
    #[prost(string, tag = "1")]
    pub path: String,
    /// `S_IFCHR`, `S_IFBLK` or `S_IFIFO`.
    #[prost(uint32, tag = "2")]
    pub kind: u32,
    /// Major number.
    #[prost(uint32, tag = "3")]
    pub major: u32,
    /// Minor number.
    #[prost(uint32, tag = "4")]
    pub minor: u32,
    /// Permission bits.
    #[prost(uint32, tag = "5")]
    pub mode: u32,
    /// Owner.
    #[prost(uint32, tag = "6")]
    pub uid: u32,
    /// Owner's group.
    #[prost(uint32, tag = "7")]
    pub gid: u32,
}

/// A name and a value.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Setting {
    /// File below the directory that the context names.
    #[prost(string, tag = "1")]
    pub name: String,
    /// What is written.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// A range of identifiers.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct IdMap {
    /// First identifier inside.
    #[prost(uint32, tag = "1")]
    pub inside: u32,
    /// First identifier outside.
    #[prost(uint32, tag = "2")]
    pub outside: u32,
    /// How many.
    #[prost(uint32, tag = "3")]
    pub size: u32,
}

/// The control group of a container.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Cgroup {
    /// Below the root of every hierarchy.
    #[prost(string, tag = "1")]
    pub path: String,
    /// Directories to make and to join, in order; on version 2 exactly one.
    #[prost(string, repeated, tag = "2")]
    pub directories: Vec<String>,
    /// 1 or 2.
    #[prost(uint32, tag = "3")]
    pub version: u32,
    /// Absolute file names and what is written to them before the process starts.
    #[prost(message, repeated, tag = "4")]
    pub writes: Vec<Write>,
    /// Version 2: an eBPF program of type cgroup device, in the machine's byte order.
    #[prost(bytes = "vec", tag = "5")]
    pub device_program: Vec<u8>,
}

/// A control file and what is written to it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Write {
    /// Absolute.
    #[prost(string, tag = "1")]
    pub file: String,
    /// Written in one call.
    #[prost(string, tag = "2")]
    pub value: String,
    /// Whether it is only tried: the kernel may lack it, or refuse it for good reason.
    #[prost(bool, tag = "3")]
    pub optional: bool,
}

/// When a hook runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum Moment {
    /// Deprecated by the specification, still used: after the namespaces are made, before the root is entered.
    Prestart = 0,
    /// The same moment, in the runtime's namespaces.
    CreateRuntime = 1,
    /// In the container's namespaces, before the root is entered.
    CreateContainer = 2,
    /// In the container's namespaces, right before the program.
    StartContainer = 3,
    /// After the program was started.
    Poststart = 4,
    /// After the container was deleted.
    Poststop = 5,
}

/// A program run at a moment of a container's life.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Hook {
    /// When.
    #[prost(enumeration = "Moment", tag = "1")]
    pub moment: i32,
    /// Absolute.
    #[prost(string, tag = "2")]
    pub path: String,
    /// `argv`, the program's name first.
    #[prost(string, repeated, tag = "3")]
    pub args: Vec<String>,
    /// The whole environment.
    #[prost(string, repeated, tag = "4")]
    pub env: Vec<String>,
    /// Seconds; 0 for no limit.
    #[prost(uint32, tag = "5")]
    pub timeout: u32,
}
