//! Rules to classic BPF.
//!
//! Each architecture has a section of its own. There, the numbers fall into segments with the same verdict, found by binary
//! search (a list of comparisons would cost every call of the container a microsecond); a segment whose verdict hangs on
//! arguments is followed by those tests. Numbers above all that the rules name are newer than the rules: they give
//! `ENOSYS` rather than a default `EPERM`, because programs fall back to older calls only on the former.

use std::collections::BTreeMap;

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSeccompOperator, LinuxSyscall,
};

use super::numbers::NUMBERS;
use crate::plan::Seccomp;

/// Why rules cannot be compiled.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A verdict that needs a helper this runtime has not.
    #[error("seccomp action {0} is not supported")]
    Action(String),
    /// An argument's index is over 5.
    #[error("seccomp rule for {name} tests argument {index}, and there are six")]
    Argument {
        /// The system call.
        name: String,
        /// The index.
        index: usize,
    },
    /// The kernel takes 4096 instructions.
    #[error("seccomp program has {0} instructions, and the kernel takes 4096")]
    TooLong(usize),
}

const RET_KILL_PROCESS: u32 = 0x8000_0000;
const RET_ERRNO: u32 = 0x0005_0000;
/// Set in numbers of x32 calls, which share x86-64's architecture.
const X32_BIT: u32 = 0x4000_0000;

/// One architecture's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// `AUDIT_ARCH_…`.
    audit: u32,
    column: usize,
}

const X86_64: Table = Table { audit: 0xc000_003e, column: 0 };
const X86: Table = Table { audit: 0x4000_0003, column: 1 };
const AARCH64: Table = Table { audit: 0xc000_00b7, column: 2 };

impl Table {
    pub const NATIVE: Self = if cfg!(target_arch = "aarch64") { AARCH64 } else { X86_64 };

    pub fn number(self, name: &str) -> Option<u32> {
        let index = NUMBERS.binary_search_by(|entry| entry.0.cmp(name)).ok()?;
        let (_, x86_64, x86, aarch64) = NUMBERS[index];
        u32::try_from([x86_64, x86, aarch64][self.column]).ok()
    }
}

