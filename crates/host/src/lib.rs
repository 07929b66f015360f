//! The machine's figures, as node_exporter's default collectors export them: same names, labels, types and values.
//!
//! ```text
//! /proc, /sys, /run/udev ──▶ source::Source ──▶ collectors, one after another ──▶ counts::page::Page
//! ```
//!
//! Everything is read when somebody asks and nothing in between. A collector whose subject the machine does not have exports
//! nothing and is said not to have succeeded, as upstream does. What the files hold is not trusted: sizes are bounded, and
//! what cannot be understood is left out.
//!
//! Left out of upstream's defaults: `bcachefs` (gone from Linux), `bcache` and `dmmultipath` (no machine to try them on, and
//! no dashboard that shows them), `textfile`'s
//! directory (off upstream too unless named; its error gauge is here), and what `btrfs` asks with ioctls (errors of devices).
//! Links of containers and mounts of pods are left out by [`machine::Settings`], which upstream's own charts do by flags.
//!
//! In reading order:
//!
//! - [`machine`]: which collectors there are, and the page
//! - [`source`]: where they read
//! - [`processors`], [`memory`], [`kernel`], [`clock`], [`pressure`]: `/proc` of machines of any kind
//! - [`disks`], [`mounts`], [`raid`], [`filesystems`], [`zfs`], [`nfs`]: storage
//! - [`links`], [`sockets`], [`fabric`]: network
//! - [`sensors`], [`board`]: hardware
//!
//! <https://github.com/prometheus/node_exporter#enabled-by-default>

pub mod machine;

pub mod source;

pub mod processors;

pub mod memory;

pub mod kernel;

pub mod clock;

pub mod pressure;

pub mod disks;

pub mod mounts;

pub mod raid;

pub mod filesystems;

pub mod zfs;

pub mod nfs;

pub mod links;

pub mod sockets;

pub mod fabric;

pub mod sensors;

pub mod board;
