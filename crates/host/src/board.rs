//! The machine's board and what runs on it: DMI, memory errors, watchdogs, the operating system's release.
//! <https://docs.kernel.org/driver-api/edac.html>, <https://www.freedesktop.org/software/systemd/man/os-release.html>

use std::collections::HashMap;

use counts::page::{Number, Page};

use crate::{
    machine::Work,
    source::{Entry, Failure, entries, read},
};

/// What DMI knows, in the order of labels.
const DMI: [(&str, &str); 20] = [
    ("bios_date", "bios_date"),
    ("bios_release", "bios_release"),
    ("bios_vendor", "bios_vendor"),
    ("bios_version", "bios_version"),
    ("board_asset_tag", "board_asset_tag"),
    ("board_name", "board_name"),
    ("board_serial", "board_serial"),
    ("board_vendor", "board_vendor"),
    ("board_version", "board_version"),
    ("chassis_asset_tag", "chassis_asset_tag"),
    ("chassis_serial", "chassis_serial"),
    ("chassis_vendor", "chassis_vendor"),
    ("chassis_version", "chassis_version"),
    ("product_family", "product_family"),
    ("product_name", "product_name"),
    ("product_serial", "product_serial"),
    ("product_sku", "product_sku"),
    ("product_uuid", "product_uuid"),
    ("product_version", "product_version"),
    ("sys_vendor", "system_vendor"),
];

pub(crate) fn dmi(work: &Work<'_>, page: &mut Page) -> Result<(), Failure> {
    let directory = Entry { name: "id".into(), path: work.source.sys("class/dmi/id") };
    if !directory.path.is_dir() {
        return Err(Failure::NoData);
    }
    let values: Vec<(&str, String)> =
        DMI.into_iter().filter_map(|(file, label)| Some((label, directory.text(file)?))).collect();
    let labels: Vec<(&str, &str)> = values.iter().map(|(name, value)| (*name, value.as_str())).collect();
    page.gauge("node_dmi_info", &labels, 1);
    Ok(())
}

pub(crate) fn edac(work: &Work<'_>, page: &mut Page) -> Result<(), Failure> {
    for controller in work.source.sys_entries("devices/system/edac/mc").unwrap_or_default() {
        let Some(number) = index(&controller, "mc") else { continue };
        let own = ("controller", number);
        let mut tell = |file: &str, name: &'static str, labels: &[(&str, &str)]| {
            if let Some(count) = controller.number(file) {
                page.counter(name, labels, Number(count));
            }
        };
        tell("ce_count", "node_edac_correctable_errors_total", &[own]);
        tell("ue_count", "node_edac_uncorrectable_errors_total", &[own]);
        let unknown = [own, ("csrow", "unknown")];
        tell("ce_noinfo_count", "node_edac_csrow_correctable_errors_total", &unknown);
        tell("ue_noinfo_count", "node_edac_csrow_uncorrectable_errors_total", &unknown);
        for row in entries(&controller.path).unwrap_or_default() {
            if let Some(number) = index(&row, "csrow") {
                self::row(&row, [own, ("csrow", number)], page);
            }
        }
    }
    Ok(())
}

/// The number behind a word, where nothing else is.
fn index<'a>(entry: &'a Entry, prefix: &str) -> Option<&'a str> {
    entry.name.strip_prefix(prefix).filter(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
}

fn row(row: &Entry, labels: [(&str, &str); 2], page: &mut Page) {
    for (file, name) in [
        ("ce_count", "node_edac_csrow_correctable_errors_total"),
        ("ue_count", "node_edac_csrow_uncorrectable_errors_total"),
    ] {
        if let Some(count) = row.number(file) {
            page.counter(name, &labels, Number(count));
        }
    }
    for file in entries(&row.path).unwrap_or_default() {
        let Some(channel) = file.name.strip_prefix("ch").and_then(|rest| rest.strip_suffix("_ce_count")) else {
            continue;
        };
        let label = row.text(&format!("ch{channel}_dimm_label")).unwrap_or_default();
        let label = label.replace('#', "").replace("csrow", "_csrow").replace("channel", "_channel");
        let [controller, own] = labels;
        let labels = [("channel", channel), controller, own, ("dimm_label", &label)];
        for (kind, name) in [
            ("ce", "node_edac_channel_correctable_errors_total"),
            ("ue", "node_edac_channel_uncorrectable_errors_total"),
        ] {
            if let Some(count) = row.number(&format!("ch{channel}_{kind}_count")) {
                page.counter(name, &labels, Number(count));
            }
        }
    }
}

