//! Test reports in JUnit's XML, read as upstream's step `junit` reads them: <https://plugins.jenkins.io/junit/>.
//!
//! There is no one schema of these files. What counts is: suites within suites, cases in them; a case with `failure` or `error` failed, one
//! with `skipped` was left out, all others passed.

use serde::{Deserialize, Serialize};

use crate::{
    ant,
    xml::{self, Element},
};

/// Bytes of one file.
pub const MOST_BYTES: u64 = 64 << 20;
/// Files of one run.
pub const MOST_FILES: usize = 10_000;
/// Cases of one run.
pub const MOST_CASES: usize = 200_000;
/// Elements of one file.
const MOST_ELEMENTS: usize = 2_000_000;
/// Letters of output that are kept at either end: of cases that passed, and of failed ones.
const OUTPUT: (usize, usize) = (500, 50_000);
/// Letters of a message or a trace that are kept at either end.
const TRACE: usize = 100_000;
/// Seconds of a year: nothing lasts longer.
const LONGEST: f64 = 365.0 * 86_400.0;

/// All tests of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// In the order in which they were read.
    pub suites: Vec<Suite>,
}

/// A suite.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Suite {
    /// Its name, with its package.
    pub name: String,
    /// The file that it was in.
    pub file: String,
    /// Its id, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// When it ran, as it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<String>,
    /// Seconds it took.
    pub seconds: f64,
    /// What it wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// What it wrote as errors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors: Option<String>,
    /// The stage that it ran in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// Its cases.
    pub cases: Vec<Case>,
}

/// A case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// The class, or what stands for one.
    pub class: String,
    /// Its name.
    pub name: String,
    /// Seconds it took.
    pub seconds: f64,
    /// How it went.
    pub outcome: Outcome,
    /// What it wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// What it wrote as errors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors: Option<String>,
}

/// How a case went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// Well, now and the run before.
    Passed,
    /// Well, and the run before it failed.
    Fixed,
    /// It failed.
    Failed {
        /// What is said of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
        /// Where.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        trace: Option<String>,
        /// The number of the run since which it fails.
        since: u64,
    },
    /// It was left out.
    Skipped {
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
}

/// Counts of cases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// All.
    pub total: usize,
    /// Those that failed.
    pub failed: usize,
    /// Those that were left out.
    pub skipped: usize,
    /// Those that passed.
    pub passed: usize,
}

/// Whose output is kept whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// Nobody's.
    #[default]
    None,
    /// That of failed cases.
    Failed,
    /// Everybody's.
    All,
}

impl Keep {
    /// What the arguments `stdioRetention` and `keepLongStdio` say.
    ///
    /// # Errors
    /// The name is not known.
    pub fn of(retention: Option<&str>, long: bool) -> Result<Self, String> {
        match retention.unwrap_or_default().to_ascii_uppercase().as_str() {
            "" if long => Ok(Self::All),
            "" | "NONE" => Ok(Self::None),
            "FAILED" => Ok(Self::Failed),
            "ALL" => Ok(Self::All),
            other => Err(format!("stdioRetention {other:?} is none of ALL, FAILED, NONE")),
        }
    }
}

impl Outcome {
    /// Whether it counts as failed.
    pub fn failed(&self) -> bool {
        matches!(self, Self::Failed { .. })
    }

    /// Its name in Jenkins' API, in the report of the run of a number.
    pub fn name(&self, run: u64) -> &'static str {
        match self {
            Self::Passed => "PASSED",
            Self::Fixed => "FIXED",
            Self::Failed { since, .. } if *since == run => "REGRESSION",
            Self::Failed { .. } => "FAILED",
            Self::Skipped { .. } => "SKIPPED",
        }
    }
}

