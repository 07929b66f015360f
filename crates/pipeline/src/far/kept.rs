//! What a run leaves: `stash`, `unstash`, `archiveArtifacts`, `junit`. Which files, and how they are kept, is [`crate::left`]'s.

use std::{io::Read, sync::Arc};

use bytes::{Buf, Bytes};
use serde_json::{Value as Json, json};
use tokio::sync::mpsc;

use super::{Failure, Far, at, directory, failed, text};
use crate::{
    drive::Drive,
    kind::{Artifacts, Tests},
    left::{
        artifacts,
        junit::{self, Asked, MOST_BYTES, MOST_FILES, Report},
        parcel::{self, Limits, hex},
        pick::{Archive, Stash, stash_name},
        reports,
    },
    record::Record,
    result::Result as Outcome,
    run::world::Ask,
    source::Pieces,
};

/// Pieces on their way.
const PIECES: usize = 16;

/// Pieces as they are read.
struct Reading {
    pieces: mpsc::Receiver<Bytes>,
    left: Bytes,
}

impl Read for Reading {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        while self.left.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.left = piece,
                None => return Ok(0),
            }
        }
        let taken = self.left.len().min(into.len());
        self.left.copy_to_slice(&mut into[..taken]);
        Ok(taken)
    }
}

/// Files below a step's directory that are wanted.
async fn listed(drive: &Drive, ask: &Ask, wants: impl Fn(&str) -> bool) -> Result<Vec<String>, Failure> {
    let rows = drive.inner.hand.call(&at(drive, ask)?, &["list", &directory(ask)], None).await?;
    let rows = rows.split(|byte| *byte == 0).filter_map(|row| std::str::from_utf8(row).ok());
    let named = rows.filter_map(|row| {
        let mut fields = row.splitn(5, ' ');
        let kind = fields.next()?;
        let name = fields.nth(3)?;
        (kind != "d" && wants(name)).then(|| name.to_owned())
    });
    Ok(named.collect())
}

/// Carries files of a workspace into a parcel.
async fn carry(
    drive: &Drive,
    ask: &Ask,
    names: &[String],
    place: std::path::PathBuf,
    parcel: String,
) -> Result<usize, Failure> {
    let mut request = Vec::new();
    for name in names {
        request.extend_from_slice(name.as_bytes());
        request.push(0);
    }
    let (sender, pieces) = mpsc::channel(PIECES);
    let keeping = tokio::task::spawn_blocking(move || {
        let reading = Reading { pieces, left: Bytes::new() };
        parcel::keep(&place, &parcel, reading, Limits::default(), |_| true)
    });
    let (at, from) = (at(drive, ask)?, directory(ask));
    let taken = drive.inner.hand.take(&at, &["pack", &from], &request, &sender).await;
    drop(sender);
    let kept = keeping.await.map_err(|error| failed(error.to_string()))?;
    taken?;
    Ok(kept.map_err(|error| failed(error.to_string()))?.entries.len())
}

fn say(drive: &Drive, ask: &Ask, lines: &[String]) -> Result<(), Failure> {
    if lines.is_empty() {
        return Ok(());
    }
    let text = format!("{}\n", lines.join("\n"));
    Ok(drive.book.text(&format!("step {}", ask.key), 1, ask.place.stage_id.as_deref(), &text)?)
}

/// `stash`
pub(super) async fn stash(drive: &Arc<Drive>, ask: &Ask) -> Far {
    let asked = Stash::of(&ask.arguments).map_err(failed)?;
    let names = listed(drive, ask, |path| asked.pick.wants(path)).await?;
    if names.is_empty() {
        say(drive, ask, &[asked.nothing().map_err(failed)?])?;
    }
    let count = carry(drive, ask, &names, drive.record.stashes(), asked.name).await?;
    say(drive, ask, &[format!("Stashed {count} file(s)")])?;
    Ok(Json::Null)
}

/// `unstash`
pub(super) async fn unstash(drive: &Arc<Drive>, ask: &Ask) -> Far {
    let name = stash_name(text(ask, "name")).map_err(failed)?;
    let (place, wanted) = (drive.record.stashes(), name.clone());
    let found = tokio::task::spawn_blocking(move || parcel::open(&place, &wanted)).await;
    let found = found.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))?;
    let found = found.ok_or_else(|| failed(format!("No such saved stash '{name}'")))?;
    let (sender, pieces) = mpsc::channel(PIECES);
    let sending = tokio::task::spawn_blocking(move || found.send(Pieces::new(sender)));
    drive.inner.hand.feed(&at(drive, ask)?, &["unpack", &directory(ask)], pieces).await?;
    sending.await.map_err(|error| failed(error.to_string()))??;
    Ok(Json::Null)
}

