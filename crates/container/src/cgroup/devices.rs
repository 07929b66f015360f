//! Which devices a group's processes may use: lists on version 1, a program on version 2.
//!
//! Rules are taken in order, the last that fits decides; before the first, nothing is allowed. Every container may use
//! the devices that it is given (`/dev/null`, its terminals, …), and make nodes of any number without using them.
//!
//! Specification: <https://docs.kernel.org/admin-guide/cgroup-v2.html#device-controller>.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use super::Error;

/// What may be done with a device.
const MAKE: u32 = 1;
const READ: u32 = 2;
const WRITE: u32 = 4;

/// A rule in numbers; absent numbers fit every device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Whether it allows or denies.
    pub allow: bool,
    /// Block or character device, or both.
    pub kind: Kind,
    /// Major number.
    pub major: Option<u32>,
    /// Minor number.
    pub minor: Option<u32>,
    /// Bits: 1 make a node, 2 read, 4 write.
    pub access: u32,
}

/// Which sort of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Both.
    All,
    /// Block devices.
    Block,
    /// Character devices.
    Char,
}

/// What every container may use.
const DEFAULTS: [(Kind, Option<u32>, Option<u32>, u32); 11] = [
    (Kind::Char, None, None, MAKE),
    (Kind::Block, None, None, MAKE),
    (Kind::Char, Some(1), Some(3), 7),
    (Kind::Char, Some(1), Some(5), 7),
    (Kind::Char, Some(1), Some(7), 7),
    (Kind::Char, Some(1), Some(8), 7),
    (Kind::Char, Some(1), Some(9), 7),
    (Kind::Char, Some(5), Some(0), 7),
    (Kind::Char, Some(5), Some(1), 7),
    (Kind::Char, Some(5), Some(2), 7),
    (Kind::Char, Some(136), None, 7),
];

/// The rules of a specification, and the defaults.
pub fn rules(devices: &[LinuxDeviceCgroup]) -> Result<Vec<Rule>, Error> {
    let mut rules = Vec::with_capacity(devices.len() + DEFAULTS.len());
    for device in devices {
        rules.push(rule(device)?);
    }
    let open = rules.iter().rev().find(|rule| rule.is_everything()).is_some_and(|rule| rule.allow);
    if !open {
        let add = |&(kind, major, minor, access): &_| Rule { allow: true, kind, major, minor, access };
        rules.extend(DEFAULTS.iter().map(add));
    }
    Ok(rules)
}

fn rule(device: &LinuxDeviceCgroup) -> Result<Rule, Error> {
    let kind = match device.typ() {
        None | Some(LinuxDeviceType::A) => Kind::All,
        Some(LinuxDeviceType::B) => Kind::Block,
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => Kind::Char,
        Some(LinuxDeviceType::P) => return Err(Error::Limit("a pipe is not a device to allow".into())),
    };
    let number = |number: Option<i64>| match number {
        None | Some(-1) => Ok(None),
        Some(number) => {
            u32::try_from(number).map(Some).map_err(|_| Error::Limit(format!("{number} is not a device number")))
        }
    };
    let mut access = 0;
    for letter in device.access().as_deref().filter(|access| !access.is_empty()).unwrap_or("rwm").chars() {
        access |= match letter {
            'm' => MAKE,
            'r' => READ,
            'w' => WRITE,
            _ => return Err(Error::Limit(format!("{letter:?} is not an access to a device"))),
        };
    }
    Ok(Rule { allow: device.allow(), kind, major: number(device.major())?, minor: number(device.minor())?, access })
}

impl Rule {
    fn is_everything(&self) -> bool {
        self.kind == Kind::All && self.major.is_none() && self.minor.is_none() && self.access == 7
    }

    /// As version 1's files want it.
    pub fn line(&self) -> String {
        let kind = match self.kind {
            Kind::All => return "a".into(),
            Kind::Block => 'b',
            Kind::Char => 'c',
        };
        let number = |number: Option<u32>| number.map_or("*".into(), |number| number.to_string());
        let mut line = format!("{kind} {}:{} ", number(self.major), number(self.minor));
        for (bit, letter) in [(READ, 'r'), (WRITE, 'w'), (MAKE, 'm')] {
            if self.access & bit != 0 {
                line.push(letter);
            }
        }
        line
    }
}

