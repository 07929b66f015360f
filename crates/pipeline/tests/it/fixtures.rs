//! Upstream's declarative pipelines: valid ones have the stages that their other form says, invalid ones are refused where they are
//! wrong. `MADANG_SUITES` names the folder that holds them (`jenkins`, from jenkinsci/pipeline-model-definition-plugin).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use groovy::interpret::Program;
use pipeline::{
    model::{Stage, Work},
    read,
};
use serde_json::Value as Json;

/// Fixtures that do not come out as upstream has them, with the reason. It can only shrink.
const BEHIND: &str = include_str!("behind.txt");
/// Invalid fixtures with the line of each error.
const REFUSED: &str = include_str!("refused.txt");

fn suite() -> Option<PathBuf> {
    let Some(suites) = std::env::var_os("MADANG_SUITES") else {
        eprintln!("not run: MADANG_SUITES names no folder of suites");
        return None;
    };
    Some(Path::new(&suites).join("jenkins"))
}

/// Fixtures by path without ending.
fn scripts(folder: &Path) -> BTreeMap<String, String> {
    fn collect(root: &Path, folder: &Path, out: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(root, &path, out);
            } else if path.extension().is_some_and(|extension| extension == "groovy") {
                let name = path.strip_prefix(root).unwrap().with_extension("").to_string_lossy().into_owned();
                out.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut out = BTreeMap::new();
    collect(folder, folder, &mut out);
    out
}

fn listed(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| line.split_once(char::is_whitespace).unwrap_or((line, "")))
        .map(|(a, b)| (a.into(), b.trim().into()))
        .collect()
}

/// Reads a script: its stages, or its errors' lines with the messages.
fn outcome(text: &str) -> Result<Option<Vec<Json>>, Vec<(usize, String)>> {
    let text = text.to_string();
    let work = move || match Program::read("Jenkinsfile", &text) {
        Err(error) => Err(vec![(error.position.line, error.message)]),
        Ok(program) => match read::read(&program) {
            Ok(model) => Ok(model.map(|model| model.stages.iter().map(tree).collect())),
            Err(errors) => Err(errors.into_iter().map(|error| (error.position.line, error.message)).collect()),
        },
    };
    std::thread::Builder::new().stack_size(64 << 20).spawn(work).unwrap().join().unwrap()
}

/// A stage's name with those of the stages in it.
fn tree(stage: &Stage) -> Json {
    let inner = match &stage.work {
        Work::Steps(_) => return Json::from(stage.name.clone()),
        Work::Stages(stages) | Work::Parallel(stages) => stages,
        Work::Matrix(matrix) => match &matrix.cell.work {
            Work::Stages(stages) => stages,
            _ => return Json::from(stage.name.clone()),
        },
    };
    serde_json::json!({ stage.name.clone(): inner.iter().map(tree).collect::<Vec<_>>() })
}

/// The same of upstream's JSON form.
fn form(stage: &Json) -> Json {
    let name = stage["name"].as_str().unwrap_or_default().to_string();
    let inner = stage["parallel"]
        .as_array()
        .or_else(|| stage["stages"].as_array())
        .or_else(|| stage["matrix"]["stages"].as_array());
    match inner {
        Some(inner) => serde_json::json!({ name: inner.iter().map(form).collect::<Vec<_>>() }),
        None => Json::from(name),
    }
}

/// Names in the order in which they are written.
fn names(stages: &[Json], out: &mut Vec<String>) {
    for stage in stages {
        match stage {
            Json::String(name) => out.push(name.clone()),
            Json::Object(fields) => {
                for (name, inner) in fields {
                    out.push(name.clone());
                    names(inner.as_array().map(Vec::as_slice).unwrap_or_default(), out);
                }
            }
            _ => {}
        }
    }
}

