//! Which collectors there are, and the page that they write.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use counts::page::Page;

use crate::{
    board, clock, disks, fabric, filesystems, kernel, links, memory, mounts, nfs, pressure, processors, raid, sensors,
    sockets,
    source::{Failure, Source},
    zfs,
};

/// What is left out, beside what upstream leaves out.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Where to read.
    pub source: Source,
    /// Mount points below these directories: those of pods.
    pub hidden_mounts: Vec<PathBuf>,
    /// Links whose names begin so: those of pods.
    pub hidden_links: Vec<String>,
    /// How long a mounted file system may take to answer before it is left alone until it does; 5 s by default.
    pub mount_timeout: Option<Duration>,
}

impl Settings {
    /// Whether a link is to be left out.
    pub(crate) fn hides_link(&self, name: &str) -> bool {
        self.hidden_links.iter().any(|prefix| name.starts_with(prefix.as_str()))
    }
}

/// What a collector works with.
pub(crate) struct Work<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) source: &'a Source,
    pub(crate) mounts: &'a mounts::Stuck,
    pub(crate) processors: &'a processors::Last,
    pub(crate) clock: Option<&'a clock::Clock>,
}

type Collect = fn(&Work<'_>, &mut Page) -> Result<(), Failure>;

/// Upstream's names of what is collected.
const COLLECTORS: [(&str, Collect); 45] = [
    ("arp", links::arp),
    ("bonding", links::bonding),
    ("btrfs", filesystems::btrfs),
    ("conntrack", sockets::conntrack),
    ("cpu", processors::time),
    ("cpufreq", processors::frequency),
    ("diskstats", disks::disks),
    ("dmi", board::dmi),
    ("edac", board::edac),
    ("entropy", kernel::entropy),
    ("fibrechannel", fabric::fibre_channel),
    ("filefd", kernel::files),
    ("filesystem", mounts::mounts),
    ("hwmon", sensors::hwmon),
    ("infiniband", fabric::infiniband),
    ("ipvs", sockets::ipvs),
    ("kernel_hung", kernel::hung),
    ("loadavg", kernel::load),
    ("mdadm", raid::raid),
    ("meminfo", memory::memory),
    ("netclass", links::properties),
    ("netdev", links::traffic),
    ("netstat", sockets::protocols),
    ("nfs", nfs::client),
    ("nfsd", nfs::server),
    ("nvme", disks::nvme),
    ("os", board::system),
    ("powersupplyclass", sensors::power_supplies),
    ("pressure", pressure::pressure),
    ("rapl", sensors::energy),
    ("schedstat", processors::schedule),
    ("selinux", kernel::selinux),
    ("sockstat", sockets::sockets),
    ("softnet", sockets::softnet),
    ("stat", kernel::stat),
    ("tapestats", disks::tapes),
    ("textfile", textfile),
    ("thermal_zone", sensors::thermal),
    ("time", clock::time),
    ("timex", clock::steering),
    ("udp_queues", sockets::udp_queues),
    ("uname", kernel::name),
    ("vmstat", memory::virtual_memory),
    ("watchdog", board::watchdogs),
    ("xfs", filesystems::xfs),
];

/// The machine. Clones are the same.
#[derive(Clone, Debug)]
pub struct Machine(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: Settings,
    mounts: mounts::Stuck,
    processors: processors::Last,
}

impl Machine {
    /// The machine that `settings` say where to find.
    pub fn new(settings: Settings) -> Self {
        Self(Arc::new(Inner { settings, mounts: mounts::Stuck::default(), processors: processors::Last::default() }))
    }

    /// Reads everything; blocks the thread for some milliseconds. What steers the clock comes from whoever may ask the kernel.
    pub fn page(&self, clock: Option<&clock::Clock>) -> Page {
        let inner = &*self.0;
        let work = Work {
            settings: &inner.settings,
            source: &inner.settings.source,
            mounts: &inner.mounts,
            processors: &inner.processors,
            clock,
        };
        let mut page = Page::default();
        for (name, collect) in COLLECTORS.into_iter().chain([("zfs", zfs::zfs as Collect)]) {
            let began = Instant::now();
            let result = collect(&work, &mut page);
            let labels = [("collector", name)];
            page.gauge("node_scrape_collector_duration_seconds", &labels, began.elapsed().as_secs_f64());
            page.gauge("node_scrape_collector_success", &labels, u8::from(result.is_ok()));
        }
        let labels = [("goarch", std::env::consts::ARCH), ("goos", std::env::consts::OS), ("version", "")];
        page.gauge("node_exporter_build_info", &labels, 1);
        page
    }
}

/// Upstream tells of errors with files that nobody named, too.
fn textfile(_: &Work<'_>, page: &mut Page) -> Result<(), Failure> {
    page.gauge("node_textfile_scrape_error", &[], 0);
    Ok(())
}
