//! The processes of a container, `GET /containers/ID/top`: what `ps` prints, without that program.
//!
//! The forms that people use are understood: `-ef`, `-e`, `-l`, `aux`, `ax`, and any columns after `-o`. As upstream has it, one
//! column must be the process's number.
//!
//! <https://man7.org/linux/man-pages/man1/ps.1.html>, <https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>

use std::{
    fs,
    sync::Arc,
    time::{Duration, SystemTime},
};

use container::cgroup::{Group, Version};
use http::Response;
use serde_json::json;
use serve::Body;

use crate::{
    Engine, answer,
    call::Call,
    container::{Container, start},
    error::{Error, Result},
};

/// Ticks of the kernel a second.
const TICKS: u64 = 100;
/// Columns that one may ask for.
const MOST: usize = 64;

/// A column: what its title is, and what it shows.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Column {
    title: String,
    field: Field,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Pid,
    Parent,
    Group,
    Session,
    User,
    Uid,
    Gid,
    Usage,
    Percent,
    Memory,
    Virtual,
    Resident,
    Pages,
    Terminal,
    State,
    Flags,
    Started,
    Time,
    ShortTime,
    Elapsed,
    ElapsedSeconds,
    Name,
    Line,
    Nice,
    Priority,
    Threads,
    Processor,
    Nothing,
}

/// Keywords of `-o`, their titles, and what they mean.
const KEYWORDS: &[(&[&str], &str, Field)] = &[
    (&["pid", "tgid"], "PID", Field::Pid),
    (&["ppid"], "PPID", Field::Parent),
    (&["pgid", "pgrp"], "PGID", Field::Group),
    (&["sid", "sess", "session"], "SID", Field::Session),
    (&["user", "euser", "uname", "ruser"], "USER", Field::User),
    (&["uid", "euid", "ruid"], "UID", Field::Uid),
    (&["gid", "egid", "rgid"], "GID", Field::Gid),
    (&["c"], "C", Field::Usage),
    (&["%cpu", "pcpu"], "%CPU", Field::Percent),
    (&["%mem", "pmem"], "%MEM", Field::Memory),
    (&["vsz", "vsize"], "VSZ", Field::Virtual),
    (&["rss", "rssize", "rsz"], "RSS", Field::Resident),
    (&["sz"], "SZ", Field::Pages),
    (&["tty", "tt", "tname"], "TT", Field::Terminal),
    (&["stat", "state", "s"], "STAT", Field::State),
    (&["f", "flags", "flag"], "F", Field::Flags),
    (&["start", "start_time", "stime", "bsdstart"], "START", Field::Started),
    (&["time", "cputime"], "TIME", Field::Time),
    (&["bsdtime"], "TIME", Field::ShortTime),
    (&["etime"], "ELAPSED", Field::Elapsed),
    (&["etimes"], "ELAPSED", Field::ElapsedSeconds),
    (&["comm", "ucmd", "ucomm"], "COMMAND", Field::Name),
    (&["args", "command"], "COMMAND", Field::Line),
    (&["cmd"], "CMD", Field::Line),
    (&["ni", "nice"], "NI", Field::Nice),
    (&["pri", "priority"], "PRI", Field::Priority),
    (&["nlwp", "thcount"], "NLWP", Field::Threads),
    (&["psr", "cpuid"], "PSR", Field::Processor),
    (&["wchan", "addr"], "WCHAN", Field::Nothing),
];

fn columns_of(titles: &[(&str, Field)]) -> Vec<Column> {
    titles.iter().map(|(title, field)| Column { title: (*title).to_owned(), field: *field }).collect()
}

