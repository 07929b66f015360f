//! Software RAID. <https://docs.kernel.org/admin-guide/md.html>

use counts::page::{Number, Page};

use crate::{
    machine::Work,
    source::{Failure, parse},
};

const STATES: [&str; 5] = ["active", "inactive", "recovering", "resync", "check"];

/// One array of `/proc/mdstat`.
#[derive(Debug, Default, PartialEq)]
struct Array {
    name: String,
    state: &'static str,
    required: f64,
    active: f64,
    failed: f64,
    spare: f64,
    blocks: f64,
    synced: f64,
}

pub(crate) fn raid(work: &Work<'_>, page: &mut Page) -> Result<(), Failure> {
    for array in arrays(&work.source.proc("mdstat")?) {
        let device = ("device", array.name.as_str());
        page.gauge("node_md_disks_required", &[device], Number(array.required));
        for (state, count) in [("active", array.active), ("failed", array.failed), ("spare", array.spare)] {
            page.gauge("node_md_disks", &[device, ("state", state)], Number(count));
        }
        for state in STATES {
            page.gauge("node_md_state", &[device, ("state", state)], u8::from(state == array.state));
        }
        page.gauge("node_md_blocks", &[device], Number(array.blocks));
        page.gauge("node_md_blocks_synced", &[device], Number(array.synced));
    }
    for block in work.source.sys_entries("block").unwrap_or_default() {
        let md = crate::source::Entry { path: block.path.join("md"), name: block.name };
        if !md.name.starts_with("md") || !md.path.is_dir() {
            continue;
        }
        let labels = [("device", md.name.as_str())];
        if let Some(disks) = md.text("raid_disks").and_then(|text| parse(text.split(' ').next()?)) {
            page.gauge("node_md_raid_disks", &labels, Number(disks));
        }
        page.gauge("node_md_degraded", &labels, Number(md.number("degraded").unwrap_or(0.0)));
    }
    Ok(())
}

fn arrays(text: &str) -> Vec<Array> {
    let mut found = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let mut words = line.split_whitespace();
        let (Some(name), Some(":"), Some(state)) = (words.next(), words.next(), words.next()) else { continue };
        if name == "Personalities" || name == "unused" {
            continue;
        }
        let mut array = Array { name: name.to_owned(), ..Array::default() };
        array.state = if state == "active" { "active" } else { "inactive" };
        let members: Vec<&str> = words.filter(|word| word.contains('[')).collect();
        let marked = |mark: &str| members.iter().filter(|member| member.ends_with(mark)).count() as f64;
        (array.failed, array.spare) = (marked("(F)"), marked("(S)"));
        let Some(size) = lines.peek() else { break };
        details(&mut array, size, members.len() as f64);
        let mut done = None;
        // What follows up to an empty line tells of work on the array.
        while let Some(line) = lines.next_if(|line| !line.trim().is_empty()) {
            progress(&mut array, line, &mut done);
        }
        array.synced = done.unwrap_or(array.blocks);
        found.push(array);
    }
    found
}

/// The line with the array's size, and `[wanted/there]` where its kind has that.
fn details(array: &mut Array, line: &str, members: f64) {
    array.blocks = line.split_whitespace().next().and_then(parse).unwrap_or(0.0);
    let pair = |word: &str| {
        let (wanted, there) = word.strip_prefix('[')?.strip_suffix(']')?.split_once('/')?;
        Some((parse(wanted)?, parse(there)?))
    };
    (array.required, array.active) = match line.split_whitespace().find_map(pair) {
        _ if array.state == "inactive" => (0.0, 0.0),
        Some(pair) => pair,
        // Without spares, all that are there are wanted.
        None => (members, members - array.failed - array.spare),
    };
}

fn progress(array: &mut Array, line: &str, done: &mut Option<f64>) {
    let work = [("recovery", "recovering"), ("resync", "resync"), ("check", "check")];
    let found = work.into_iter().find(|(word, _)| line.contains(word));
    let Some((_, state)) = found.or_else(|| line.contains("reshape").then_some(("reshape", "recovering"))) else {
        return;
    };
    array.state = state;
    if line.contains("PENDING") || line.contains("DELAYED") {
        *done = Some(0.0);
        return;
    }
    let counts = line.split_once('(').and_then(|(_, rest)| rest.split_once(')'));
    *done = counts.and_then(|(counts, _)| parse(counts.split_once('/')?.0));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_tell_their_members_and_how_far_repair_has_come() {
        let text = "Personalities : [raid1]\nmd6 : active raid1 sdb2[2](F) sdc[1](S) sda2[0]\n      195310144 blocks [2/1] [U_]\n\
                    \x20     [=>....]  recovery =  8.5% (16775552/195310144) finish=17.0min speed=259783K/sec\n\n\
                    md9 : active raid1 sdc2[2]\n      523968 blocks super 1.2 [4/4] [UUUU]\n      resync=DELAYED\n\nunused devices: <none>\n";
        let found = arrays(text);
        let first = Array {
            name: "md6".into(),
            state: "recovering",
            required: 2.0,
            active: 1.0,
            failed: 1.0,
            spare: 1.0,
            blocks: 195_310_144.0,
            synced: 16_775_552.0,
        };
        assert_eq!(found[0], first);
        assert_eq!((found[1].state, found[1].synced), ("resync", 0.0));
        assert!(arrays("md0 : active").is_empty() && arrays("").is_empty());
    }
}
