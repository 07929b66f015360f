//! Sensors: monitoring chips, thermal zones, power supplies, energy meters.
//! <https://docs.kernel.org/hwmon/sysfs-interface.html>, <https://docs.kernel.org/power/power_supply_class.html>,
//! <https://docs.kernel.org/power/powercap/powercap.html>

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::Path,
};

use counts::page::{Number, Page};

use crate::{
    machine::Work,
    source::{Entry, Failure, entries, number, parse, read, text},
};

const KINDS: [&str; 14] = [
    "vrm",
    "beep_enable",
    "update_interval",
    "in",
    "cpu",
    "fan",
    "pwm",
    "temp",
    "curr",
    "power",
    "energy",
    "humidity",
    "intrusion",
    "freq",
];

pub(crate) fn hwmon(work: &Work<'_>, page: &mut Page) -> Result<(), Failure> {
    let mut chips = Vec::new();
    for chip in work.source.sys_entries("class/hwmon")?.into_iter().filter(|chip| chip.path.is_dir()) {
        let Some(name) = chip_name(&chip) else { continue };
        let own = text(&chip.path.join("name")).unwrap_or_default();
        chips.push((chip, name, own));
    }
    for (chip, name, own) in &chips {
        let alike = |other: &&(Entry, String, String)| other.1 == *name;
        let mut name = name.clone();
        if chips.iter().filter(alike).count() > 1 {
            let mut suffix = clean(own);
            if suffix.is_empty() || chips.iter().filter(alike).filter(|other| other.2 == *own).count() > 1 {
                suffix = clean(&chip.name);
            }
            name = format!("{name}_{suffix}");
        }
        self::chip(chip, &name, page);
    }
    Ok(())
}

/// What tells a chip apart: bus and address of its device, its own name, or its directory.
fn chip_name(chip: &Entry) -> Option<String> {
    if let Ok(device) = fs::canonicalize(chip.path.join("device")) {
        let part = |path: Option<&Path>| clean(&path.and_then(Path::file_name).unwrap_or_default().to_string_lossy());
        let (name, bus) = (part(Some(&device)), part(device.parent()));
        if !name.is_empty() {
            return Some(if bus.is_empty() { name } else { format!("{bus}_{name}") });
        }
    }
    let own = clean(&text(&chip.path.join("name")).unwrap_or_default());
    if !own.is_empty() {
        return Some(own);
    }
    let real = fs::canonicalize(&chip.path).ok()?;
    let name = clean(&real.file_name()?.to_string_lossy());
    (!name.is_empty()).then_some(name)
}

/// A text as part of a metric's name or of a chip's: lower case, other letters than those of names as `_`.
fn clean(text: &str) -> String {
    let allowed = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || matches!(letter, ':' | '_');
    let lower = text.to_lowercase();
    let cleaned: String = lower.chars().map(|letter| if allowed(letter) { letter } else { '_' }).collect();
    cleaned.trim_matches('_').to_owned()
}

fn chip(chip: &Entry, name: &str, page: &mut Page) {
    let mut sensors = BTreeMap::<String, Sensor>::new();
    collect(&chip.path, &mut sensors);
    collect(&chip.path.join("device"), &mut sensors);
    let human = clean(&text(&chip.path.join("name")).unwrap_or_default());
    if !human.is_empty() {
        page.gauge("node_hwmon_chip_names", &[("chip", name), ("chip_name", &human)], 1);
    }
    for (id, sensor) in &sensors {
        self::sensor(name, id, sensor, page);
    }
}

/// One sensor: what its name begins with, and its files by what comes last in their names.
struct Sensor {
    kind: &'static str,
    elements: BTreeMap<String, String>,
}

fn collect(directory: &Path, sensors: &mut BTreeMap<String, Sensor>) {
    for file in entries(directory).unwrap_or_default() {
        let Some((kind, number, element)) = split(&file.name) else { continue };
        // The driver may refuse to read what the hardware does not have.
        let Ok(value) = read(&file.path) else { continue };
        let sensor = sensors.entry(format!("{kind}{number}"));
        let sensor = sensor.or_insert_with(|| Sensor { kind, elements: BTreeMap::new() });
        sensor.elements.insert(element.to_owned(), value.trim_matches('\n').to_owned());
    }
}

/// `temp1_input` is kind, number and element.
fn split(name: &str) -> Option<(&'static str, u32, &str)> {
    let digits = name.find(|letter: char| letter.is_ascii_digit());
    if let Some(at) = digits.filter(|at| *at > 0) {
        let rest = &name[at..];
        let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
        let element = match &rest[end..] {
            "" => "",
            element => element.strip_prefix('_').filter(|element| !element.is_empty())?,
        };
        let kind = KINDS.iter().find(|kind| **kind == &name[..at])?;
        return Some((kind, rest[..end].parse().ok()?, element));
    }
    let kind = KINDS.iter().find(|kind| **kind == name)?;
    Some((kind, 0, ""))
}