/// Compiles a filter. Names that no kernel knows are left out; architectures that this machine cannot run as well.
pub fn compile(rules: &LinuxSeccomp) -> Result<Seccomp, Error> {
    let mut tables = vec![Table::NATIVE];
    for architecture in rules.architectures().iter().flatten() {
        if Table::NATIVE == X86_64 && *architecture == Arch::ScmpArchX86 && !tables.contains(&X86) {
            tables.push(X86);
        }
    }
    let mut program = vec![load(4)];
    for table in tables {
        let section = section(table, rules)?;
        // The jump over a section may be far, which only the unconditional one can.
        program.push(Instruction { code: JUMP_EQUAL, yes: 1, no: 0, value: table.audit });
        program.push(Instruction { code: JUMP, yes: 0, no: 0, value: section.len() as u32 });
        program.extend(section);
    }
    program.push(verdict(RET_KILL_PROCESS));
    if program.len() > 4096 {
        return Err(Error::TooLong(program.len()));
    }
    let mut flags = 0;
    for flag in rules.flags().iter().flatten() {
        flags |= match flag {
            // One thread is all there is when the filter is loaded.
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync => 0,
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => 2,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => 4,
            // Only means something to filters that ask a supervisor.
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => 0,
        };
    }
    Ok(Seccomp { program: program.iter().flat_map(Instruction::bytes).collect(), flags })
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Result<u32, Error> {
    if action == LinuxSeccompAction::ScmpActNotify {
        return Err(Error::Action(action.to_string()));
    }
    let value = action.as_u32(errno.map(|errno| errno & 0xffff));
    Ok(value)
}

/// What is decided about one system call.
#[derive(Default)]
struct Decision {
    /// Tests that must all hold, and the verdict then; in order.
    conditional: Vec<(Vec<LinuxSeccompArg>, u32)>,
    /// The verdict where none of them decides.
    otherwise: Option<u32>,
}

fn section(table: Table, rules: &LinuxSeccomp) -> Result<Vec<Instruction>, Error> {
    let default = action(rules.default_action(), rules.default_errno_ret())?;
    let mut decisions = BTreeMap::<u32, Decision>::new();
    for rule in rules.syscalls().iter().flatten() {
        add(table, rule, &mut decisions)?;
    }
    let newer = match decisions.last_key_value() {
        Some((last, _)) if default & 0xffff_0000 == RET_ERRNO => {
            decisions.entry(last + 1).or_insert(Decision { conditional: Vec::new(), otherwise: None });
            RET_ERRNO | libc::ENOSYS as u32
        }
        _ => default,
    };
    let last = decisions.last_key_value().map_or(u32::MAX, |(last, _)| *last);
    let mut segments = Vec::<(u32, Vec<Instruction>)>::new();
    let mut next = 0;
    let mut push = |start: u32, code: Vec<Instruction>| {
        if segments.last().is_none_or(|(_, previous)| *previous != code || code.len() != 1) {
            segments.push((start, code));
        }
    };
    for (&number, decision) in &decisions {
        if number == last && newer != default {
            break;
        }
        if number > next {
            push(next, vec![verdict(default)]);
        }
        push(number, decide(decision, default));
        next = number + 1;
    }
    if table == X86_64 {
        push(next, vec![verdict(newer)]);
        push(X32_BIT, vec![verdict(RET_ERRNO | libc::ENOSYS as u32)]);
    } else {
        push(next, vec![verdict(newer)]);
    }
    let mut code = vec![load(0)];
    code.extend(search(&segments));
    Ok(code)
}

fn add(table: Table, rule: &LinuxSyscall, decisions: &mut BTreeMap<u32, Decision>) -> Result<(), Error> {
    let value = action(rule.action(), rule.errno_ret())?;
    let tests: &[LinuxSeccompArg] = rule.args().as_deref().unwrap_or_default();
    for name in rule.names() {
        if let Some(test) = tests.iter().find(|test| test.index() > 5) {
            return Err(Error::Argument { name: name.clone(), index: test.index() });
        }
        let Some(number) = table.number(name) else { continue };
        let decision = decisions.entry(number).or_default();
        if tests.is_empty() {
            decision.otherwise.get_or_insert(value);
            continue;
        }
        let repeated = |test: &LinuxSeccompArg| tests.iter().filter(|other| other.index() == test.index()).count() > 1;
        if tests.iter().any(repeated) {
            // Several tests of one argument are alternatives, as runtimes have always read them.
            decision.conditional.extend(tests.iter().map(|test| (vec![*test], value)));
        } else {
            decision.conditional.push((tests.to_vec(), value));
        }
    }
    Ok(())
}

fn decide(decision: &Decision, default: u32) -> Vec<Instruction> {
    let mut code = Vec::new();
    for (tests, value) in &decision.conditional {
        let mut rule = Vec::new();
        for test in tests {
            rule.extend(compare(test));
        }
        rule.push(Step::Plain(verdict(*value)));
        let length = rule.len();
        let resolve = |(index, step): (usize, Step)| step.resolve(length - index - 1);
        code.extend(rule.into_iter().enumerate().map(resolve));
    }
    code.push(verdict(decision.otherwise.unwrap_or(default)));
    code
}

/// An instruction of a test; failing leaves the whole rule.
enum Step {
    Plain(Instruction),
    /// Jumps by `yes`, or out of the rule.
    OrFail(Instruction),
    /// Jumps out of the rule, or by `no`.
    FailOr(Instruction),
}

impl Step {
    fn resolve(self, to_end: usize) -> Instruction {
        let far = u8::try_from(to_end).unwrap_or(u8::MAX);
        match self {
            Self::Plain(instruction) => instruction,
            Self::OrFail(instruction) => Instruction { no: far, ..instruction },
            Self::FailOr(instruction) => Instruction { yes: far, ..instruction },
        }
    }
}

/// A test of one argument, in two halves of 32 bits.
fn compare(test: &LinuxSeccompArg) -> Vec<Step> {
    use LinuxSeccompOperator as Op;
    let (low_at, high_at) = {
        let at = 16 + 8 * test.index() as u32;
        if cfg!(target_endian = "little") { (at, at + 4) } else { (at + 4, at) }
    };
    let halves = |value: u64| (value as u32, (value >> 32) as u32);
    let (low, high) = halves(test.value());
    let jump = |code, yes, no, value| Instruction { code, yes, no, value };
    let plain = |offset| Step::Plain(load(offset));
    match test.op() {
        Op::ScmpCmpEq => vec![
            plain(high_at),
            Step::OrFail(jump(JUMP_EQUAL, 0, 0, high)),
            plain(low_at),
            Step::OrFail(jump(JUMP_EQUAL, 0, 0, low)),
        ],
        Op::ScmpCmpNe => vec![
            plain(high_at),
            Step::Plain(jump(JUMP_EQUAL, 0, 2, high)),
            plain(low_at),
            Step::FailOr(jump(JUMP_EQUAL, 0, 0, low)),
        ],
        Op::ScmpCmpMaskedEq => {
            let (wanted_low, wanted_high) = halves(test.value_two().unwrap_or(0));
            vec![
                plain(high_at),
                Step::Plain(jump(AND, 0, 0, high)),
                Step::OrFail(jump(JUMP_EQUAL, 0, 0, wanted_high)),
                plain(low_at),
                Step::Plain(jump(AND, 0, 0, low)),
                Step::OrFail(jump(JUMP_EQUAL, 0, 0, wanted_low)),
            ]
        }
        Op::ScmpCmpGt | Op::ScmpCmpGe => {
            let last = if test.op() == Op::ScmpCmpGt { JUMP_GREATER } else { JUMP_GREATER_EQUAL };
            vec![
                plain(high_at),
                Step::Plain(jump(JUMP_GREATER, 3, 0, high)),
                Step::OrFail(jump(JUMP_EQUAL, 0, 0, high)),
                plain(low_at),
                Step::OrFail(jump(last, 0, 0, low)),
            ]
        }
        Op::ScmpCmpLt | Op::ScmpCmpLe => {
            let last = if test.op() == Op::ScmpCmpLt { JUMP_GREATER_EQUAL } else { JUMP_GREATER };
            vec![
                plain(high_at),
                Step::FailOr(jump(JUMP_GREATER, 0, 0, high)),
                Step::Plain(jump(JUMP_EQUAL, 0, 2, high)),
                plain(low_at),
                Step::FailOr(jump(last, 0, 0, low)),
            ]
        }
    }
}

/// Finds the segment of the number in the accumulator.
fn search(segments: &[(u32, Vec<Instruction>)]) -> Vec<Instruction> {
    if let [(_, code)] = segments {
        return code.clone();
    }
    let (left, right) = segments.split_at(segments.len() / 2);
    let (start, left, right) = (right[0].0, search(left), search(right));
    let mut code = Vec::with_capacity(left.len() + right.len() + 2);
    match u8::try_from(left.len()) {
        Ok(distance) => code.push(Instruction { code: JUMP_GREATER_EQUAL, yes: distance, no: 0, value: start }),
        Err(_) => {
            code.push(Instruction { code: JUMP_GREATER_EQUAL, yes: 0, no: 1, value: start });
            code.push(Instruction { code: JUMP, yes: 0, no: 0, value: left.len() as u32 });
        }
    }
    code.extend(left);
    code.extend(right);
    code
}

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;

/// `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Instruction {
    code: u16,
    yes: u8,
    no: u8,
    value: u32,
}

impl Instruction {
    fn bytes(&self) -> [u8; 8] {
        let mut bytes = [0; 8];
        bytes[..2].copy_from_slice(&self.code.to_ne_bytes());
        bytes[2] = self.yes;
        bytes[3] = self.no;
        bytes[4..].copy_from_slice(&self.value.to_ne_bytes());
        bytes
    }
}

fn load(offset: u32) -> Instruction {
    Instruction { code: LOAD, yes: 0, no: 0, value: offset }
}

fn verdict(value: u32) -> Instruction {
    Instruction { code: RETURN, yes: 0, no: 0, value }
}

#[cfg(test)]
mod tests;