/// The columns that arguments of `ps` ask for.
fn columns(arguments: &str) -> Result<Vec<Column>> {
    let unknown = || Error::invalid(format!("Error running ps: arguments {arguments:?} are not understood"));
    let mut words = arguments.split_whitespace();
    let (mut chosen, mut full, mut long, mut for_users) = (Vec::new(), false, false, false);
    let mut bsd = false;
    while let Some(word) = words.next() {
        let dashed = word.starts_with('-');
        let letters = word.trim_start_matches('-');
        if word.starts_with("--") {
            let format = letters.strip_prefix("format=").ok_or_else(unknown)?;
            chosen.extend(format_of(format)?);
            continue;
        }
        for (at, letter) in letters.char_indices() {
            match letter {
                'o' | 'O' => {
                    let rest = &letters[at + 1..];
                    let format = if rest.is_empty() { words.next().ok_or_else(unknown)? } else { rest };
                    chosen.extend(format_of(format)?);
                    break;
                }
                'f' | 'F' if dashed => full = true,
                'l' => long = true,
                'u' if !dashed => for_users = true,
                // `-aux` is read as people mean it.
                'u' if letters.contains('a') && letters.contains('x') => for_users = true,
                'a' | 'x' => bsd |= !dashed || letters.contains('x'),
                'e' | 'A' | 'd' | 'w' | 'f' | 'H' | 'T' => {}
                _ => return Err(unknown()),
            }
        }
    }
    let columns = if !chosen.is_empty() {
        chosen
    } else if for_users {
        columns_of(&[
            ("USER", Field::User),
            ("PID", Field::Pid),
            ("%CPU", Field::Percent),
            ("%MEM", Field::Memory),
            ("VSZ", Field::Virtual),
            ("RSS", Field::Resident),
            ("TTY", Field::Terminal),
            ("STAT", Field::State),
            ("START", Field::Started),
            ("TIME", Field::ShortTime),
            ("COMMAND", Field::Line),
        ])
    } else if full {
        columns_of(&[
            ("UID", Field::User),
            ("PID", Field::Pid),
            ("PPID", Field::Parent),
            ("C", Field::Usage),
            ("STIME", Field::Started),
            ("TTY", Field::Terminal),
            ("TIME", Field::Time),
            ("CMD", Field::Line),
        ])
    } else if long {
        columns_of(&[
            ("F", Field::Flags),
            ("S", Field::State),
            ("UID", Field::Uid),
            ("PID", Field::Pid),
            ("PPID", Field::Parent),
            ("C", Field::Usage),
            ("PRI", Field::Priority),
            ("NI", Field::Nice),
            ("ADDR", Field::Nothing),
            ("SZ", Field::Pages),
            ("WCHAN", Field::Nothing),
            ("TTY", Field::Terminal),
            ("TIME", Field::Time),
            ("CMD", Field::Name),
        ])
    } else if bsd {
        columns_of(&[
            ("PID", Field::Pid),
            ("TTY", Field::Terminal),
            ("STAT", Field::State),
            ("TIME", Field::ShortTime),
            ("COMMAND", Field::Line),
        ])
    } else {
        columns_of(&[("PID", Field::Pid), ("TTY", Field::Terminal), ("TIME", Field::Time), ("CMD", Field::Name)])
    };
    if columns.len() > MOST {
        return Err(Error::invalid(format!("Error running ps: more than {MOST} columns")));
    }
    if !columns.iter().any(|column| column.title == "PID") {
        return Err(Error::failed("Couldn't find PID field in ps output"));
    }
    Ok(columns)
}

/// `pid,user=WHO,args`: a title of one's own goes on to the end.
fn format_of(text: &str) -> Result<Vec<Column>> {
    let mut found = Vec::new();
    let mut left = text;
    while !left.is_empty() {
        let (keyword, title, rest) = match left.find([',', '=']) {
            Some(at) if left[at..].starts_with('=') => (&left[..at], Some(&left[at + 1..]), ""),
            Some(at) => (&left[..at], None, &left[at + 1..]),
            None => (left, None, ""),
        };
        let wanted = keyword.to_ascii_lowercase();
        let known = KEYWORDS.iter().find(|(names, _, _)| names.contains(&wanted.as_str()));
        let (_, usual, field) =
            known.ok_or_else(|| Error::invalid(format!("Error running ps: unknown column {keyword:?}")))?;
        found.push(Column { title: title.unwrap_or(usual).to_owned(), field: *field });
        left = rest;
    }
    Ok(found)
}

/// What the kernel says of a process.
#[derive(Clone, Debug, Default)]
struct Process {
    uid: u32,
    gid: u32,
    pid: i32,
    name: String,
    line: String,
    state: String,
    parent: i64,
    group: i64,
    session: i64,
    terminal: u64,
    flags: u64,
    /// Seconds on a processor.
    seconds: u64,
    priority: i64,
    nice: i64,
    threads: u64,
    /// Seconds after the boot.
    begun: u64,
    /// Bytes.
    virtual_size: u64,
    /// Bytes.
    resident: u64,
    processor: u64,
}

impl Process {
    /// None where it has gone.
    fn read(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        Self::parse(pid, &stat, &status, &line)
    }