fn sensor(chip: &str, id: &str, sensor: &Sensor, page: &mut Page) {
    let labels = [("chip", chip), ("sensor", id)];
    let label = sensor.elements.get("label");
    if let Some(label) = label {
        page.gauge("node_hwmon_sensor_label", &[("chip", chip), ("label", label), ("sensor", id)], 1);
    }
    let alone = sensor.elements.get("").map(String::as_str);
    match sensor.kind {
        "beep_enable" => page.gauge("node_hwmon_beep_enabled", &labels, u8::from(alone == Some("1"))),
        "vrm" => {
            if let Some(value) = alone.and_then(parse) {
                page.gauge("node_hwmon_voltage_regulator_version", &labels, Number(value));
            }
        }
        "update_interval" => {
            if let Some(value) = alone.and_then(parse) {
                page.gauge("node_hwmon_update_interval_seconds", &labels, Number(value * 0.001));
            }
        }
        kind => {
            for (element, value) in sensor.elements.iter().filter(|(element, _)| *element != "label") {
                let Some(value) = parse(value.trim()) else { continue };
                let cleaned = clean(label.map_or("", String::as_str));
                if kind == "freq" && element == "input" {
                    if label.is_some() {
                        let labels = [("chip", chip), ("sensor", cleaned.as_str())];
                        page.gauge("node_hwmon_freq_freq_mhz", &labels, Number(value / 1e6));
                    }
                    continue;
                }
                let (name, unit) = element_name(kind, element, alone.is_some());
                page.family(name, if kind == "energy" { "counter" } else { "gauge" }).add(&labels, Number(unit(value)));
            }
        }
    }
}

/// The name of a sensor's element, and how its value is turned into the name's unit.
fn element_name(kind: &str, element: &str, alone: bool) -> (String, fn(f64) -> f64) {
    let mut name = format!("node_hwmon_{kind}");
    match element {
        "input" if alone => name.push_str("_input"),
        "input" | "" => {}
        other => {
            name.push('_');
            name.push_str(&clean(other));
        }
    }
    let (suffix, unit): (&str, fn(f64) -> f64) = match (kind, element) {
        (_, "fault" | "alarm") => ("", |value| value),
        (_, "beep") => ("_enabled", |value| value),
        ("in" | "cpu", _) => ("_volts", |value| value * 0.001),
        ("temp", element) if element != "type" => ("_celsius", |value| value * 0.001),
        ("curr", _) => ("_amps", |value| value * 0.001),
        ("energy", _) => ("_joule_total", |value| value / 1e6),
        ("power", "accuracy") => ("", |value| value / 1e6),
        ("power", "average_interval" | "average_interval_min" | "average_interval_max") => {
            ("_seconds", |value| value * 0.001)
        }
        ("power", _) => ("_watt", |value| value / 1e6),
        ("humidity", _) => ("", |value| value / 1e6),
        ("fan", "input" | "min" | "max" | "target") => ("_rpm", |value| value),
        _ => ("", |value| value),
    };
    name.push_str(suffix);
    (name, unit)
}

pub(crate) fn thermal(work: &Work<'_>, page: &mut Page) -> Result<(), Failure> {
    for zone in work.source.sys_entries("class/thermal").unwrap_or_default() {
        let kind = zone.text("type").unwrap_or_default();
        if let Some(name) = zone.name.strip_prefix("thermal_zone") {
            // One that is off cannot be read.
            if let Some(temperature) = zone.number("temp") {
                page.gauge("node_thermal_zone_temp", &[("type", &kind), ("zone", name)], Number(temperature / 1000.0));
            }
        } else if let Some(name) = zone.name.strip_prefix("cooling_device") {
            let labels = [("name", name), ("type", kind.as_str())];
            for (file, metric) in
                [("cur_state", "node_cooling_device_cur_state"), ("max_state", "node_cooling_device_max_state")]
            {
                if let Some(state) = zone.number(file) {
                    page.gauge(metric, &labels, Number(state));
                }
            }
        }
    }
    Ok(())
}

