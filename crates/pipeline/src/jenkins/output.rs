//! What a build leaves, as clients of Jenkins fetch it: log, stages, tests, artifacts.

use access::gate::Refusal;
use bytes::Bytes;
use client::{cache::Key, own::Kind};
use futures::StreamExt;
use http::{HeaderValue, Method, StatusCode, header, request::Parts};
use kube::ResourceExt;
use serde_json::{Value as Json, json};
use serve::body;

use super::{
    Answer, Caller, Inner, No, build, form, plain, right,
    shape::{Fields, Shape},
};
use crate::{
    kind::{Phase, PipelineRun, Runs, Stage, StagePhase},
    left::{
        artifacts,
        junit::{Case, Outcome, Report, Suite},
        reports, serve as over_http,
    },
    record::{Record, log},
};

/// Bytes of a log that are read at once.
const CHUNK: usize = 256 * 1024;
/// Bytes of a log in one answer to who follows it.
const MOST_AT_ONCE: usize = 4 << 20;

impl Inner {
    #[expect(clippy::too_many_arguments, reason = "what a request is about")]
    pub(super) async fn of_build(
        &self,
        caller: &Caller,
        key: &Key,
        run: &PipelineRun,
        rest: &[&str],
        query: &[(String, String)],
        shape: Shape<'_>,
        parts: &Parts,
    ) -> Answer {
        match rest {
            [] => return Ok(super::page("this build")),
            ["api", "json"] => return Ok(super::json(&self.build_with(caller, key, run, shape))),
            ["wfapi"] | ["wfapi", "describe"] => return Ok(super::json(&stages(run))),
            _ => {}
        }
        // What a run wrote may hold more than its object tells: there is a right of its own for that.
        let may = right(Runs::PLURAL, Some("log"), "get", Some(&key.namespace), Some(&run.name_any()));
        match self.gate.may_do(&caller.user, may).await {
            Err(Refusal::Forbidden { .. }) => {
                let text = format!("{} may not get pipelineruns/log in {}", caller.user.name, key.namespace);
                return Err(No(StatusCode::FORBIDDEN, text));
            }
            other => other?,
        }
        let record = self.records.of(&run.uid().unwrap_or_default());
        let record = record.ok_or_else(|| No::missing(format!("record of build {}", build::status(run).number)))?;
        match rest {
            ["consoleText" | "console"] => console(record, heading(run)),
            ["logText", "progressiveText"] => {
                let start = form::value(query, "start").and_then(|start| start.parse().ok()).unwrap_or(0);
                progressive(record, heading(run), start, build::is_building(run)).await
            }
            ["testReport", "api", "json"] => {
                let number = build::status(run).number;
                let read = tokio::task::spawn_blocking(move || reports::read(&record.reports()));
                let report = read.await.map_err(No::broken)??;
                let report = report.ok_or_else(|| No::missing("test report"))?;
                Ok(super::json(&tests(&report, number, shape)))
            }
            ["artifact", path @ ..] if !path.is_empty() => {
                let (path, dir) = (path.join("/"), record.artifacts());
                let (asked, body) = (parts.headers.clone(), parts.method != Method::HEAD);
                let read = tokio::task::spawn_blocking(move || match artifacts::find(&dir, &path)? {
                    Some((parcel, entry)) => Ok(over_http::file(&parcel, &entry, &asked, body)?),
                    None => Err(No::missing(format!("artifact {path}"))),
                });
                read.await.map_err(No::broken)?
            }
            _ => Err(No::missing(format!("page {} of a build", rest.join("/")))),
        }
    }
}

/// The line that a console begins with, which clients count on: they take an empty one for a build that is not there.
fn heading(run: &PipelineRun) -> String {
    format!("{}\n", build::cause(run).1)
}

