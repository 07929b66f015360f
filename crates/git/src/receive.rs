//! What pushes are answered with: `git-receive-pack`.
//!
//! ```text
//! old new name, … │ options │ pack   ─► pack kept whole, or refused │ references changed │ report, in bands
//! ```
//!
//! Specification: <https://git-scm.com/docs/pack-protocol#_pushing_data_to_a_server>.

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use tokio::io::AsyncWriteExt;

use crate::{
    Error,
    id::Id,
    packet::{self, Packet},
    repository::{Repository, Update},
    upload::{AGENT, advertise},
};

/// References that one push may change.
const MOST_UPDATES: usize = 10_000;
/// Bytes of options that a push may have.
const MOST_OPTIONS: usize = 64 << 10;

/// A push, its pack in a file.
#[derive(Debug)]
pub struct Push {
    updates: Vec<Update>,
    /// What `git push -o` said.
    pub options: Vec<String>,
    pack: Option<tempfile::NamedTempFile>,
    words: Vec<String>,
}

/// What became of a push.
#[derive(Debug)]
pub struct Pushed {
    /// The answer.
    pub answer: Bytes,
    /// What was changed, and is on disk.
    pub changed: Vec<Update>,
}

/// What a push begins with: every reference, and what can be asked.
pub fn advertisement(repository: &Repository) -> Vec<u8> {
    // Packs come whole: nothing is built from an object that only is here.
    let capabilities = format!(
        "report-status delete-refs side-band-64k quiet atomic ofs-delta no-thin push-options object-format={} agent={AGENT}",
        repository.format().name()
    );
    let references = repository.references();
    advertise(references.iter().map(|(name, target)| (name.to_owned(), target.id)), &capabilities, repository)
}

/// Takes a push in. None where the client only wants to know whether it may.
pub async fn take<S>(repository: &Repository, mut body: S) -> Result<Option<Push>, Error>
where
    S: Stream<Item = std::io::Result<Bytes>> + Unpin,
{
    let mut held = BytesMut::new();
    let mut push = Push { updates: Vec::new(), options: Vec::new(), pack: None, words: Vec::new() };
    while let Some(data) = line(&mut held, &mut body).await? {
        let text = std::str::from_utf8(&data).map_err(|_| Error::invalid("a reference's name that is not UTF-8"))?;
        let text = text.trim_end_matches('\n');
        let (text, words) = text.split_once('\0').unwrap_or((text, ""));
        if push.updates.is_empty() {
            push.words = words.split(' ').map(str::to_owned).collect();
        }
        if text.starts_with("shallow ") {
            return Err(Error::invalid("shallow update not allowed: fetch --unshallow before this push"));
        }
        if push.updates.len() == MOST_UPDATES {
            return Err(Error::TooLarge { what: "the push's list of references", limit: MOST_UPDATES as u64 });
        }
        push.updates.push(update(text, repository)?);
    }
    if push.updates.is_empty() {
        return Ok(None);
    }
    if push.can("push-options") {
        let mut taken = 0;
        while let Some(data) = line(&mut held, &mut body).await? {
            taken += data.len();
            if taken > MOST_OPTIONS {
                return Err(Error::TooLarge { what: "the push's options", limit: MOST_OPTIONS as u64 });
            }
            push.options.push(String::from_utf8_lossy(&data).trim_end_matches('\n').to_owned());
        }
    }
    if push.updates.iter().any(|update| update.new.is_some()) {
        push.pack = pack(repository, held.freeze(), body).await?;
    }
    Ok(Some(push))
}

/// The next line; none at the end of a list.
async fn line<S>(held: &mut BytesMut, body: &mut S) -> Result<Option<Bytes>, Error>
where
    S: Stream<Item = std::io::Result<Bytes>> + Unpin,
{
    loop {
        match packet::take(held)? {
            Some(Packet::Data(data)) => return Ok(Some(data)),
            Some(_) => return Ok(None),
            None => match body.next().await {
                Some(bytes) => held.extend_from_slice(&bytes?),
                None if held.is_empty() => return Ok(None),
                None => return Err(Error::invalid("the push ends within a line")),
            },
        }
    }
}

