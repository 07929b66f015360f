//! Dockerfiles of `tests/dockerfiles`, built here and by Debian's buildah, and compared.
//!
//! ```text
//! case ─┬─ Builder ───────► archive ─► files, configuration, history ─┬─ expectations of the case
//!       └─ buildah build ─► archive ─► the same ─────────────────────┴─ no differences but those that the case explains
//! ```

mod case;
mod made;
mod tools;

use std::{collections::BTreeSet, time::Duration};

use case::Case;
use made::Made;
use tools::{Buildah, Ours, Outcome, Web};

use crate::place::as_root_within;

/// How long everything may take, buildah and a busy machine included.
const LONGEST: Duration = Duration::from_secs(3600);

/// What is not compared, since it is this buildah's way with `--isolation chroot`: files that it makes for the time of a step and
/// leaves behind, empty.
const LEFT_BEHIND: [&str; 9] = [
    "/dev",
    "/proc",
    "/sys",
    "/run",
    "/etc/hosts",
    "/etc/hostname",
    "/etc/resolv.conf",
    "/run/secrets",
    "/run/.containerenv",
];

/// Those whose names contain `$MADANG_CASE`.
fn chosen() -> Vec<Case> {
    let only = std::env::var("MADANG_CASE").unwrap_or_default();
    case::all().into_iter().filter(|case| case.name.contains(&only)).collect()
}

#[test]
fn dockerfiles_make_what_the_reference_says() {
    as_root_within(LONGEST, async {
        let (cases, web, ours) = (chosen(), Web::start(), Ours::new().await);
        let mut failed = Vec::new();
        for case in &cases {
            if let Err(error) = ours.check(case, &web).await {
                failed.push(format!("{}: {error}", case.name));
            }
        }
        assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), cases.len(), failed.join("\n"));
    });
}

#[test]
#[ignore = "builds every Dockerfile with buildah too"]
fn dockerfiles_make_what_buildah_makes_of_them() {
    if !std::path::Path::new("/usr/bin/buildah").exists() {
        assert!(std::env::var_os("CI").is_none(), "no buildah");
        return;
    }
    as_root_within(LONGEST, async {
        let (cases, web, ours) = (chosen(), Web::start(), Ours::new().await);
        let buildah = Buildah::new();
        let mut failed = Vec::new();
        for case in &cases {
            let wrong = match ours.check(case, &web).await {
                Err(error) => vec![error],
                Ok(made) if case.lacks.is_none() => compare(case, &made, &buildah.build(case, &web)),
                Ok(_) => Vec::new(),
            };
            failed.extend(wrong.into_iter().map(|error| format!("{}: {error}", case.name)));
        }
        assert!(failed.is_empty(), "{} failures in {} cases:\n{}", failed.len(), cases.len(), failed.join("\n"));
    });
}

#[test]
fn there_are_cases_enough_and_each_has_a_name_and_a_place_in_the_reference() {
    let cases = case::all();
    assert!(cases.len() >= 150, "{}", cases.len());
    let names: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), cases.len(), "a name is used twice");
    for case in &cases {
        assert!(!case.reference.is_empty(), "{}", case.name);
        // What buildah lacks is held against the reference, or nothing would be.
        assert!(case.lacks.is_none() || case.fails.is_some() || !case.expect.is_empty(), "{}", case.name);
    }
}

/// What differs and is not explained, and what is explained and does not differ.
fn compare(case: &Case, madang: &Outcome, buildah: &Outcome) -> Vec<String> {
    let mut found = Vec::new();
    match (madang, buildah) {
        (Outcome::Made(madang), Outcome::Made(buildah)) => found = differences(madang, buildah),
        (Outcome::Failed(_), Outcome::Failed(_)) => {}
        (Outcome::Made(_), Outcome::Failed(text)) => {
            found.push(("outcome".to_owned(), format!("buildah failed: {text}")))
        }
        (Outcome::Failed(_), Outcome::Made(_)) => found.push(("outcome".to_owned(), "buildah built it".to_owned())),
    }
    let explained: BTreeSet<&str> = case.differs.iter().map(|(aspect, _)| aspect.as_str()).collect();
    let seen: BTreeSet<&str> = found.iter().map(|(aspect, _)| aspect.as_str()).collect();
    let mut wrong: Vec<String> = explained
        .difference(&seen)
        .map(|aspect| format!("does not differ in {aspect} from buildah any more, though the case says so"))
        .collect();
    wrong.extend(
        found
            .iter()
            .filter(|(aspect, _)| !explained.contains(aspect.as_str()))
            .map(|(aspect, text)| format!("differs from buildah in {aspect}: {text}")),
    );
    wrong
}

fn differences(madang: &Made, buildah: &Made) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let paths: BTreeSet<&String> = madang.files.keys().chain(buildah.files.keys()).collect();
    for path in paths.into_iter().filter(|path| !LEFT_BEHIND.contains(&path.as_str())) {
        let (ours, theirs) = (madang.files.get(path), buildah.files.get(path));
        if ours != theirs {
            found.push(("files".to_owned(), format!("{path}: {ours:?}, not {theirs:?}")));
        }
    }
    for field in made::FIELDS {
        let (ours, theirs) = (madang.field(field), buildah.field(field));
        if ours != theirs {
            found.push((format!("config.{field}"), format!("{ours}, not {theirs}")));
        }
    }
    if madang.author() != buildah.author() {
        found.push(("author".to_owned(), format!("{:?}, not {:?}", madang.author(), buildah.author())));
    }
    let (ours, theirs) = (madang.history(), buildah.history());
    if ours != theirs {
        found.push(("history".to_owned(), format!("{ours:?}, not {theirs:?}")));
    }
    found
}