/// The whole console, as it is now.
fn console(record: Record, heading: String) -> Answer {
    let log = futures::stream::try_unfold((record, 0_u64), |(record, from)| async move {
        let read = tokio::task::spawn_blocking(move || {
            let (text, _) = log::read(&record, log::Whose::All, from, CHUNK)?;
            std::io::Result::Ok((record, text))
        });
        let (record, text) = read.await.map_err(std::io::Error::other)??;
        if text.is_empty() {
            return Ok::<_, body::Error>(None);
        }
        let next = from + text.len() as u64;
        Ok(Some((Bytes::from(text), (record, next))))
    });
    let mut response = plain("");
    *response.body_mut() = body::stream(futures::stream::iter([Ok(Bytes::from(heading))]).chain(log));
    Ok(response)
}

/// What was added to the console since a place, and where that ends.
async fn progressive(record: Record, heading: String, start: u64, building: bool) -> Answer {
    let before = heading.len() as u64;
    let from = start.saturating_sub(before);
    let read = tokio::task::spawn_blocking(move || log::read(&record, log::Whose::All, from, MOST_AT_ONCE));
    let (log, bytes) = read.await.map_err(No::broken)??;
    // A place behind the end is the end, as for who asks again after a log was cut.
    let end = before + from.min(bytes) + log.len() as u64;
    let mut text = heading.into_bytes();
    text.drain(..usize::try_from(start).map_or(text.len(), |start| start.min(text.len())));
    text.extend(log);
    let mut response = plain("");
    let headers = response.headers_mut();
    headers.insert("x-text-size", HeaderValue::from(end));
    if building || end < before + bytes {
        headers.insert("x-more-data", HeaderValue::from_static("true"));
    }
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(text.len()));
    *response.body_mut() = body::full(text);
    Ok(response)
}

/// Stages as the stage view's API tells them: <https://github.com/jenkinsci/pipeline-stage-view-plugin/tree/master/rest-api>.
fn stages(run: &PipelineRun) -> Json {
    let status = build::status(run);
    let (began, took) = build::times(run);
    let ended = |result: Option<&str>| match result {
        Some("FAILURE") => "FAILED",
        Some("UNSTABLE") => "UNSTABLE",
        Some("ABORTED") => "ABORTED",
        Some("NOT_BUILT") => "NOT_EXECUTED",
        _ => "SUCCESS",
    };
    let one = |stage: &Stage| {
        let word = match stage.phase {
            StagePhase::Waiting | StagePhase::Skipped => "NOT_EXECUTED",
            StagePhase::Running if status.phase == Phase::Paused => "PAUSED_PENDING_INPUT",
            StagePhase::Running => "IN_PROGRESS",
            StagePhase::Finished => ended(stage.result.as_deref()),
        };
        json!({
            "id": stage.id, "name": stage.name, "execNode": "", "status": word,
            "startTimeMillis": stage.started.map_or(0, |time| time.as_millisecond()),
            "durationMillis": stage.milliseconds.unwrap_or(0), "pauseDurationMillis": 0,
        })
    };
    let whole = match status.phase {
        Phase::Paused => "PAUSED_PENDING_INPUT",
        phase if !phase.is_final() => "IN_PROGRESS",
        _ => ended(status.result.as_deref()),
    };
    json!({
        "id": status.number.to_string(), "name": format!("#{}", status.number), "status": whole,
        "startTimeMillis": began, "endTimeMillis": if took > 0 { began + took } else { 0 }, "durationMillis": took,
        "queueDurationMillis": (began - build::queued_at(run)).max(0), "pauseDurationMillis": 0,
        "stages": status.stages.iter().map(one).collect::<Vec<_>>(),
    })
}

/// Test reports as <https://plugins.jenkins.io/junit/> tells them.
fn tests(report: &Report, run: u64, shape: Shape<'_>) -> Json {
    let totals = report.totals();
    let mut fields = Fields::new("hudson.tasks.junit.TestResult", shape);
    fields.full("duration", report.seconds());
    fields.full("empty", totals.total == 0);
    fields.full("failCount", totals.failed);
    fields.full("passCount", totals.passed);
    fields.full("skipCount", totals.skipped);
    // Whoever asks for a report asks for what is in it.
    fields.list("suites", &report.suites, |one, shape| suite(one, run, shape));
    fields.done()
}