/// Files of power supplies, what their metrics are called, and what they are divided by.
const SUPPLY: [(&str, &str, f64); 49] = [
    ("authentic", "authentic", 1.0),
    ("calibrate", "calibrate", 1.0),
    ("capacity", "capacity", 1.0),
    ("capacity_alert_max", "capacity_alert_max", 1.0),
    ("capacity_alert_min", "capacity_alert_min", 1.0),
    ("cycle_count", "cyclecount", 1.0),
    ("online", "online", 1.0),
    ("present", "present", 1.0),
    ("time_to_empty_now", "time_to_empty_seconds", 1.0),
    ("time_to_full_now", "time_to_full_seconds", 1.0),
    ("current_boot", "current_boot", 1e6),
    ("current_max", "current_max", 1e6),
    ("current_now", "current_ampere", 1e6),
    ("energy_empty", "energy_empty", 1e6),
    ("energy_empty_design", "energy_empty_design", 1e6),
    ("energy_full", "energy_full", 1e6),
    ("energy_full_design", "energy_full_design", 1e6),
    ("energy_now", "energy_watthour", 1e6),
    ("voltage_boot", "voltage_boot", 1e6),
    ("voltage_max", "voltage_max", 1e6),
    ("voltage_max_design", "voltage_max_design", 1e6),
    ("voltage_min", "voltage_min", 1e6),
    ("voltage_min_design", "voltage_min_design", 1e6),
    ("voltage_now", "voltage_volt", 1e6),
    ("voltage_ocv", "voltage_ocv", 1e6),
    ("charge_control_limit", "charge_control_limit", 1e6),
    ("charge_control_limit_max", "charge_control_limit_max", 1e6),
    ("charge_counter", "charge_counter", 1e6),
    ("charge_empty", "charge_empty", 1e6),
    ("charge_empty_design", "charge_empty_design", 1e6),
    ("charge_full", "charge_full", 1e6),
    ("charge_full_design", "charge_full_design", 1e6),
    ("charge_now", "charge_ampere", 1e6),
    ("charge_term_current", "charge_term_current", 1e6),
    ("constant_charge_current", "constant_charge_current", 1e6),
    ("constant_charge_current_max", "constant_charge_current_max", 1e6),
    ("constant_charge_voltage", "constant_charge_voltage", 1e6),
    ("constant_charge_voltage_max", "constant_charge_voltage_max", 1e6),
    ("precharge_current", "precharge_current", 1e6),
    ("input_current_limit", "input_current_limit", 1e6),
    ("power_now", "power_watt", 1e6),
    ("temp", "temp_celsius", 10.0),
    ("temp_alert_max", "temp_alert_max_celsius", 10.0),
    ("temp_alert_min", "temp_alert_min_celsius", 10.0),
    ("temp_ambient", "temp_ambient_celsius", 10.0),
    ("temp_ambient_max", "temp_ambient_max_celsius", 10.0),
    ("temp_ambient_min", "temp_ambient_min_celsius", 10.0),
    ("temp_max", "temp_max_celsius", 10.0),
    ("temp_min", "temp_min_celsius", 10.0),
];

pub(crate) fn power_supplies(work: &Work<'_>, page: &mut Page) -> Result<(), Failure> {
    const TEXTS: [&str; 11] = [
        "capacity_level",
        "charge_type",
        "health",
        "manufacturer",
        "model_name",
        "scope",
        "serial_number",
        "status",
        "technology",
        "type",
        "usb_type",
    ];
    for supply in work.source.sys_entries("class/power_supply").unwrap_or_default() {
        for (file, name, unit) in SUPPLY {
            if let Some(value) = supply.number(file) {
                let labels = [("power_supply", supply.name.as_str())];
                page.gauge(format!("node_power_supply_{name}"), &labels, Number(value / unit));
            }
        }
        let texts = TEXTS.map(|file| (file, supply.text(file).unwrap_or_default()));
        let mut labels: Vec<(&str, &str)> = texts.iter().map(|(name, value)| (*name, value.as_str())).collect();
        labels.retain(|(_, value)| !value.is_empty());
        labels.push(("power_supply", &supply.name));
        labels.sort_unstable();
        page.gauge("node_power_supply_info", &labels, 1);
    }
    Ok(())
}

pub(crate) fn energy(work: &Work<'_>, page: &mut Page) -> Result<(), Failure> {
    let mut used = HashMap::<String, u32>::new();
    for zone in work.source.sys_entries("class/powercap")? {
        let Some(name) = zone.text("name") else { continue };
        // A number at the end is the zone's; zones of one name are counted.
        let (name, index) = match name.rsplit_once('-').and_then(|(name, index)| Some((name, index.parse().ok()?))) {
            Some((name, index)) => (name.to_owned(), index),
            None => (name.clone(), used.get(&name).copied().unwrap_or(0)),
        };
        used.insert(name.clone(), u32::saturating_add(index, 1));
        let Some(micros) = number(&zone.path.join("energy_uj")) else { continue };
        let sane: String =
            name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' }).collect();
        let path = zone.path.to_string_lossy();
        let labels = [("index", &*index.to_string()), ("path", &*path)];
        page.counter(format!("node_rapl_{sane}_joules_total"), &labels, Number(micros / 1e6));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_sensors_files_have_three_parts() {
        assert_eq!(split("temp1_crit_alarm"), Some(("temp", 1, "crit_alarm")));
        assert_eq!(split("pwm2"), Some(("pwm", 2, "")));
        assert_eq!(split("update_interval"), Some(("update_interval", 0, "")));
        for name in ["", "1", "uevent", "temp", "temp1_", "temp99999999999_input", "name", "tempx1_input"] {
            assert!(split(name).is_none_or(|(kind, ..)| kind == "temp" && name == "temp"), "{name}");
        }
    }

    #[test]
    fn chips_are_called_in_plain_letters() {
        assert_eq!(clean("PCI0000:00/é.1\n"), "pci0000:00___1");
    }
}