/// Version 1: the file of each rule, and its line; first everything is denied.
pub fn lines(rules: &[Rule]) -> Vec<(&'static str, String)> {
    let mut lines = vec![("devices.deny", "a".to_owned())];
    for rule in rules {
        // The file knows "everything" only as a whole; a rule about all devices in part is one a kind.
        let kinds: &[Kind] =
            if rule.kind == Kind::All && !rule.is_everything() { &[Kind::Block, Kind::Char] } else { &[rule.kind] };
        for &kind in kinds {
            let file = if rule.allow { "devices.allow" } else { "devices.deny" };
            lines.push((file, Rule { kind, ..*rule }.line()));
        }
    }
    lines
}

/// Version 2: a program of type `BPF_PROG_TYPE_CGROUP_DEVICE`. It gets the access and the device's numbers, and gives 1 to
/// allow, 0 to deny.
pub fn program(rules: &[Rule]) -> Vec<u8> {
    let mut code = Code(Vec::new());
    // r2 = kind (low half of the first word), r3 = access (high half), r4 = major, r5 = minor.
    code.push(LOAD, 2, 1, 0, 0);
    code.push(AND, 2, 0, 0, 0xffff);
    code.push(LOAD, 3, 1, 0, 0);
    code.push(SHIFT_RIGHT, 3, 0, 0, 16);
    code.push(LOAD, 4, 1, 4, 0);
    code.push(LOAD, 5, 1, 8, 0);
    for rule in rules.iter().rev() {
        let mut tests = Code(Vec::new());
        match rule.kind {
            Kind::All => {}
            Kind::Block => tests.push(JUMP_UNEQUAL, 2, 0, 0, 1),
            Kind::Char => tests.push(JUMP_UNEQUAL, 2, 0, 0, 2),
        }
        if rule.access != 7 {
            tests.push(MOVE, 1, 3, 0, 0);
            tests.push(AND, 1, 0, 0, rule.access as i32);
            tests.push(JUMP_UNEQUAL_REGISTER, 1, 3, 0, 0);
        }
        for (register, number) in [(4, rule.major), (5, rule.minor)] {
            if let Some(number) = number {
                tests.push(JUMP_UNEQUAL, register, 0, 0, number as i32);
            }
        }
        tests.push(SET, 0, 0, 0, rule.allow.into());
        tests.push(EXIT, 0, 0, 0, 0);
        let (always, length) = (!tests.0.iter().any(Instruction::jumps), tests.0.len());
        for (index, instruction) in tests.0.iter_mut().enumerate() {
            if instruction.jumps() {
                instruction.offset = (length - index - 1) as i16;
            }
        }
        code.0.append(&mut tests.0);
        if always {
            // What follows would never run, and the kernel refuses such programs.
            return code.bytes();
        }
    }
    code.push(SET, 0, 0, 0, 0);
    code.push(EXIT, 0, 0, 0, 0);
    code.bytes()
}

const LOAD: u8 = 0x61;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const MOVE: u8 = 0xbf;
const SET: u8 = 0xb7;
const JUMP_UNEQUAL: u8 = 0x55;
const JUMP_UNEQUAL_REGISTER: u8 = 0x5d;
const EXIT: u8 = 0x95;

struct Instruction {
    code: u8,
    to: u8,
    from: u8,
    offset: i16,
    value: i32,
}

impl Instruction {
    fn jumps(&self) -> bool {
        matches!(self.code, JUMP_UNEQUAL | JUMP_UNEQUAL_REGISTER)
    }
}

struct Code(Vec<Instruction>);

impl Code {
    fn push(&mut self, code: u8, to: u8, from: u8, offset: i16, value: i32) {
        self.0.push(Instruction { code, to, from, offset, value });
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() * 8);
        for instruction in &self.0 {
            let registers = if cfg!(target_endian = "little") {
                instruction.to | instruction.from << 4
            } else {
                instruction.to << 4 | instruction.from
            };
            bytes.extend([instruction.code, registers]);
            bytes.extend(instruction.offset.to_ne_bytes());
            bytes.extend(instruction.value.to_ne_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests;
