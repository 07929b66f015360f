//! Reports as runners write them.

use serde_json::json;

use super::*;

const SUREFIRE: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuite name="com.example.CartTest" time="1,000.5" tests="4" errors="1" skipped="1" failures="1" timestamp="2026-01-02T03:04:05">
  <properties><property name="a" value="b"/></properties>
  <testcase name="adds" classname="com.example.CartTest" time="0.25"/>
  <testcase name="removes" classname="com.example.CartTest" time="0.5">
    <failure message="expected: &lt;1&gt; but was: &lt;2&gt;" type="AssertionFailedError"><![CDATA[at CartTest.java:12]]></failure>
    <system-out>out</system-out><system-err>err</system-err>
  </testcase>
  <testcase name="breaks" classname="com.example.CartTest"><error type="java.lang.NullPointerException">at 3</error></testcase>
  <testcase name="waits" classname="com.example.CartTest" time="-1"><skipped message="later"/></testcase>
</testsuite>"#;

fn one(document: &str) -> Suite {
    let mut suites = read("target/TEST-x.xml", document.as_bytes(), Keep::None).unwrap();
    assert_eq!(suites.len(), 1, "{suites:?}");
    suites.remove(0)
}

#[test]
fn cases_pass_fail_and_are_left_out() {
    let suite = one(SUREFIRE);
    assert_eq!((suite.name.as_str(), suite.seconds), ("com.example.CartTest", 1000.5));
    assert_eq!(suite.cases[0].outcome, Outcome::Passed);
    assert_eq!(
        suite.cases[1].outcome,
        Outcome::Failed {
            message: Some("expected: <1> but was: <2>".into()),
            trace: Some("at CartTest.java:12".into()),
            since: 0
        }
    );
    assert_eq!((suite.cases[1].output.as_deref(), suite.cases[1].errors.as_deref()), (Some("out"), Some("err")));
    assert_eq!(suite.cases[2].outcome, Outcome::Failed { message: None, trace: Some("at 3".into()), since: 0 });
    assert_eq!(suite.cases[3].outcome, Outcome::Skipped { message: Some("later".into()) });
    assert_eq!(suite.cases[3].seconds, 0.0);
    let totals = Report { suites: vec![suite] }.totals();
    assert_eq!(totals, Totals { total: 4, failed: 2, skipped: 1, passed: 1 });
}

#[test]
fn suites_stand_within_suites() {
    let text = r#"<testsuites><testsuite name="outer" package="p"><testsuite name="inner"><testcase name="a"/></testsuite>
        <testcase name="b" classname="c"/></testsuite><testsuite name="none"/></testsuites>"#;
    let suites = read("a.xml", text.as_bytes(), Keep::None).unwrap();
    let told: Vec<(&str, &str, &str)> = suites
        .iter()
        .flat_map(|suite| suite.cases.iter().map(|case| (suite.name.as_str(), case.class.as_str(), case.name.as_str())))
        .collect();
    assert_eq!(told, [("inner", "inner", "a"), ("p.outer", "c", "b")]);
}

#[test]
fn names_are_found_where_runners_put_them() {
    let suite = one("<testsuite><testcase name='a.b.c'/><testcase name='d'/></testsuite>");
    let names: Vec<(&str, &str)> = suite.cases.iter().map(|case| (case.class.as_str(), case.name.as_str())).collect();
    assert_eq!(names, [("a.b", "c"), ("(TEST-x.xml)", "d")]);
    let suite = one("<testsuite name='s'><error message='cannot load'/></testsuite>");
    assert_eq!((suite.cases[0].name.as_str(), suite.cases[0].outcome.failed()), ("<init>", true));
}

#[test]
fn an_empty_file_is_a_failure_and_another_is_refused() {
    let suites = read("a/b.xml", b"", Keep::None).unwrap();
    assert_eq!((suites[0].name.as_str(), suites[0].cases[0].name.as_str()), ("b.xml", "[empty]"));
    assert!(suites[0].cases[0].outcome.failed());
    let error = read("a/b.xml", b"{}", Keep::None).unwrap_err();
    assert!(error.starts_with("read a/b.xml: line 1: "), "{error}");
    // XML of another kind has no cases.
    assert_eq!(read("pom.xml", b"<project/>", Keep::None).unwrap(), []);
}

#[test]
fn long_output_is_trimmed_unless_it_is_kept() {
    let text = format!(
        "<testsuite name='s'><testcase name='a'><system-out>{}</system-out></testcase></testsuite>",
        "é".repeat(2000)
    );
    let kept = |keep| read("a", text.as_bytes(), keep).unwrap()[0].cases[0].output.clone().unwrap();
    assert!(kept(Keep::None).contains("é\n...[truncated 1000 chars]...\né"));
    assert_eq!(kept(Keep::None).matches('é').count(), 1000);
    assert_eq!(kept(Keep::All).matches('é').count(), 2000);
    assert_eq!(kept(Keep::Failed).matches('é').count(), 1000);
    assert_eq!(Keep::of(Some("failed"), true), Ok(Keep::Failed));
    assert_eq!(Keep::of(None, true), Ok(Keep::All));
    assert!(Keep::of(Some("some"), false).is_err());
}

#[test]
fn the_run_before_says_since_when_a_case_fails() {
    let first = |outcome: &str| {
        let text = format!("<testsuite name='s'><testcase name='a'>{outcome}</testcase></testsuite>");
        Report { suites: read("a", text.as_bytes(), Keep::None).unwrap() }
    };
    let status = |report: &Report, run| report.suites[0].cases[0].outcome.name(run);
    let mut three = first("<failure/>");
    three.compare(3, Some(&first("")));
    assert_eq!(status(&three, 3), "REGRESSION");
    let mut four = first("<failure/>");
    four.compare(4, Some(&three));
    assert_eq!(status(&four, 4), "FAILED");
    assert!(matches!(four.suites[0].cases[0].outcome, Outcome::Failed { since: 3, .. }));
    let mut five = first("");
    five.compare(5, Some(&four));
    assert_eq!(status(&five, 5), "FIXED");
    let mut six = first("");
    six.compare(6, Some(&five));
    assert_eq!(status(&six, 6), "PASSED");
}

#[test]
fn the_step_is_unstable_fails_or_goes_on() {
    let asked = |arguments| Asked::of(&arguments).unwrap();
    let plain = asked(json!({ "testResults": "**/TEST-*.xml, other/" }));
    assert!(plain.wants("a/TEST-b.xml") && plain.wants("other/x") && !plain.wants("a/b.xml"));
    let suites = vec![one(SUREFIRE)];
    assert!(plain.judge(1, &suites, false).unwrap().unstable);
    let stable = asked(json!({ "testResults": "*", "skipMarkingBuildUnstable": true }));
    assert!(!stable.judge(1, &suites, false).unwrap().unstable);
    assert_eq!(plain.judge(0, &[], false).unwrap_err(), "No test report files were found. Configuration error?");
    assert_eq!(plain.judge(2, &[], false).unwrap_err(), "None of the test reports contained any result");
    assert!(plain.judge(0, &[], true).is_ok());
    let empty = asked(json!({ "testResults": "*", "allowEmptyResults": "true" }));
    assert_eq!(empty.judge(0, &[], false).unwrap().log.len(), 2);
    assert!(Asked::of(&json!({ "stdioRetention": "x" })).is_err());
}