/// `archiveArtifacts`
pub(super) async fn archive(drive: &Arc<Drive>, ask: &Ask) -> Far {
    let asked = Archive::of(&ask.arguments);
    if asked.only_successful && drive.result() != Outcome::Success {
        return Ok(Json::Null);
    }
    let names = listed(drive, ask, |path| asked.pick.wants(path)).await?;
    if names.is_empty() {
        say(drive, ask, &[asked.nothing().map_err(failed)?])?;
        return Ok(Json::Null);
    }
    let parcel = hex(ring::digest::digest(&ring::digest::SHA256, ask.key.as_bytes()).as_ref());
    carry(drive, ask, &names, drive.record.artifacts(), parcel).await?;
    let place = drive.record.artifacts();
    let totals = tokio::task::spawn_blocking(move || artifacts::totals(&place)).await;
    let (files, bytes) =
        totals.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))?;
    drive.tell(|story, _| story.status.artifacts = Some(Artifacts { files, bytes }));
    say(drive, ask, &["Archiving artifacts".to_owned()])?;
    Ok(Json::Null)
}

/// The record of the run before of the same branch, if it has test reports.
fn before(drive: &Drive) -> Option<Record> {
    let me = drive.object().borrow().clone();
    let runs = drive.inner.runs.list_in(&drive.key.namespace);
    let of_it =
        runs.iter().filter(|run| run.spec.pipeline_ref == me.spec.pipeline_ref && run.spec.branch == me.spec.branch);
    let tested = of_it.filter_map(|run| Some((run.status.as_ref()?, run.metadata.uid.as_deref()?)));
    let tested = tested.filter(|(status, _)| status.tests.is_some() && status.number < drive.begun.number);
    let (_, uid) = tested.max_by_key(|(status, _)| status.number)?;
    drive.inner.records.of(uid)
}

/// `junit`
pub(super) async fn junit(drive: &Arc<Drive>, ask: &Ask) -> Far {
    let asked = Asked::of(&ask.arguments).map_err(failed)?;
    let names = listed(drive, ask, |path| asked.wants(path)).await?;
    if names.len() > MOST_FILES {
        return Err(failed(format!("junit: more than {MOST_FILES} reports")));
    }
    let mut suites = Vec::new();
    for name in &names {
        let bytes = super::files::content(drive, ask, name).await?;
        if bytes.len() as u64 > MOST_BYTES {
            return Err(failed(format!("junit: {name} has more than {MOST_BYTES} bytes")));
        }
        suites.extend(junit::read(name, &bytes, asked.keep).map_err(failed)?);
    }
    suites.iter_mut().for_each(|suite| suite.stage.clone_from(&ask.place.stage));
    let told = asked.judge(names.len(), &suites, drive.result() > Outcome::Unstable).map_err(failed)?;
    let (place, key) = (drive.record.reports(), ask.key.clone());
    let (number, before) = (drive.begun.number, before(drive));
    let all = tokio::task::spawn_blocking(move || {
        // Since when a case fails, the run before knows.
        let before = before.map(|record| reports::read(&record.reports())).transpose()?.flatten();
        let mut report = Report { suites };
        report.compare(number, before.as_ref());
        reports::add(&place, &key, report.suites)?;
        reports::read(&place)
    });
    if let Some(report) = all.await.map_err(|error| failed(error.to_string()))?? {
        let totals = report.totals();
        let seconds = report.seconds();
        drive.tell(|story, _| {
            story.status.tests = Some(Tests {
                total: totals.total as u64,
                failed: totals.failed as u64,
                skipped: totals.skipped as u64,
                seconds,
            });
        });
    }
    say(drive, ask, &told.log)?;
    let mut answer = json!({
        "totalCount": told.totals.total, "failCount": told.totals.failed,
        "skipCount": told.totals.skipped, "passCount": told.totals.passed,
    });
    if told.unstable {
        answer["result"] = "UNSTABLE".into();
    }
    Ok(answer)
}
