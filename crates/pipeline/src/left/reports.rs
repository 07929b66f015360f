//! The test reports of a run: what each step `junit` has read, a file each.

use std::{
    fs::{self, File},
    io::{self, BufReader, Write},
    path::Path,
};

use ring::digest::{SHA256, digest};

use super::{
    junit::{MOST_CASES, Report, Suite},
    parcel::hex,
};

/// Keeps what a step has read; the same step's again replaces it.
///
/// # Errors
/// The disk says no, or there are more cases than are kept.
pub fn add(dir: &Path, step: &str, suites: Vec<Suite>) -> io::Result<()> {
    let count: usize = suites.iter().map(|suite| suite.cases.len()).sum();
    if count > MOST_CASES {
        return Err(io::Error::other(format!("{count} cases are more than the {MOST_CASES} that are kept of a run")));
    }
    fs::create_dir_all(dir)?;
    let path = dir.join(format!("{}.json", hex(&digest(&SHA256, step.as_bytes()).as_ref()[..16])));
    let beside = path.with_extension("partial");
    let mut file = File::create(&beside)?;
    file.write_all(&serde_json::to_vec(&Report { suites })?)?;
    file.sync_data()?;
    fs::rename(&beside, &path)?;
    File::open(dir)?.sync_all()
}

/// All reports of a run, as far as they are kept; none where no step has read any.
///
/// # Errors
/// They cannot be read.
pub fn read(dir: &Path) -> io::Result<Option<Report>> {
    let mut files = Vec::new();
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            files.push((entry.metadata()?.modified()?, path));
        }
    }
    if files.is_empty() {
        return Ok(None);
    }
    files.sort();
    let (mut all, mut count) = (Report::default(), 0);
    for (_, path) in files {
        let report: Report = serde_json::from_reader(BufReader::new(File::open(path)?))?;
        count += report.suites.iter().map(|suite| suite.cases.len()).sum::<usize>();
        if count > MOST_CASES {
            break;
        }
        all.suites.extend(report.suites);
    }
    Ok(Some(all))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::left::junit::{self, Keep};

    #[test]
    fn steps_add_to_one_report() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("reports");
        assert!(read(&dir).unwrap().is_none());
        let suites = |name: &str| {
            let text =
                format!("<testsuite name='{name}'><testcase name='a'><failure message='m'/></testcase></testsuite>");
            junit::read("x.xml", text.as_bytes(), Keep::None).unwrap()
        };
        add(&dir, "3", suites("one")).unwrap();
        add(&dir, "b/../../7", suites("two")).unwrap();
        // A step that is done again after a kill counts once.
        add(&dir, "3", suites("one")).unwrap();
        let report = read(&dir).unwrap().unwrap();
        let mut names: Vec<&str> = report.suites.iter().map(|suite| suite.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!((names, report.totals().failed), (vec!["one", "two"], 2));
    }
}