fn update(text: &str, repository: &Repository) -> Result<Update, Error> {
    let broken = || Error::invalid(format!("protocol error: expected old/new/ref, got '{text}'"));
    let mut words = text.splitn(3, ' ');
    let mut id = || {
        let id = words.next().and_then(Id::parse).filter(|id| id.format() == repository.format()).ok_or_else(broken)?;
        Ok::<_, Error>(id.bytes().iter().any(|byte| *byte != 0).then_some(id))
    };
    let (old, new) = (id()?, id()?);
    Ok(Update { name: words.next().ok_or_else(broken)?.to_owned(), old, new })
}

/// What is left of the body is the pack. None where nothing came: every object is here already.
async fn pack<S>(repository: &Repository, first: Bytes, mut body: S) -> Result<Option<tempfile::NamedTempFile>, Error>
where
    S: Stream<Item = std::io::Result<Bytes>> + Unpin,
{
    let file = repository.incoming()?;
    let mut writer = tokio::fs::File::from_std(file.reopen()?);
    let (mut taken, limit) = (0, repository.limits().pack);
    let mut next = Some(Ok(first));
    while let Some(piece) = next {
        let piece = piece?;
        taken += piece.len() as u64;
        if taken > limit {
            return Err(Error::TooLarge { what: "the pack", limit });
        }
        writer.write_all(&piece).await?;
        next = body.next().await;
    }
    writer.flush().await?;
    Ok((taken > 0).then_some(file))
}

impl Push {
    fn can(&self, word: &str) -> bool {
        self.words.iter().any(|each| each == word)
    }

    /// What it wants to change.
    pub fn updates(&self) -> &[Update] {
        &self.updates
    }

    /// Keeps the pack and changes the references, but for those that `refused` names a reason against. Blocks.
    pub fn carry_out(
        self,
        repository: &Repository,
        refused: &dyn Fn(&Update) -> Option<String>,
    ) -> Result<Pushed, Error> {
        let (atomic, report, bands) = (self.can("atomic"), self.can("report-status"), self.can("side-band-64k"));
        let kept = match self.pack {
            Some(file) => repository.keep(file),
            None => Ok(()),
        };
        let (unpacked, results) = match kept {
            Ok(()) => {
                let verdicts: Vec<Option<String>> = self.updates.iter().map(refused).collect();
                let wanted: Vec<Update> = self
                    .updates
                    .iter()
                    .zip(&verdicts)
                    .filter(|(_, verdict)| verdict.is_none())
                    .map(|(update, _)| update.clone())
                    .collect();
                let stopped = atomic && wanted.len() < self.updates.len();
                let mut done = if stopped {
                    vec![Err("atomic push failed: another reference was refused".to_owned()); wanted.len()].into_iter()
                } else {
                    repository.update(&wanted, atomic)?.into_iter()
                };
                let results = verdicts.into_iter().map(|verdict| match verdict {
                    Some(reason) => Err(reason),
                    None => done.next().unwrap_or_else(|| Err("not done".to_owned())),
                });
                ("ok".to_owned(), results.collect::<Vec<Result<(), String>>>())
            }
            // What the disk says is for the caller; what the pack is for who sent it.
            Err(Error::Io(error)) => return Err(Error::Io(error)),
            Err(error) => (error.to_string(), vec![Err("unpacker error".to_owned()); self.updates.len()]),
        };
        let mut lines = Vec::new();
        if report {
            packet::line(&mut lines, &format!("unpack {}", short(&unpacked)));
            for (update, result) in self.updates.iter().zip(&results) {
                match result {
                    Ok(()) => packet::line(&mut lines, &format!("ok {}", update.name)),
                    Err(reason) => packet::line(&mut lines, &format!("ng {} {}", update.name, short(reason))),
                }
            }
            packet::flush(&mut lines);
        }
        let mut answer = lines;
        if bands {
            let report = std::mem::take(&mut answer);
            packet::band(&mut answer, 1, &report, packet::LONGEST);
            packet::flush(&mut answer);
        }
        let changed =
            self.updates.into_iter().zip(results).filter(|(_, result)| result.is_ok()).map(|(update, _)| update);
        Ok(Pushed { answer: answer.into(), changed: changed.collect() })
    }
}

/// A reason on one line.
fn short(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
    line
}