impl Report {
    /// How many cases went how.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for case in self.suites.iter().flat_map(|suite| &suite.cases) {
            totals.total += 1;
            match case.outcome {
                Outcome::Passed | Outcome::Fixed => totals.passed += 1,
                Outcome::Failed { .. } => totals.failed += 1,
                Outcome::Skipped { .. } => totals.skipped += 1,
            }
        }
        totals
    }

    /// Seconds of all suites.
    pub fn seconds(&self) -> f64 {
        self.suites.iter().map(|suite| suite.seconds).sum()
    }

    /// Says since when cases fail, and which are well again, from the report of the run before.
    pub fn compare(&mut self, run: u64, before: Option<&Report>) {
        let old = before.into_iter().flat_map(|report| &report.suites).flat_map(|suite| &suite.cases);
        let failed: std::collections::HashMap<(&str, &str), u64> = old
            .filter_map(|case| match &case.outcome {
                Outcome::Failed { since, .. } => Some(((case.class.as_str(), case.name.as_str()), *since)),
                _ => None,
            })
            .collect();
        for case in self.suites.iter_mut().flat_map(|suite| &mut suite.cases) {
            let known = failed.get(&(case.class.as_str(), case.name.as_str()));
            match &mut case.outcome {
                Outcome::Failed { since, .. } => *since = known.copied().unwrap_or(run),
                Outcome::Passed if known.is_some() => case.outcome = Outcome::Fixed,
                _ => {}
            }
        }
    }
}

/// Suites of one file.
///
/// # Errors
/// It is no such report.
pub fn read(file: &str, bytes: &[u8], keep: Keep) -> Result<Vec<Suite>, String> {
    if bytes.is_empty() {
        // A runner that died leaves an empty file: that is no success.
        let failed = Outcome::Failed {
            message: Some(String::new()),
            trace: Some(format!("Test report file {file} was length 0")),
            since: 0,
        };
        let name = file.rsplit('/').next().unwrap_or(file).to_string();
        let case = Case {
            class: name.clone(),
            name: "[empty]".into(),
            seconds: 0.0,
            outcome: failed,
            output: None,
            errors: None,
        };
        return Ok(vec![Suite { name, file: file.to_string(), cases: vec![case], ..Suite::default() }]);
    }
    let root = xml::read(bytes, MOST_ELEMENTS).map_err(|error: xml::Error| {
        format!("read {file}: {error}. Is it a JUnit report? The pattern may fit too many files")
    })?;
    let mut suites = Vec::new();
    suites_of(file, &root, keep, &mut suites);
    Ok(suites)
}

/// Inner suites go before the cases around them.
fn suites_of(file: &str, element: &Element, keep: Keep, suites: &mut Vec<Suite>) {
    for inner in element.all("testsuite") {
        suites_of(file, inner, keep, suites);
    }
    if element.child("testcase").is_some() || element.child("error").is_some() {
        suites.push(suite(file, element, keep));
    }
}

fn suite(file: &str, element: &Element, keep: Keep) -> Suite {
    let own = element.attribute("name");
    let name = own.map_or_else(|| format!("({})", file.rsplit('/').next().unwrap_or(file)), str::to_string);
    let name = match element.attribute("package").filter(|package| !package.is_empty()) {
        Some(package) => format!("{package}.{name}"),
        None => name,
    };
    let mut cases = Vec::new();
    if element.child("error").is_some() {
        // The class itself could not be loaded.
        cases.push(case(element, &name, "<init>", keep));
    }
    for inner in element.all("testcase") {
        let title = inner.attribute("name").unwrap_or_default();
        match (inner.attribute("classname").or(own), title.rsplit_once('.')) {
            (Some(class), _) => cases.push(case(inner, class, title, keep)),
            (None, Some((class, title))) => cases.push(case(inner, class, title, keep)),
            (None, None) => cases.push(case(inner, &name, title, keep)),
        }
    }
    let failed = cases.iter().any(|case| case.outcome.failed());
    let written = |name: &str| output(element.text_of(name), keep, failed);
    let sum = cases.iter().map(|case| case.seconds).sum();
    Suite {
        file: file.to_string(),
        id: element.attribute("id").map(str::to_string),
        timestamp: element.attribute("timestamp").map(str::to_string),
        seconds: element.attribute("time").map_or(sum, seconds),
        output: written("system-out"),
        errors: written("system-err"),
        stage: None,
        name,
        cases,
    }
}

