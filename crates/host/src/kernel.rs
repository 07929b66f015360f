//! The kernel itself: load, what it has started and interrupted, files, entropy, its name.

use counts::page::{Number, Page};

use crate::{
    machine::Work,
    source::{Failure, numbers},
};

pub(crate) fn load(work: &Work<'_>, page: &mut Page) -> Result<(), Failure> {
    let loads = numbers(&work.source.proc("loadavg")?);
    for (name, load) in ["node_load1", "node_load5", "node_load15"].into_iter().zip(loads) {
        page.gauge(name, &[], Number(load));
    }
    Ok(())
}

pub(crate) fn stat(work: &Work<'_>, page: &mut Page) -> Result<(), Failure> {
    const KEYS: [(&str, &str, &str); 6] = [
        ("intr", "node_intr_total", "counter"),
        ("ctxt", "node_context_switches_total", "counter"),
        ("processes", "node_forks_total", "counter"),
        ("btime", "node_boot_time_seconds", "gauge"),
        ("procs_running", "node_procs_running", "gauge"),
        ("procs_blocked", "node_procs_blocked", "gauge"),
    ];
    for line in work.source.proc("stat")?.lines() {
        let Some((key, rest)) = line.split_once(' ') else { continue };
        let Some((_, name, kind)) = KEYS.iter().find(|(wanted, ..)| *wanted == key) else { continue };
        // Of interrupts, the sum stands first.
        let value = rest.split(' ').next().and_then(|word| word.parse().ok());
        if let Some(value) = value {
            page.family(*name, kind).add(&[], Number(value));
        }
    }
    Ok(())
}

pub(crate) fn files(work: &Work<'_>, page: &mut Page) -> Result<(), Failure> {
    let text = work.source.proc("sys/fs/file-nr")?;
    if let [allocated, _, most] = numbers(&text)[..] {
        page.gauge("node_filefd_allocated", &[], Number(allocated));
        page.gauge("node_filefd_maximum", &[], Number(most));
    }
    Ok(())
}

pub(crate) fn entropy(work: &Work<'_>, page: &mut Page) -> Result<(), Failure> {
    let random = |file: &str| work.source.proc_number(&format!("sys/kernel/random/{file}"));
    page.gauge("node_entropy_available_bits", &[], Number(random("entropy_avail")?));
    page.gauge("node_entropy_pool_size_bits", &[], Number(random("poolsize")?));
    Ok(())
}

pub(crate) fn hung(work: &Work<'_>, page: &mut Page) -> Result<(), Failure> {
    let count = work.source.proc_number("sys/kernel/hung_task_detect_count")?;
    page.counter("node_kernel_hung_tasks_total", &[], Number(count));
    Ok(())
}

pub(crate) fn name(_: &Work<'_>, page: &mut Page) -> Result<(), Failure> {
    let name = rustix::system::uname();
    let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let labels = [
        ("domainname", text(name.domainname())),
        ("machine", text(name.machine())),
        ("nodename", text(name.nodename())),
        ("release", text(name.release())),
        ("sysname", text(name.sysname())),
        ("version", text(name.version())),
    ];
    let labels = labels.each_ref().map(|(name, value)| (*name, value.as_str()));
    page.gauge("node_uname_info", &labels, 1);
    Ok(())
}

/// SELinux: on is what has its file system mounted.
pub(crate) fn selinux(work: &Work<'_>, page: &mut Page) -> Result<(), Failure> {
    let directory = work.source.sys("fs/selinux");
    let enforcing = crate::source::number(&directory.join("enforce"));
    page.gauge("node_selinux_enabled", &[], u8::from(enforcing.is_some()));
    let Some(enforcing) = enforcing else { return Ok(()) };
    page.gauge("node_selinux_current_mode", &[], Number(enforcing));
    let config = crate::source::read(&work.source.root.join("etc/selinux/config")).unwrap_or_default();
    let mode = config.lines().find_map(|line| line.trim().strip_prefix("SELINUX="));
    let mode = match mode.map(str::trim) {
        Some("enforcing") => 1,
        Some("permissive") => 0,
        _ => -1,
    };
    page.gauge("node_selinux_config_mode", &[], mode);
    Ok(())
}