    fn parse(pid: i32, stat: &str, status: &str, line: &[u8]) -> Option<Self> {
        // The name may hold anything, spaces and brackets too.
        let (head, rest) = stat.rsplit_once(')')?;
        let name = head.split_once('(').map_or("", |(_, name)| name).to_owned();
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let number = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
        let signed = |index: usize| fields.get(index).and_then(|field| field.parse::<i64>().ok());
        let id = |field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field));
            line.and_then(|line| line.split_whitespace().nth(1)).and_then(|id| id.parse().ok())
        };
        let words: Vec<String> = line
            .split(|byte| *byte == 0)
            .filter(|word| !word.is_empty())
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0);
        Some(Self {
            uid: id("Uid:")?,
            gid: id("Gid:")?,
            pid,
            line: if words.is_empty() { format!("[{name}]") } else { words.join(" ") },
            name,
            state: fields.first().map(|state| (*state).to_owned()).unwrap_or_default(),
            parent: signed(1)?,
            group: signed(2)?,
            session: signed(3)?,
            terminal: signed(4).and_then(|number| u64::try_from(number).ok()).unwrap_or(0),
            flags: number(6)?,
            seconds: (number(11)? + number(12)?) / TICKS,
            priority: signed(15)?,
            nice: signed(16)?,
            threads: number(17)?,
            begun: number(19)? / TICKS,
            virtual_size: number(20)?,
            resident: resident.saturating_mul(1 << 10),
            processor: number(36).unwrap_or(0),
        })
    }
}

/// What of the machine is needed beside a process.
#[derive(Clone, Copy, Debug)]
struct Machine {
    now: SystemTime,
    /// Seconds since the boot.
    uptime: u64,
    /// Bytes.
    memory: u64,
}

impl Machine {
    fn look() -> Self {
        let info = rustix::system::sysinfo();
        Self {
            now: SystemTime::now(),
            uptime: u64::try_from(info.uptime).unwrap_or(0),
            memory: (info.totalram as u64).saturating_mul(u64::from(info.mem_unit)).max(1),
        }
    }
}