pub(crate) fn watchdogs(work: &Work<'_>, page: &mut Page) -> Result<(), Failure> {
    const FILES: [(&str, &str); 7] = [
        ("access_cs0", "node_watchdog_access_cs0"),
        ("bootstatus", "node_watchdog_bootstatus"),
        ("fw_version", "node_watchdog_fw_version"),
        ("nowayout", "node_watchdog_nowayout"),
        ("pretimeout", "node_watchdog_pretimeout_seconds"),
        ("timeleft", "node_watchdog_timeleft_seconds"),
        ("timeout", "node_watchdog_timeout_seconds"),
    ];
    for dog in work.source.sys_entries("class/watchdog").unwrap_or_default() {
        for (file, name) in FILES {
            if let Some(value) = dog.number(file) {
                page.gauge(name, &[("name", &dog.name)], Number(value));
            }
        }
        let text = |file: &str| dog.text(file).unwrap_or_default();
        let (identity, options, governor) = (text("identity"), text("options"), text("pretimeout_governor"));
        let (state, status) = (text("state"), text("status"));
        let labels = [
            ("identity", identity.as_str()),
            ("name", &dog.name),
            ("options", &options),
            ("pretimeout_governor", &governor),
            ("state", &state),
            ("status", &status),
        ];
        page.gauge("node_watchdog_info", &labels, 1);
    }
    Ok(())
}

pub(crate) fn system(work: &Work<'_>, page: &mut Page) -> Result<(), Failure> {
    let file = |path: &str| read(&work.source.root.join(path));
    let text = file("etc/os-release").or_else(|_| file("usr/lib/os-release"))?;
    let values = assignments(&text);
    let of = |key: &str| values.get(key).map_or("", String::as_str);
    let labels = [
        ("build_id", of("BUILD_ID")),
        ("id", of("ID")),
        ("id_like", of("ID_LIKE")),
        ("image_id", of("IMAGE_ID")),
        ("image_version", of("IMAGE_VERSION")),
        ("name", of("NAME")),
        ("pretty_name", of("PRETTY_NAME")),
        ("variant", of("VARIANT")),
        ("variant_id", of("VARIANT_ID")),
        ("version", of("VERSION")),
        ("version_codename", of("VERSION_CODENAME")),
        ("version_id", of("VERSION_ID")),
    ];
    page.gauge("node_os_info", &labels, 1);
    if let Some(version) = version(of("VERSION_ID")) {
        let labels = [("id", of("ID")), ("id_like", of("ID_LIKE")), ("name", of("NAME"))];
        page.gauge("node_os_version", &labels, Number(version));
    }
    if let Some(seconds) = day(of("SUPPORT_END")) {
        page.gauge("node_os_support_end_timestamp_seconds", &[], seconds);
    }
    Ok(())
}

/// Assignments as a shell would read them.
fn assignments(text: &str) -> HashMap<&str, String> {
    let assignment = |line| {
        let (key, value) = str::split_once(line, '=')?;
        let value = value.trim();
        let quoted = ['"', '\''].into_iter().find_map(|mark| value.strip_prefix(mark)?.strip_suffix(mark));
        let mut plain = String::new();
        let mut letters = quoted.unwrap_or(value).chars();
        while let Some(letter) = letters.next() {
            let letter = if letter == '\\' { letters.next() } else { Some(letter) };
            plain.extend(letter);
        }
        Some((key.trim(), plain))
    };
    text.lines().filter(|line| !line.starts_with('#')).filter_map(assignment).collect()
}

/// Major and minor number at the beginning of a version.
fn version(text: &str) -> Option<f64> {
    let mut dots = 0;
    let end = text.find(|letter: char| {
        dots += usize::from(letter == '.');
        !(letter.is_ascii_digit() || letter == '.' && dots == 1)
    });
    text[..end.unwrap_or(text.len())].trim_end_matches('.').parse().ok().filter(|version| *version > 0.0)
}

/// Seconds from 1970 to the beginning of a day, `YYYY-MM-DD`.
fn day(text: &str) -> Option<i64> {
    let mut parts = text.split('-').map(|part| part.parse::<i64>().ok().filter(|number| (1..=9999).contains(number)));
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    if month > 12 || day > 31 || parts.next().is_some() {
        return None;
    }
    // Years begin in March here, so that a leap day comes last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    Some((days - 719_468) * 86_400)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read_as_a_shell_would() {
        let text = "# x=1\nNAME=\"Fedora \\\"Linux\\\"\"\nID=fedora\nVERSION_ID='42'\nBROKEN\n";
        let found = assignments(text);
        assert_eq!(
            (found["NAME"].as_str(), found["ID"].as_str(), found["VERSION_ID"].as_str()),
            ("Fedora \"Linux\"", "fedora", "42")
        );
        assert_eq!(
            (version("12"), version("24.04.1"), version("20.04 LTS"), version("x")),
            (Some(12.0), Some(24.04), Some(20.04), None)
        );
        assert_eq!(
            (day("1970-01-02"), day("2024-02-29"), day("soon"), day("1-2-3-4")),
            (Some(86_400), Some(1_709_164_800), None, None)
        );
    }
}