fn case(element: &Element, class: &str, name: &str, keep: Keep) -> Case {
    let wrong = element.child("error").or_else(|| element.child("failure"));
    let outcome = match (element.child("skipped"), wrong) {
        (Some(skipped), _) => {
            let text = skipped.attribute("message").unwrap_or(&skipped.text).trim();
            Outcome::Skipped { message: Some(trimmed(text, TRACE)).filter(|text| !text.is_empty()) }
        }
        (None, Some(wrong)) => Outcome::Failed {
            message: wrong.attribute("message").map(|message| trimmed(message, TRACE)),
            trace: Some(trimmed(&wrong.text, TRACE)),
            since: 0,
        },
        (None, None) => Outcome::Passed,
    };
    let written = |name: &str| output(element.text_of(name), keep, outcome.failed());
    Case {
        class: class.to_string(),
        name: name.to_string(),
        seconds: element.attribute("time").map_or(0.0, seconds),
        output: written("system-out"),
        errors: written("system-err"),
        outcome,
    }
}

/// Seconds as people write them: `1,234.5`.
fn seconds(text: &str) -> f64 {
    let seconds: f64 = text.replace(',', "").trim().parse().unwrap_or(0.0);
    if seconds.is_nan() { 0.0 } else { seconds.clamp(0.0, LONGEST) }
}

/// What of an output is kept.
fn output(text: Option<&str>, keep: Keep, failed: bool) -> Option<String> {
    let text = text?;
    let whole = keep == Keep::All || keep == Keep::Failed && failed;
    Some(match (whole, failed) {
        (true, _) => text.to_string(),
        (false, true) => trimmed(text, OUTPUT.1),
        (false, false) => trimmed(text, OUTPUT.0),
    })
}

/// Both ends of a text.
fn trimmed(text: &str, half: usize) -> String {
    // Most texts are far shorter in bytes already.
    if text.len() <= 2 * half {
        return text.to_string();
    }
    let letters = text.chars().count();
    let Some(middle) = letters.checked_sub(2 * half).filter(|middle| *middle > 0) else { return text.to_string() };
    let at = |letter: usize| text.char_indices().nth(letter).map_or(text.len(), |(at, _)| at);
    let (head, tail) = (&text[..at(half)], &text[at(letters - half)..]);
    format!("{head}\n...[truncated {middle} chars]...\n{tail}")
}

/// What the step is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Patterns of files.
    pub patterns: String,
    /// No tests are no failure.
    pub allow_empty: bool,
    /// Failed tests do not make the run unstable.
    pub stay_stable: bool,
    /// Files from before the run are left out.
    pub only_new: bool,
    /// Whose output is kept.
    pub keep: Keep,
}

/// What comes of the step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Counts of what this step has read.
    pub totals: Totals,
    /// Whether the run becomes unstable.
    pub unstable: bool,
    /// Lines of its log.
    pub log: Vec<String>,
}

impl Asked {
    /// From a step's arguments.
    ///
    /// # Errors
    /// An argument says what is not known.
    pub fn of(arguments: &serde_json::Value) -> Result<Self, String> {
        let truth = |name: &str| arguments[name].as_bool() == Some(true) || arguments[name] == "true";
        Ok(Self {
            patterns: arguments["testResults"].as_str().unwrap_or_default().to_string(),
            allow_empty: truth("allowEmptyResults"),
            stay_stable: truth("skipMarkingBuildUnstable"),
            only_new: truth("skipOldReports"),
            keep: Keep::of(arguments["stdioRetention"].as_str(), truth("keepLongStdio"))?,
        })
    }

    /// Whether a file of a workspace is a report that is asked for.
    pub fn wants(&self, path: &str) -> bool {
        ant::fits_any(&self.patterns, path)
    }

    /// What comes of reports; `files` is how many there were, `failed` whether the run has failed before.
    ///
    /// # Errors
    /// The step fails: there is nothing, and that is not allowed.
    pub fn judge(&self, files: usize, suites: &[Suite], failed: bool) -> Result<Told, String> {
        let totals = Report { suites: suites.to_vec() }.totals();
        let mut log = vec!["Recording test results".to_string()];
        let empty = match (files, totals.total) {
            (0, _) => Some("No test report files were found. Configuration error?"),
            (_, 0) => Some("None of the test reports contained any result"),
            _ => None,
        };
        if let Some(empty) = empty {
            // A run that failed before its tests is not blamed for having none.
            if !self.allow_empty && !failed {
                return Err(empty.into());
            }
            log.push(empty.into());
        }
        Ok(Told { totals, unstable: totals.failed > 0 && !self.stay_stable, log })
    }
}

#[cfg(test)]
mod tests;
