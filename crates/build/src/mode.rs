//! `--chmod`: octal, or symbolic as chmod(1) reads it.
//!
//! Specification: <https://docs.docker.com/reference/dockerfile/#copy---chown---chmod>,
//! <https://pubs.opengroup.org/onlinepubs/9699919799/utilities/chmod.html>.

/// A change of permission bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModeChange {
    /// These bits, whatever there was.
    Octal(u32),
    /// Changes, one after the other.
    Symbolic(Vec<Clause>),
}

/// `u+rwx`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clause {
    /// Whose bits, as a mask of 0o700, 0o070 and 0o007.
    who: u32,
    operation: Operation,
    /// `rwx` for one class, as 0 to 7.
    bits: u32,
    /// `X`: execution where it is a directory or somebody may execute it.
    conditional: bool,
    /// `s` and `t`.
    set_id: bool,
    sticky: bool,
    /// `g=u`: the bits of this class, as a shift.
    copied: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Add,
    Remove,
    Set,
}

impl ModeChange {
    /// Reads one.
    pub fn parse(text: &str) -> Result<Self, String> {
        let octal = || format!("invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777");
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8).map_err(|_| octal())?;
            return if mode > 0o7777 { Err(octal()) } else { Ok(Self::Octal(mode)) };
        }
        let mut clauses = Vec::new();
        for part in text.split(',') {
            clause(part, &mut clauses).ok_or_else(|| format!("invalid chmod parameter: '{text}'"))?;
        }
        Ok(Self::Symbolic(clauses))
    }

    /// The bits that `mode` (12 bits) becomes.
    pub fn apply(&self, mode: u32, directory: bool) -> u32 {
        let clauses = match self {
            Self::Octal(mode) => return *mode,
            Self::Symbolic(clauses) => clauses,
        };
        clauses.iter().fold(mode, |mode, clause| {
            let mut bits = match clause.copied {
                Some(shift) => mode >> shift & 7,
                None => clause.bits,
            };
            if clause.conditional && (directory || mode & 0o111 != 0) {
                bits |= 1;
            }
            let mut change = (bits << 6 | bits << 3 | bits) & clause.who;
            if clause.set_id {
                change |= if clause.who & 0o700 != 0 { 0o4000 } else { 0 };
                change |= if clause.who & 0o070 != 0 { 0o2000 } else { 0 };
            }
            if clause.sticky {
                change |= 0o1000;
            }
            match clause.operation {
                Operation::Add => mode | change,
                Operation::Remove => mode & !change,
                Operation::Set => mode & !clause.who | change,
            }
        })
    }
}

/// Reads `ug+rw-x`: whose, then one or more changes.
fn clause(text: &str, out: &mut Vec<Clause>) -> Option<()> {
    let operations = ['+', '-', '='];
    let mut who = 0;
    let begin = text.find(operations)?;
    for c in text[..begin].chars() {
        who |= match c {
            'u' => 0o700,
            'g' => 0o070,
            'o' => 0o007,
            'a' => 0o777,
            _ => return None,
        };
    }
    let who = if who == 0 { 0o777 } else { who };
    let mut rest = &text[begin..];
    while let Some(operator) = rest.chars().next() {
        let operation = match operator {
            '+' => Operation::Add,
            '-' => Operation::Remove,
            _ => Operation::Set,
        };
        let end = rest[1..].find(operations).map_or(rest.len(), |at| at + 1);
        let mut one =
            Clause { who, operation, bits: 0, conditional: false, set_id: false, sticky: false, copied: None };
        for c in rest[1..end].chars() {
            match c {
                'r' => one.bits |= 4,
                'w' => one.bits |= 2,
                'x' => one.bits |= 1,
                'X' => one.conditional = true,
                's' => one.set_id = true,
                't' => one.sticky = true,
                'u' => one.copied = Some(6),
                'g' => one.copied = Some(3),
                'o' => one.copied = Some(0),
                _ => return None,
            }
        }
        out.push(one);
        rest = &rest[end..];
    }
    Some(())
}

#[cfg(test)]
mod tests;
