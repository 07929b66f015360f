//! Figures, targets and peers as a table, and as JSON.

use std::{fs, path::Path, process::Command};

use anyhow::Result;
use serde_json::{Value, json};

use crate::host;

/// One figure.
pub struct Figure {
    /// What it is.
    pub name: &'static str,
    /// What was measured.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// What is to be reached.
    pub target: Target,
    /// What stands beside it: name and value in the same unit.
    pub beside: Vec<(String, f64)>,
    /// Everything that was measured on the way.
    pub detail: Value,
}

/// What is to be reached.
#[derive(Clone, Copy)]
pub enum Target {
    /// No more than that.
    AtMost(f64),
    /// No less than that.
    AtLeast(f64),
}

impl Figure {
    fn met(&self) -> bool {
        match self.target {
            Target::AtMost(most) => self.value <= most,
            Target::AtLeast(least) => self.value >= least,
        }
    }

    fn row(&self) -> [String; 5] {
        let target = match self.target {
            Target::AtMost(most) => format!("<= {}", number(most)),
            Target::AtLeast(least) => format!(">= {}", number(least)),
        };
        let met = if self.met() { "reached" } else { "short" };
        let beside: Vec<String> =
            self.beside.iter().map(|(name, value)| format!("{name} {}", number(*value))).collect();
        [
            self.name.to_owned(),
            format!("{} {}", number(self.value), self.unit),
            target,
            met.to_owned(),
            beside.join(", "),
        ]
    }

    fn json(&self) -> Value {
        let beside: serde_json::Map<String, Value> =
            self.beside.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        let target = match self.target {
            Target::AtMost(value) => json!({ "at_most": value }),
            Target::AtLeast(value) => json!({ "at_least": value }),
        };
        json!({
            "name": self.name, "value": self.value, "unit": self.unit, "target": target, "reached": self.met(),
            "beside": beside, "detail": self.detail,
        })
    }
}

fn number(value: f64) -> String {
    match value.abs() {
        small if small < 10.0 => format!("{value:.2}"),
        middle if middle < 1000.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// Prints the table and writes the JSON; what could not be measured stands below.
pub fn publish(path: &Path, figures: &[Figure], failed: &[(&str, anyhow::Error)]) -> Result<()> {
    let mut rows = vec![["figure", "measured", "to reach", "", "beside"].map(str::to_owned)];
    rows.extend(figures.iter().map(Figure::row));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..5).map(width).collect();
    for row in &rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        println!("| {} |", cells.join(" | "));
    }
    for (name, error) in failed {
        println!("not measured: {name}: {error:#}");
    }
    let text = |program: &str, arguments: &[&str]| {
        host::output(Command::new(program).current_dir(host::root()).args(arguments))
            .map(|text| text.trim().to_owned())
            .unwrap_or_default()
    };
    let report = json!({
        "date": text("date", &["--utc", "+%Y-%m-%dT%H:%M:%SZ"]),
        "commit": text("git", &["describe", "--always", "--dirty"]),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "kernel": text("uname", &["-r"]),
        "figures": figures.iter().map(Figure::json).collect::<Vec<_>>(),
        "not_measured": failed.iter().map(|(name, error)| json!({ "name": name, "error": format!("{error:#}") }))
            .collect::<Vec<_>>(),
    });
    fs::write(path, serde_json::to_vec_pretty(&report)?)?;
    println!("kept in {}", path.display());
    Ok(())
}