fn suite(suite: &Suite, run: u64, shape: Shape<'_>) -> Json {
    let mut fields = Fields::new("hudson.tasks.junit.SuiteResult", shape);
    fields.brief("name", suite.name.as_str());
    fields.brief("duration", suite.seconds);
    fields.brief("id", suite.id.clone());
    fields.brief("timestamp", suite.timestamp.clone());
    fields.brief("stdout", suite.output.clone());
    fields.brief("stderr", suite.errors.clone());
    fields.brief("nodeId", Json::Null);
    fields.brief("enclosingBlockNames", suite.stage.iter().cloned().collect::<Vec<_>>());
    fields.within("cases", &suite.cases, |one, shape| case(one, run, shape));
    fields.done()
}

fn case(case: &Case, run: u64, shape: Shape<'_>) -> Json {
    let (since, message, trace) = match &case.outcome {
        Outcome::Failed { since, message, trace } => (*since, message.clone(), trace.clone()),
        _ => (0, None, None),
    };
    let skipped = match &case.outcome {
        Outcome::Skipped { message } => Some(message.clone()),
        _ => None,
    };
    let mut fields = Fields::new("hudson.tasks.junit.CaseResult", shape);
    fields.brief("className", case.class.as_str());
    fields.brief("name", case.name.as_str());
    fields.brief("duration", case.seconds);
    fields.brief("status", case.outcome.name(run));
    fields.brief("failedSince", since);
    fields.brief("age", if since > 0 { run.saturating_sub(since) + 1 } else { 0 });
    fields.brief("errorDetails", message);
    fields.brief("errorStackTrace", trace);
    fields.brief("skipped", skipped.is_some());
    fields.brief("skippedMessage", skipped.flatten());
    fields.brief("stdout", case.output.clone());
    fields.brief("stderr", case.errors.clone());
    fields.done()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kind::RunStatus,
        left::junit::{self, Keep},
    };

    #[test]
    fn a_report_tells_its_cases_whatever_the_depth() {
        let text =
            "<testsuite name='s' time='2'><testcase name='a' classname='c'><failure message='m'>t</failure></testcase>
            <testcase name='b'><skipped/></testcase></testsuite>";
        let mut report = Report { suites: junit::read("x", text.as_bytes(), Keep::None).unwrap() };
        report.compare(3, None);
        let told = super::tests(&report, 4, Shape::new(None, 0));
        assert_eq!(
            (told["failCount"].clone(), told["passCount"].clone(), told["skipCount"].clone()),
            (json!(1), json!(0), json!(1))
        );
        let case = &told["suites"][0]["cases"][0];
        assert_eq!(
            (case["status"].clone(), case["age"].clone(), case["errorDetails"].clone()),
            (json!("FAILED"), json!(2), json!("m"))
        );
        assert_eq!(told["suites"][0]["cases"][1]["skipped"], true);
    }

    #[test]
    fn stages_are_told_in_the_stage_view_s_words() {
        let stage = |name: &str, phase, result: Option<&str>| Stage {
            name: name.into(),
            phase,
            result: result.map(str::to_string),
            ..Stage::default()
        };
        let status = RunStatus {
            phase: Phase::Running,
            number: 3,
            stages: vec![
                stage("a", StagePhase::Finished, Some("FAILURE")),
                stage("b", StagePhase::Skipped, None),
                stage("c", StagePhase::Running, None),
            ],
            ..RunStatus::default()
        };
        let told = stages(&PipelineRun { status: Some(status), ..PipelineRun::default() });
        let words: Vec<&Json> = told["stages"].as_array().unwrap().iter().map(|stage| &stage["status"]).collect();
        assert_eq!(words, ["FAILED", "NOT_EXECUTED", "IN_PROGRESS"]);
        assert_eq!((told["status"].clone(), told["name"].clone()), (json!("IN_PROGRESS"), json!("#3")));
    }
}
