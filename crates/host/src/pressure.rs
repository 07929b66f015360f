//! For how long work had to wait for a processor, memory, a disk or interrupts. <https://docs.kernel.org/accounting/psi.html>

use counts::page::{Number, Page};

use crate::{machine::Work, source::Failure};

pub(crate) fn pressure(work: &Work<'_>, page: &mut Page) -> Result<(), Failure> {
    const WAITS: [(&str, &str, &str); 6] = [
        ("cpu", "some", "node_pressure_cpu_waiting_seconds_total"),
        ("io", "some", "node_pressure_io_waiting_seconds_total"),
        ("io", "full", "node_pressure_io_stalled_seconds_total"),
        ("memory", "some", "node_pressure_memory_waiting_seconds_total"),
        ("memory", "full", "node_pressure_memory_stalled_seconds_total"),
        ("irq", "full", "node_pressure_irq_stalled_seconds_total"),
    ];
    let mut found = false;
    for (what, who, name) in WAITS {
        let text = match work.source.proc(&format!("pressure/{what}")) {
            Ok(text) => text,
            Err(Failure::NoData) => continue,
            Err(failure) => return Err(failure),
        };
        if let Some(micros) = total(&text, who) {
            found = true;
            page.counter(name, &[], Number(micros / 1000.0 / 1000.0));
        }
    }
    if found { Ok(()) } else { Err(Failure::NoData) }
}

/// The total of one line, microseconds.
fn total(text: &str, who: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(who)?.strip_prefix(' '))?;
    line.split(' ').find_map(|field| field.strip_prefix("total="))?.parse().ok()
}
