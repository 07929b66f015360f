//! Text that fits a terminal: sizes, widths, and nothing that moves its cursor.

/// A line as it may be shown: what stands after the last carriage return, without escapes and controls, tabs as blanks.
pub fn plain(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end_matches(['\n', '\r']);
    let text = text.rsplit('\r').next().unwrap_or_default();
    let mut out = String::new();
    let mut left = text.chars().peekable();
    while let Some(c) = left.next() {
        match c {
            '\u{1b}' => match left.next() {
                // Control sequences end with a letter or one of a few signs.
                Some('[') => while left.next().is_some_and(|c| !('@'..='~').contains(&c)) {},
                // Operating system commands end with a bell or an escape and a backslash.
                Some(']') => {
                    while let Some(c) = left.next() {
                        if c == '\u{7}' || c == '\u{1b}' && left.next_if_eq(&'\\').is_some() {
                            break;
                        }
                    }
                }
                _ => {}
            },
            '\t' => {
                let blanks = 8 - width(&out) % 8;
                out.extend(std::iter::repeat_n(' ', blanks));
            }
            c if c.is_control() || is_format(c) => {}
            c => out.push(c),
        }
    }
    out
}

/// Marks that change the direction of text, or are not seen.
fn is_format(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Columns that a character takes.
fn columns(c: char) -> usize {
    match c as u32 {
        // Combining marks.
        0x300..=0x36f
        | 0x483..=0x489
        | 0x591..=0x5bd
        | 0x610..=0x61a
        | 0x64b..=0x65f
        | 0xfe00..=0xfe0f
        | 0xfe20..=0xfe2f => 0,
        // East Asian scripts and emoji.
        0x1100..=0x115f | 0x2e80..=0x303e | 0x3041..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff | 0xfe30..=0xfe6f => 2,
        0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1f64f
        | 0x1f680..=0x1f6ff
        | 0x1f900..=0x1f9ff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// Columns that a text takes.
pub fn width(text: &str) -> usize {
    text.chars().map(columns).sum()
}

/// The beginning of a text that takes at most so many columns.
pub fn cut(text: &str, most: usize) -> String {
    let mut used = 0;
    let fits = text.chars().take_while(|c| {
        used += columns(*c);
        used <= most
    });
    fits.collect()
}

/// Bytes with a unit, in powers of 1000, as BuildKit writes them.
pub fn bytes(count: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{count}B") } else { format!("{value:.2}{}", units[unit]) }
}