/// Stage names as the text has them, comments and messages apart.
fn written(text: &str) -> Vec<String> {
    let text: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//") && !line.trim_start().starts_with("echo "))
        .collect::<Vec<_>>()
        .join("\n");
    let mut names = Vec::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find("stage") {
        let before = rest[..at].chars().next_back().is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != '.');
        rest = &rest[at + 5..];
        let open = rest.trim_start().strip_prefix('(').unwrap_or(rest).trim_start();
        let Some(quote) = open.chars().next().filter(|c| *c == '"' || *c == '\'').filter(|_| before) else { continue };
        let Some(end) = open[1..].find(quote) else { continue };
        // A word of a message is no stage.
        if !open[1..=end].contains('\n') {
            names.push(open[1..=end].to_string());
        }
    }
    names
}

#[test]
fn valid_pipelines_have_the_right_stages() {
    let Some(folder) = suite() else { return };
    let behind = listed(BEHIND);
    let (mut right, mut wrong) = (0, BTreeMap::new());
    let mut forms = 0;
    for (name, text) in scripts(&folder) {
        if name.starts_with("errors/") || name.starts_with("org/") {
            continue;
        }
        let expected = fs::read_to_string(folder.join("json").join(format!("{name}.json"))).ok();
        let result = match outcome(&text) {
            Err(errors) => Err(format!("line {}: {}", errors[0].0, errors[0].1)),
            Ok(None) if text.contains("pipeline {") && expected.is_some() => Err("no pipeline found".to_string()),
            Ok(None) => Ok(()),
            Ok(Some(stages)) => match &expected {
                Some(json) => {
                    forms += 1;
                    let json: Json = serde_json::from_str(json).unwrap();
                    let expected: Vec<Json> = json["pipeline"]["stages"].as_array().unwrap().iter().map(form).collect();
                    if expected == stages { Ok(()) } else { Err(format!("stages {stages:?}, expected {expected:?}")) }
                }
                None => {
                    let mut found = Vec::new();
                    names(&stages, &mut found);
                    let expected = written(&text);
                    if found == expected { Ok(()) } else { Err(format!("stages {found:?}, written {expected:?}")) }
                }
            },
        };
        match result {
            Ok(()) => right += 1,
            Err(reason) => drop(wrong.insert(name, reason)),
        }
    }
    eprintln!("{right} right, {} not, {forms} compared with upstream's JSON form", wrong.len());
    let known: BTreeSet<&String> = behind.keys().filter(|name| !name.starts_with("errors/")).collect();
    let now: BTreeSet<&String> = wrong.keys().collect();
    for (name, reason) in wrong.iter().filter(|(name, _)| !known.contains(name)) {
        eprintln!("{name}: {reason}");
    }
    assert!(forms > 20 && right >= 260, "{right} right, {forms} with a form");
    assert_eq!(now, known, "the fixtures that are not right (left) and the list of them (right) differ");
}

#[test]
fn invalid_pipelines_are_refused_where_they_are_wrong() {
    let Some(folder) = suite() else { return };
    let (behind, refused) = (listed(BEHIND), listed(REFUSED));
    let mut wrong = Vec::new();
    let mut count = 0;
    for (name, text) in scripts(&folder.join("errors")) {
        count += 1;
        let lines = match outcome(&text) {
            Ok(_) => String::new(),
            Err(errors) => {
                let lines: BTreeSet<usize> = errors.iter().map(|(line, _)| *line).collect();
                if std::env::var_os("MADANG_SHOW").is_some() {
                    for (line, message) in &errors {
                        eprintln!(
                            "{name}:{line}: {message}: {}",
                            text.lines().nth(line - 1).unwrap_or_default().trim()
                        );
                    }
                }
                lines.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
            }
        };
        let expected = refused.get(&name).cloned().unwrap_or_default();
        let accepted = behind.contains_key(&format!("errors/{name}"));
        if lines.is_empty() != accepted || !accepted && lines != expected {
            wrong.push(format!("{name} {lines} (expected {expected})"));
        }
    }
    assert_eq!(count, 132);
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
