//! Tests of `devices`: cases as data where there are many.

use super::*;

/// Runs a program as the kernel does.
fn run(program: &[u8], kind: u32, access: u32, major: u32, minor: u32) -> bool {
    let context = [access << 16 | kind, major, minor];
    let mut registers = [0u64; 11];
    let mut at = 0usize;
    for _ in 0..10_000 {
        let bytes = &program[at * 8..at * 8 + 8];
        let (to, from) = (usize::from(bytes[1] & 15), usize::from(bytes[1] >> 4));
        let offset = i16::from_ne_bytes([bytes[2], bytes[3]]);
        let value = i32::from_ne_bytes(bytes[4..8].try_into().unwrap());
        at += 1;
        match bytes[0] {
            LOAD => registers[to] = context[offset as usize / 4].into(),
            AND => registers[to] = u64::from(registers[to] as u32 & value as u32),
            SHIFT_RIGHT => registers[to] = u64::from(registers[to] as u32 >> value),
            MOVE => registers[to] = registers[from],
            SET => registers[to] = value as u64,
            JUMP_UNEQUAL if registers[to] != i64::from(value) as u64 => {
                at = at.checked_add_signed(offset.into()).unwrap()
            }
            JUMP_UNEQUAL_REGISTER if registers[to] != registers[from] => {
                at = at.checked_add_signed(offset.into()).unwrap();
            }
            JUMP_UNEQUAL | JUMP_UNEQUAL_REGISTER => {}
            EXIT => return registers[0] == 1,
            code => panic!("{code:#x}"),
        }
    }
    panic!("it does not end");
}

fn parse(devices: serde_json::Value) -> Vec<Rule> {
    rules(&serde_json::from_value::<Vec<LinuxDeviceCgroup>>(devices).unwrap()).unwrap()
}

const BLOCK: u32 = 1;
const CHAR: u32 = 2;

#[test]
fn without_rules_the_defaults_are_all() {
    let program = program(&parse(serde_json::json!([])));
    assert!(run(&program, CHAR, READ | WRITE, 1, 3));
    assert!(run(&program, CHAR, READ, 136, 77));
    assert!(run(&program, BLOCK, MAKE, 8, 0), "making a node is harmless");
    assert!(!run(&program, BLOCK, READ, 8, 0));
    assert!(!run(&program, CHAR, READ, 1, 1));
    assert!(!run(&program, CHAR, MAKE | READ, 1, 1));
}

#[test]
fn the_last_rule_that_fits_decides() {
    let program = program(&parse(serde_json::json!([
        {"allow": true, "access": "rwm"},
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "b", "major": 8, "access": "r"},
        {"allow": false, "type": "b", "major": 8, "minor": 1, "access": "rwm"},
    ])));
    assert!(run(&program, BLOCK, READ, 8, 0));
    assert!(!run(&program, BLOCK, READ | WRITE, 8, 0));
    assert!(!run(&program, BLOCK, READ, 8, 1));
    assert!(!run(&program, CHAR, READ, 8, 0));
}

#[test]
fn everything_can_be_allowed() {
    let rules = parse(serde_json::json!([{"allow": true, "access": "rwm"}]));
    assert!(run(&program(&rules), BLOCK, 7, 8, 0));
    assert_eq!(lines(&rules), [("devices.deny", "a".to_owned()), ("devices.allow", "a".to_owned())]);
}

#[test]
fn version_one_gets_lines() {
    let rules = parse(serde_json::json!([
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"},
        {"allow": true, "type": "a", "major": 5, "access": "r"},
    ]));
    let lines: Vec<_> = lines(&rules).into_iter().take(5).map(|(file, line)| format!("{file} {line}")).collect();
    assert_eq!(
        lines,
        [
            "devices.deny a",
            "devices.deny a",
            "devices.allow c 10:229 rw",
            "devices.allow b 5:* r",
            "devices.allow c 5:* r"
        ]
    );
}

#[test]
fn nonsense_is_refused() {
    for device in [
        serde_json::json!([{"allow": true, "access": "x"}]),
        serde_json::json!([{"allow": true, "type": "p", "access": "r"}]),
        serde_json::json!([{"allow": true, "type": "c", "major": -7, "access": "r"}]),
    ] {
        let devices = serde_json::from_value::<Vec<LinuxDeviceCgroup>>(device).unwrap();
        assert!(rules(&devices).is_err());
    }
}