fn clock(seconds: u64) -> String {
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn shown(field: Field, process: &Process, machine: Machine) -> String {
    let elapsed = machine.uptime.saturating_sub(process.begun);
    let percent = process.seconds as f64 * 100.0 / elapsed.max(1) as f64;
    match field {
        Field::Pid => process.pid.to_string(),
        Field::Parent => process.parent.to_string(),
        Field::Group => process.group.to_string(),
        Field::Session => process.session.to_string(),
        Field::User => user_name(process.uid),
        Field::Uid => process.uid.to_string(),
        Field::Gid => process.gid.to_string(),
        Field::Usage => format!("{:.0}", percent.min(99.0)),
        Field::Percent => format!("{percent:.1}"),
        Field::Memory => format!("{:.1}", process.resident as f64 * 100.0 / machine.memory as f64),
        Field::Virtual => (process.virtual_size >> 10).to_string(),
        Field::Resident => (process.resident >> 10).to_string(),
        Field::Pages => (process.virtual_size >> 12).to_string(),
        Field::Terminal => terminal(process.terminal),
        Field::State => process.state.clone(),
        Field::Flags => ((process.flags >> 6) & 7).to_string(),
        Field::Started => started(machine.now, elapsed),
        Field::Time => clock(process.seconds),
        Field::ShortTime => format!("{}:{:02}", process.seconds / 60, process.seconds % 60),
        Field::Elapsed => match (elapsed / 86_400, elapsed % 86_400) {
            (0, rest) if rest < 3600 => format!("{:02}:{:02}", rest / 60, rest % 60),
            (0, rest) => clock(rest),
            (days, rest) => format!("{days}-{}", clock(rest)),
        },
        Field::ElapsedSeconds => elapsed.to_string(),
        Field::Name => process.name.clone(),
        Field::Line => process.line.clone(),
        Field::Nice => process.nice.to_string(),
        Field::Priority => (39_i64).saturating_sub(process.priority).to_string(),
        Field::Threads => process.threads.to_string(),
        Field::Processor => process.processor.to_string(),
        Field::Nothing => "-".into(),
    }
}

/// A terminal by its device number.
fn terminal(number: u64) -> String {
    let (major, minor) = ((number >> 8) & 0xfff, (number & 0xff) | ((number >> 12) & 0xf_ff00));
    match major {
        0 => "?".into(),
        4 if minor < 64 => format!("tty{minor}"),
        4 => format!("ttyS{}", minor - 64),
        136..=143 => format!("pts/{}", minor + ((major - 136) << 20)),
        _ => "?".into(),
    }
}

/// The hour and minute of today, the day of this year, the year before.
fn started(now: SystemTime, elapsed: u64) -> String {
    let (Ok(now), Ok(begun)) =
        (jiff::Timestamp::try_from(now), jiff::Timestamp::try_from(now - Duration::from_secs(elapsed)))
    else {
        return "?".into();
    };
    let zone = jiff::tz::TimeZone::UTC;
    let (now, begun) = (now.to_zoned(zone.clone()), begun.to_zoned(zone));
    let form = match () {
        () if now.date() == begun.date() => "%H:%M",
        () if now.year() == begun.year() => "%b%d",
        () => "%Y",
    };
    begun.strftime(form).to_string()
}

/// The machine's name for a user.
fn user_name(uid: u32) -> String {
    let text = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let found = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    found.unwrap_or_else(|| uid.to_string())
}

/// Answers.
pub(crate) fn answer(engine: &Engine, container: &Arc<Container>, call: &Call) -> Result<Response<Body>> {
    container.running()?;
    if container.look(|record| record.state.paused) {
        return Err(Error::conflict(format!("Container {} is paused, unpause the container before top", container.id)));
    }
    let columns = columns(call.query.filled("ps_args").unwrap_or("-ef"))?;
    let record = container.record();
    let path = start::group_of(engine, &record)?.join("main").map_err(|error| Error::failed(error.to_string()))?;
    let version = Version::detect().map_err(|error| Error::failed(error.to_string()))?;
    let mut pids = Group::open(&version, &path).processes();
    pids.sort_unstable();
    let machine = Machine::look();
    let rows: Vec<Vec<String>> = pids
        .into_iter()
        .filter_map(Process::read)
        .map(|process| columns.iter().map(|column| shown(column.field, &process, machine)).collect())
        .collect();
    let titles: Vec<&String> = columns.iter().map(|column| &column.title).collect();
    container.tell(engine, "top", &[]);
    answer::json(&json!({"Titles": titles, "Processes": rows}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn titles(arguments: &str) -> String {
        columns(arguments).unwrap().into_iter().map(|column| column.title).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn arguments_choose_the_columns() {
        for (arguments, expected) in [
            ("-ef", "UID PID PPID C STIME TTY TIME CMD"),
            ("aux", "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND"),
            ("-aux", "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND"),
            ("-e", "PID TTY TIME CMD"),
            ("ax", "PID TTY STAT TIME COMMAND"),
            ("-o pid,comm", "PID COMMAND"),
            ("-eopid,user=WHO", "PID WHO"),
            ("-e -o pid -o args", "PID COMMAND"),
            ("--format=pid", "PID"),
        ] {
            assert_eq!(titles(arguments), expected, "{arguments}");
        }
        for bad in ["-o comm", "-o pid,nothing", "-o", "-Z", "--what"] {
            assert!(columns(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let stat = "7 (a) b) S 1 7 6 34817 7 4194304 1 2 3 4 250 50 0 0 20 0 3 0 1000 4096000 10 1 1 1 1 1 1 1 1 1 1 \
                    1 1 1 1 2";
        let status = "Name:\ta) b\nUid:\t0\t1000\t0\t0\nGid:\t0\t50\t0\t0\nVmRSS:\t     40 kB\n";
        let process = Process::parse(7, stat, status, b"a\0--x y\0").unwrap();
        let machine =
            Machine { now: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000), uptime: 110, memory: 1 << 30 };
        let all = [
            (Field::Name, "a) b"),
            (Field::Line, "a --x y"),
            (Field::Parent, "1"),
            (Field::Session, "6"),
            (Field::Terminal, "pts/1"),
            (Field::Uid, "1000"),
            (Field::Gid, "50"),
            (Field::Time, "00:00:03"),
            (Field::ShortTime, "0:03"),
            (Field::Percent, "3.0"),
            (Field::Elapsed, "01:40"),
            (Field::Virtual, "4000"),
            (Field::Resident, "40"),
            (Field::Threads, "3"),
            (Field::Priority, "19"),
            (Field::State, "S"),
        ];
        for (field, expected) in all {
            assert_eq!(shown(field, &process, machine), expected, "{field:?}");
        }
        assert!(Process::parse(7, "nonsense", status, b"").is_none());
        let own = Process::read(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(own.pid > 0 && !own.line.is_empty() && own.resident > 0);
    }

    #[test]
    fn the_beginning_is_told_as_near_as_it_is() {
        let now = SystemTime::from(jiff::civil::date(2026, 3, 4).at(12, 0, 0, 0).in_tz("UTC").unwrap().timestamp());
        assert_eq!(started(now, 60), "11:59");
        assert_eq!(started(now, 86_400), "Mar03");
        assert_eq!(started(now, 86_400 * 100), "2025");
    }
}
