//! Namespaces, cgroups, mounts, seccomp; the shim.
