//! How history and progress name what was done, as BuildKit does, so that images compare equal.

use crate::{
    dockerfile::{Copy, Pair},
    image::Healthcheck,
};

/// ` a=b c=d`.
pub(super) fn pairs(pairs: &[Pair]) -> String {
    pairs.iter().map(|pair| format!(" {}={}", pair.name, pair.value)).collect()
}

/// `["a" "b"]`, with Go's escapes.
pub(super) fn quoted(words: &[String]) -> String {
    let quote = |word: &String| {
        let mut out = String::from("\"");
        for c in word.chars() {
            match c {
                '"' | '\\' => out.extend(['\\', c]),
                '\n' => out.push_str("\\n"),
                '\t' => out.push_str("\\t"),
                '\r' => out.push_str("\\r"),
                '\u{7}' => out.push_str("\\a"),
                '\u{8}' => out.push_str("\\b"),
                '\u{b}' => out.push_str("\\v"),
                '\u{c}' => out.push_str("\\f"),
                c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
                c => out.push(c),
            }
        }
        out.push('"');
        out
    };
    format!("[{}]", words.iter().map(quote).collect::<Vec<_>>().join(" "))
}

/// `|2 A=1 B=2 `: the arguments a stage declared so far, each once; nothing where there are none.
pub(super) fn declared(arguments: &[(String, Option<String>)], value: &dyn Fn(&str) -> Option<String>) -> String {
    let mut shown: Vec<(&str, String)> = Vec::new();
    for (name, own) in arguments {
        let text = format!("{name}={}", value(name).or_else(|| own.clone()).unwrap_or_default());
        match shown.iter_mut().find(|(known, _)| known == name) {
            Some(place) => place.1 = text,
            None => shown.push((name, text)),
        }
    }
    if shown.is_empty() {
        return String::new();
    }
    let texts: Vec<String> = shown.into_iter().map(|(_, text)| text).collect();
    format!("|{} {} ", texts.len(), texts.join(" "))
}

/// `COPY --chown=a b c # buildkit`.
pub(super) fn copy(copy: &Copy, add: bool) -> String {
    let mut out = if add { "ADD" } else { "COPY" }.to_owned();
    if copy.parents {
        out.push_str(" --parents");
    }
    for (flag, value) in [("chown", &copy.owner), ("chmod", &copy.mode)] {
        if let Some(value) = value {
            out.push_str(&format!(" --{flag}={value}"));
        }
    }
    copy.sources.iter().for_each(|source| out.extend([" ", source]));
    copy.inline.iter().for_each(|inline| out.extend([" <<", &inline.name]));
    format!("{out} {} # buildkit", copy.destination)
}

/// `{Test:[CMD-SHELL true] Interval:30s ...}`.
pub(super) fn health(check: &Healthcheck) -> String {
    format!(
        "{{Test:[{}] Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
        check.test.join(" "),
        duration(check.interval),
        duration(check.timeout),
        duration(check.start_period),
        duration(check.start_interval),
        check.retries
    )
}

/// Nanoseconds as Go prints them: `1m30s`, `1.5s`, `100ms`.
fn duration(nanoseconds: u64) -> String {
    let fraction = |whole: u64, unit: u64| {
        let digits = unit.ilog10() as usize;
        let rest = format!("{:0digits$}", whole % unit);
        let rest = rest.trim_end_matches('0');
        if rest.is_empty() { (whole / unit).to_string() } else { format!("{}.{rest}", whole / unit) }
    };
    match nanoseconds {
        0 => "0s".to_owned(),
        n if n < 1_000_000 => format!("{}µs", fraction(n, 1_000)),
        n if n < 1_000_000_000 => format!("{}ms", fraction(n, 1_000_000)),
        n => {
            let minutes = n / 60_000_000_000;
            let seconds = fraction(n % 60_000_000_000, 1_000_000_000);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

/// The first line of a here-document.
pub(super) fn summary(text: &str) -> String {
    let text = text.trim();
    match text.split_once('\n') {
        Some((first, _)) => format!("{}...", first.trim_end()),
        None => text.to_owned(),
    }
}

/// Whether a signal is one: a number from 1 to 64, or a name with or without `SIG`.
pub(super) fn is_signal(text: &str) -> bool {
    const NAMES: [&str; 33] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "IOT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
        "ALRM", "TERM", "STKFLT", "CHLD", "CLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
        "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    if let Ok(number) = text.parse::<u8>() {
        return (1..=64).contains(&number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let counted = |prefix, most| {
        name.strip_prefix(prefix)
            .is_some_and(|rest: &str| rest.is_empty() || rest.parse::<u8>().is_ok_and(|n| n <= most))
    };
    NAMES.contains(&name)
        || name == "POLL"
        || counted("RTMIN+", 15)
        || counted("RTMAX-", 14)
        || name == "RTMIN"
        || name == "RTMAX"
}
