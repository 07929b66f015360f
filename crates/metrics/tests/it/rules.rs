//! Rules against upstream's: the fixtures of its unit tests, from the Go module cache, and rules that people use.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use metrics::rule::{
    file::{self, Reading},
    unit::{self, Settings},
};
use regex::Regex;

/// Prometheus 3.15.0.
pub const MODULE: &str = "github.com/prometheus/prometheus@v0.315.0";

/// The folder of a Go module; `None` where there is no Go, which is an error in CI.
pub fn module(name: &str) -> Option<PathBuf> {
    let output = Command::new("go").current_dir("/").args(["mod", "download", "-json", name]).output();
    let found = output.ok().and_then(|output| serde_json::from_slice::<serde_json::Value>(&output.stdout).ok());
    let dir = found.and_then(|found| found["Dir"].as_str().map(PathBuf::from));
    if dir.is_none() {
        assert!(std::env::var_os("CI").is_none(), "{name} is not to be had, and CI is to have it");
        eprintln!("skipped: {name} is not to be had");
    }
    dir
}

#[test]
fn unit_tests_of_rules_pass_and_fail_as_with_promtool() {
    let Some(dir) = module(MODULE) else { return };
    let dir = dir.join("cmd/promtool/testdata");
    for (name, run, lenient, passes) in [
        ("unittest.yml", None, false, true),
        ("long-period.yml", None, false, true),
        ("bad-input-series.yml", None, false, false),
        ("bad-promql.yml", None, false, false),
        ("bad-rules-syntax-test.yml", None, false, false),
        ("bad-rules-error-test.yml", None, false, false),
        ("failing.yml", None, false, false),
        ("at-modifier-test.yml", None, false, true),
        ("negative-offset-test.yml", None, false, true),
        ("no-test-group-interval.yml", None, false, true),
        ("start-time-test.yml", None, false, true),
        ("rules_run.yml", None, false, false),
        ("rules_run.yml", Some("correct"), false, true),
        ("rules_run.yml", Some("wrong"), false, false),
        ("rules_run_extrafields.yml", None, false, false),
        ("rules_run_extrafields.yml", None, true, true),
        ("rules_run_no_fuzzy.yml", None, false, false),
        ("rules_run_fuzzy.yml", Some("correct"), false, true),
        ("rules_run_fuzzy.yml", Some("wrong"), false, false),
    ] {
        let run = run.map(|run| Regex::new(run).expect("regex")).into_iter().collect();
        let settings = Settings { run, lenient, ..Settings::default() };
        let outcome = unit::test(&dir.join(name), &settings, &mut Vec::new());
        assert_eq!(outcome.is_ok(), passes, "{name}: {outcome:?}");
    }
}

#[test]
fn failed_tests_are_told_as_promtool_tells_them() {
    let Some(dir) = module(MODULE) else { return };
    let path = dir.join("cmd/promtool/testdata/rules_run_no_fuzzy.yml");
    let problems = unit::test(&path, &Settings::default(), &mut Vec::new()).expect_err("it fails");
    let expected = "    expr: \"test_total\", time: 10m,\n        exp: {__name__=\"test_total\"} 1.2E+01";
    assert!(problems.iter().all(|problem| problem.contains("    expr: ")), "{problems:?} {expected}");
}

#[test]
fn rules_that_people_use_parse() {
    let Some(suites) = std::env::var_os("MADANG_SUITES") else { return };
    let mut rules = 0;
    for entry in fs::read_dir(Path::new(&suites).join("rules")).expect("suites") {
        let path = entry.expect("entry").path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("read");
        // An object of the kind PrometheusRule: the groups stand below `spec`.
        let groups = text.split_once("\nspec:\n").map(|(_, spec)| spec).expect("spec");
        let file = file::parse(groups, &Reading::default());
        let file = file.unwrap_or_else(|problems| panic!("{}: {problems:?}", path.display()));
        rules += file.groups.iter().map(|group| group.rules.len()).sum::<usize>();
    }
    assert!(rules > 150, "{rules} rules");
}
