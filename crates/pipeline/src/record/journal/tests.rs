//! Journals that are read again.

use std::fs;

use serde_json::json;

use super::*;

#[test]
fn what_was_answered_is_known_again_and_a_torn_line_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let (mut journal, known) = Journal::open(&path).unwrap();
    assert!(known.is_empty());
    journal.asked("0", "build", &json!({"run": "a"})).unwrap();
    journal.asked("1", "httpRequest", &json!(null)).unwrap();
    journal.answered("1", "httpRequest", &Answer::Done(json!({"status": 200}))).unwrap();
    drop(journal);
    let mut text = fs::read(&path).unwrap();
    text.extend_from_slice(b"{\"key\":\"2\",\"na");
    fs::write(&path, text).unwrap();
    let (mut journal, known) = Journal::open(&path).unwrap();
    assert_eq!(known.len(), 2);
    assert_eq!(known["0"].1, Known::Asked(json!({"run": "a"})));
    assert_eq!(known["1"], ("httpRequest".into(), Known::Answered(Answer::Done(json!({"status": 200})))));
    journal.answered("2", "sh", &Answer::Done(json!(null))).unwrap();
    assert_eq!(Journal::open(&path).unwrap().1.len(), 3);
}

#[test]
fn a_damaged_line_is_an_error_and_not_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    fs::write(&path, b"{\"key\":\n{\"key\":\"1\",\"name\":\"sh\"}\n").unwrap();
    assert!(Journal::open(&path).unwrap_err().to_string().contains("at byte 0"));
}
