//! One run on its way: its process, its answers, its log and its status, all of one task.
//!
//! ```text
//! prepare  number, commit, script ─► start.json            once; after a restart it is read
//! child    ◄─ start        ask ─► answered before? ─► the same answer again
//!                                  not yet ─► far end, a task an ask ─► journal, synced ─► answer ─► child
//!          tell ─► log, story          interrupt, timers, abort ─► far ends end early
//! status   the story, written when it has changed and the last write is done
//! end      agents are given back, the status says how, whoever waits is told
//! ```
//!
//! Killed at any moment, all of it is done again, and nothing twice: answers are in the journal, what far ends do is named by the ask's
//! key, and what is told again is known by it.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use client::cache::Key;
use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use task::Task;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
    sync::{Notify, mpsc, watch},
};

use crate::{
    book::Book,
    counted, far,
    interpreter::{FRAME, Said, Told, frame},
    kind::{AgentPhase, AgentPod, Last, Phase, PipelineRun, RUN, RunStatus, label, short},
    operate::{Inner, Order},
    record::{
        Record,
        journal::{Journal, Known},
    },
    result::Result as Outcome,
    run::{
        Ended, Start,
        world::{Answer, Ask, Event},
    },
    story::Story,
    trigger::{declared::Declared, start},
};

pub mod locks;
mod prepare;

/// The least time between two writes of a status.
const PAUSE: Duration = Duration::from_millis(150);
/// How long a script may go on after it was told to end.
const GRACE: Duration = Duration::from_secs(600);
/// Asks at the same time.
const MOST_ASKS: usize = 2000;

/// What a run began with, as its record keeps it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Begun {
    /// What the script is given.
    pub start: Start,
    /// The run's number.
    pub number: u64,
    /// The branch.
    pub branch: Option<String>,
    /// The commit.
    pub commit: Option<String>,
    /// Where the sources are.
    pub url: Option<String>,
    /// In whose name it acts.
    pub account: String,
    /// Pods that serve as agents.
    pub agents: Vec<AgentPod>,
    /// Seconds that it may take.
    pub deadline: Option<u64>,
    /// When it began.
    pub began: Option<Timestamp>,
    /// Who has committed what it is the first to have.
    pub culprits: Vec<String>,
}

/// Why something ends early.
#[derive(Clone, Debug, PartialEq)]
pub struct Interruption {
    /// In words.
    pub message: String,
    /// What it makes of the run.
    pub result: Outcome,
}

/// A run on its way, as far ends see it.
pub struct Drive {
    pub(crate) inner: Arc<Inner>,
    /// The object's key.
    pub key: Key,
    /// The object's UID.
    pub uid: String,
    /// The run as its owner.
    pub owner: OwnerReference,
    /// What it began with.
    pub begun: Begun,
    /// What it leaves.
    pub record: Record,
    /// Its log.
    pub book: Arc<Book>,
    /// Below it everything of the run is done.
    pub task: Task,
    story: Mutex<Story>,
    changed: Notify,
    /// Held while a status is written: the last one is the last.
    writing: tokio::sync::Mutex<()>,
    /// The object as it was last seen.
    object: watch::Sender<Arc<PipelineRun>>,
    /// Default containers of Pods.
    containers: Mutex<HashMap<String, String>>,
    journal: Mutex<Journal>,
    known: Mutex<HashMap<String, (String, Known)>>,
    asks: Mutex<HashMap<String, Asked>>,
}

struct Asked {
    timers: Vec<String>,
    ended: watch::Sender<Option<Interruption>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes a run from where it is to its end.
pub(crate) async fn drive(inner: &Arc<Inner>, run: Arc<PipelineRun>, mut orders: mpsc::Receiver<Order>) {
    let mut story = Story::of(run.status.clone().unwrap_or_default());
    match prepare::prepare(inner, &run, &mut story).await {
        Ok(prepared) => {
            let task = inner.task.child("run");
            let ended = match open(inner, &run, prepared, story, &task) {
                Ok(drive) => go(&drive, orders).await,
                Err(error) => {
                    tracing::warn!(run = %Key::of(&*run), error = format!("{error:#}"), "run a pipeline");
                    let mut story = Story::of(run.status.clone().unwrap_or_default());
                    let error = Some(format!("{error:#}"));
                    story.ended(&Ended { result: Outcome::Failure, error }, Timestamp::now());
                    write(inner, &run, story.shown(0, false, Timestamp::now())).await;
                    counted::ended(&inner.counts, &run, Outcome::Failure, None, Timestamp::now());
                    Ok(())
                }
            };
            task.cancel();
            if let Err(error) = ended {
                tracing::warn!(run = %Key::of(&*run), error = format!("{error:#}"), "run a pipeline");
            }
        }
        Err(error) => {
            story.ended(&Ended { result: Outcome::Failure, error: Some(format!("{error:#}")) }, Timestamp::now());
            write(inner, &run, story.shown(0, false, Timestamp::now())).await;
            counted::ended(&inner.counts, &run, Outcome::Failure, None, Timestamp::now());
            orders.close();
        }
    }
}

/// Writes a status until it stands, or the object is gone.
async fn write(inner: &Inner, run: &PipelineRun, status: &RunStatus) {
    let mut pause = PAUSE;
    loop {
        match inner.say(run, status).await {
            Ok(_) => return,
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => return,
            Err(error) => tracing::warn!(%error, run = ?run.metadata.name, "write the status of a run"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(10));
    }
}

fn open(
    inner: &Arc<Inner>,
    run: &Arc<PipelineRun>,
    (record, begun): (Record, Begun),
    mut story: Story,
    task: &Task,
) -> Result<Arc<Drive>> {
    let (journal, known) = Journal::open(&record.journal()).context("open the run's journal")?;
    let book = Arc::new(Book::open(&record).context("open the run's log")?);
    let uid = run.metadata.uid.clone().unwrap_or_default();
    if let Some(active) = inner.active().get_mut(&uid) {
        active.book = Some(book.clone());
    }
    story.started(begun.began.unwrap_or_else(Timestamp::now));
    story.status.number = begun.number;
    story.status.branch.clone_from(&begun.branch);
    story.status.commit.clone_from(&begun.commit);
    story.status.url.clone_from(&begun.url);
    story.status.culprits.clone_from(&begun.culprits);
    story.status.changes = (!begun.start.commits.is_empty()).then_some(begun.start.commits.len() as u32);
    story.status.message = None;
    story.status.observed_generation = run.metadata.generation;
    let containers = known.values().filter_map(|(name, known)| match (name.as_str(), known) {
        ("agent", Known::Answered(Answer::Done(answer))) => {
            let field = |name: &str| answer.get(name).and_then(serde_json::Value::as_str).map(str::to_owned);
            Some((field("id")?, field("container")?))
        }
        _ => None,
    });
    let containers = Mutex::new(containers.collect());
    let pipeline = Key::new(&Key::of(&**run).namespace, &run.spec.pipeline_ref.name).to_string();
    inner.locks.taken_up(&uid, (&pipeline, begun.number), &known);
    let owner = OwnerReference {
        api_version: format!("{}/{}", client::own::GROUP, client::own::VERSION),
        kind: "PipelineRun".into(),
        name: run.metadata.name.clone().unwrap_or_default(),
        uid: uid.clone(),
        controller: Some(true),
        ..OwnerReference::default()
    };
    Ok(Arc::new(Drive {
        inner: inner.clone(),
        key: Key::of(&**run),
        uid,
        owner,
        begun,
        record,
        book,
        task: task.clone(),
        story: Mutex::new(story),
        changed: Notify::new(),
        writing: tokio::sync::Mutex::default(),
        object: watch::Sender::new(run.clone()),
        containers,
        journal: Mutex::new(journal),
        known: Mutex::new(known),
        asks: Mutex::default(),
    }))
}

/// Starts the process that interprets.
fn spawn(inner: &Inner) -> Result<Child> {
    let (program, arguments) = inner.settings.interpreter.split_first().context("no interpreter is configured")?;
    Command::new(program)
        .args(arguments)
        .env_clear()
        .current_dir("/")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("start the interpreter")
}

async fn next(from: &mut (impl AsyncReadExt + Unpin)) -> std::io::Result<Option<Said>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length).await {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    };
    let length = u32::from_le_bytes(length) as usize;
    if length > FRAME {
        return Err(std::io::Error::other("the interpreter says too much at once"));
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes).await?;
    Ok(Some(serde_json::from_slice(&bytes)?))
}

/// Drives a run until its script has ended, or its object is gone.
async fn go(drive: &Arc<Drive>, mut orders: mpsc::Receiver<Order>) -> Result<()> {
    let mut child = spawn(&drive.inner)?;
    let (input, output) = (child.stdin.take().context("no input")?, child.stdout.take().context("no output")?);
    let mut complaints = child.stderr.take().context("no errors")?;
    let (tell, mut told) = mpsc::unbounded_channel::<Vec<u8>>();
    drive.task.spawn_until_cancelled("interpreter input", async move {
        let mut input = input;
        while let Some(frame) = told.recv().await {
            if input.write_all(&frame).await.is_err() {
                return;
            }
        }
    });
    tell.send(frame(&Told::Start(Box::new(drive.begun.start.clone())))?).context("begin")?;
    let writer = drive.clone();
    drive.task.spawn_until_cancelled("run status", async move { writer.keep_status().await });
    if let Some(deadline) = drive.begun.deadline {
        let began = drive.begun.began.unwrap_or_else(Timestamp::now).as_millisecond();
        let at = began.saturating_add(i64::try_from(deadline).unwrap_or(i64::MAX).saturating_mul(1000));
        let late = drive.clone();
        drive.task.spawn_until_cancelled("deadline", async move {
            sleep_until(at).await;
            late.end("the run has taken longer than its pipeline allows", Outcome::Aborted);
        });
    }
    if drive.object.borrow().spec.abort {
        drive.abort();
    }
    let mut output = BufReader::with_capacity(64 << 10, output);
    let ended = loop {
        let said = tokio::select! {
            said = next(&mut output) => said,
            order = orders.recv() => {
                match order {
                    Some(Order::Changed(run)) => {
                        let abort = run.spec.abort && !drive.object.borrow().spec.abort;
                        lock(&drive.story).status.observed_generation = run.metadata.generation;
                        drive.object.send_replace(run);
                        if abort {
                            drive.abort();
                        }
                        drive.changed.notify_one();
                        continue;
                    }
                    Some(Order::Gone) => {
                        far::builds::forget(drive).await;
                        return Ok(());
                    }
                    Some(Order::Superseded(newer)) => {
                        drive.end(&format!("Superseded by #{newer}"), Outcome::NotBuilt);
                        continue;
                    }
                    None => return Ok(()),
                }
            }
        };
        match said {
            Ok(Some(Said::Ask(number, ask))) => drive.asked(number, ask, &tell),
            Ok(Some(Said::Tell(event))) => drive.told(event)?,
            Ok(Some(Said::Interrupt { below, reason })) => {
                let why = Interruption { message: reason, result: Outcome::Aborted };
                drive.interrupt(|key, _| key.starts_with(&below), &why);
            }
            Ok(Some(Said::Ended(ended))) => break ended,
            Ok(None) | Err(_) => {
                let mut text = Vec::new();
                let _ = (&mut complaints).take(4096).read_to_end(&mut text).await;
                let status = child.wait().await;
                let text = String::from_utf8_lossy(&text).trim().to_owned();
                let how = status.map(|status| status.to_string()).unwrap_or_default();
                let error = match said {
                    Err(error) => format!("the interpreter could not be understood: {error}"),
                    _ if text.is_empty() => {
                        format!("the interpreter was ended ({how}): the script needs too much memory or time")
                    }
                    _ => format!("the interpreter ended with {how}: {text}"),
                };
                drive.told(Event::Log { branch: "end".into(), number: 1, stage: None, text: format!("{error}\n") })?;
                break Ended { result: Outcome::Failure, error: Some(error) };
            }
        }
    };
    drop(tell);
    drop(child);
    drive.finish(ended).await
}

/// Waits until a time, in milliseconds since 1970.
pub(crate) async fn sleep_until(at: i64) {
    loop {
        let left = at - Timestamp::now().as_millisecond();
        if left <= 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(left.min(60_000).unsigned_abs())).await;
    }
}

impl Drive {
    /// Changes what is told of the run.
    pub fn tell(&self, change: impl FnOnce(&mut Story, Timestamp)) {
        change(&mut lock(&self.story), Timestamp::now());
        self.changed.notify_one();
    }

    /// The run's object as it was last seen, and whenever it changes.
    pub fn object(&self) -> watch::Receiver<Arc<PipelineRun>> {
        self.object.subscribe()
    }

    /// The run's result so far.
    pub fn result(&self) -> Outcome {
        lock(&self.story).status.result.as_deref().and_then(Outcome::named).unwrap_or_default()
    }

    /// Whether a person is being asked under an id.
    pub(crate) fn is_asked(&self, id: &str) -> bool {
        lock(&self.story).status.inputs.iter().any(|question| question.id == id)
    }

    /// The container in which steps of a Pod run that name none.
    pub fn container(&self, pod: &str) -> Option<String> {
        lock(&self.containers).get(pod).cloned()
    }

    pub(crate) fn container_is(&self, pod: &str, container: &str) {
        lock(&self.containers).insert(pod.to_owned(), container.to_owned());
    }

    /// What was noted of an ask before the server ended.
    pub fn noted(&self, key: &str) -> Option<serde_json::Value> {
        match lock(&self.known).get(key) {
            Some((_, Known::Asked(note))) => Some(note.clone()),
            _ => None,
        }
    }

    /// Answers that were given to asks of a name.
    pub fn answered(&self, name: &str) -> Vec<(String, Answer)> {
        let known = lock(&self.known);
        let of_it = known.iter().filter(|(_, (known, _))| known == name);
        of_it
            .filter_map(|(key, (_, known))| match known {
                Known::Answered(answer) => Some((key.clone(), answer.clone())),
                Known::Asked(_) => None,
            })
            .collect()
    }

    /// Notes on disk what is about to be done.
    ///
    /// # Errors
    /// It cannot be written.
    pub async fn note(self: &Arc<Self>, ask: &Ask, note: serde_json::Value) -> std::io::Result<()> {
        let (drive, key, name) = (self.clone(), ask.key.clone(), ask.name.clone());
        let written = tokio::task::spawn_blocking(move || {
            lock(&drive.journal).asked(&key, &name, &note)?;
            lock(&drive.known).insert(key, (name, Known::Asked(note)));
            Ok(())
        });
        written.await.map_err(std::io::Error::other)?
    }

    /// Ends what waits now, as somebody wants.
    fn abort(self: &Arc<Self>) {
        let object = self.object.borrow().clone();
        let message = match &object.spec.aborted_by {
            Some(user) => format!("Aborted by {user}"),
            None => "Aborted".to_owned(),
        };
        self.end(&message, Outcome::Aborted);
    }

    /// Ends what waits now, once in a run: what comes after it, `post` for one, is done.
    fn end(self: &Arc<Self>, message: &str, result: Outcome) {
        const KEY: &str = "abort";
        if lock(&self.known).contains_key(KEY) {
            return;
        }
        let why = Interruption { message: message.to_owned(), result };
        let drive = self.clone();
        let message = message.to_owned();
        self.task.spawn_until_cancelled("abort", async move {
            // What computes is waited for: the next thing that it asks is what ends.
            let until = tokio::time::Instant::now() + GRACE;
            while lock(&drive.asks).is_empty() && tokio::time::Instant::now() < until {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let ask = Ask { key: KEY.into(), name: KEY.into(), arguments: json!(null), place: Default::default() };
            if let Err(error) = drive.note(&ask, json!({ "message": message })).await {
                tracing::warn!(%error, "note that a run is ended");
            }
            drive.interrupt(|_, _| true, &why);
        });
    }

    /// Ends asks early.
    pub(crate) fn interrupt(&self, which: impl Fn(&str, &[String]) -> bool, why: &Interruption) {
        for (key, asked) in lock(&self.asks).iter() {
            if which(key, &asked.timers) {
                asked.ended.send_modify(|known| {
                    known.get_or_insert_with(|| why.clone());
                });
            }
        }
    }

    /// Whether an ask is shown as a step.
    fn is_step(name: &str) -> bool {
        !matches!(name, "clock" | "timer" | "credentials" | "agent" | "pwd" | "fileExists" | "docker.login")
            && !name.ends_with(".end")
    }

    fn label_of(ask: &Ask) -> Option<String> {
        let field = |name: &str| ask.arguments.get(name).and_then(serde_json::Value::as_str);
        let named = ["label", "script", "file", "path", "name", "message", "job", "url", "image", "tag"];
        let text = named.iter().find_map(|name| field(name)).filter(|text| !text.is_empty())?;
        Some(text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with("#!"))?.to_owned())
    }

    /// Something is asked.
    fn asked(self: &Arc<Self>, number: u64, ask: Ask, tell: &mpsc::UnboundedSender<Vec<u8>>) {
        let stage = ask.place.stage_id.clone();
        let known = match lock(&self.known).get(&ask.key) {
            Some((_, Known::Answered(answer))) => Some(answer.clone()),
            _ => None,
        };
        if Self::is_step(&ask.name) {
            let (length, _) = self.book.length();
            let label = Self::label_of(&ask).map(|label| self.book.masked(&label));
            self.tell(|story, now| {
                story.step_began(stage.as_deref(), &ask.key, &ask.name, label.as_deref(), length, now);
            });
        }
        let reply = {
            let (drive, tell, ask) = (self.clone(), tell.clone(), ask.clone());
            move |answer: Answer| {
                if Drive::is_step(&ask.name) {
                    let (length, _) = drive.book.length();
                    drive.tell(|story, now| {
                        story.step_ended(ask.place.stage_id.as_deref(), &ask.key, &answer, length, now);
                    });
                }
                let told = frame(&Told::Answer(number, answer)).or_else(|error| {
                    let message = format!("{}: {error}", ask.name);
                    frame(&Told::Answer(number, Answer::Failed { class: "IOException".into(), message }))
                });
                if let Ok(told) = told {
                    let _ = tell.send(told);
                }
            }
        };
        if let Some(answer) = known {
            if let ("timer", Answer::Done(value)) = (&*ask.name, &answer) {
                self.timer(value);
            }
            return reply(answer);
        }
        let (ended, interrupted) = watch::channel(None);
        {
            let mut asks = lock(&self.asks);
            if asks.len() >= MOST_ASKS {
                drop(asks);
                let message = format!("{MOST_ASKS} steps at the same time are enough");
                return reply(Answer::Failed { class: "IllegalStateException".into(), message });
            }
            asks.insert(ask.key.clone(), Asked { timers: ask.place.timers.clone(), ended });
        }
        let drive = self.clone();
        self.task.spawn_until_cancelled("ask", async move {
            let answer = far::answer(&drive, &ask, interrupted).await;
            lock(&drive.asks).remove(&ask.key);
            let answer = drive.keep(&ask, answer).await;
            if let ("timer", Answer::Done(value)) = (&*ask.name, &answer) {
                drive.timer(value);
            }
            reply(answer);
        });
    }

    /// Writes an answer down before it is acted upon.
    async fn keep(self: &Arc<Self>, ask: &Ask, answer: Answer) -> Answer {
        // Secrets stay where they are; what nothing was done for is asked again.
        if matches!(&*ask.name, "credentials" | "agent.end" | "timer.end" | "pwd" | "docker.login")
            || matches!(answer, Answer::Gone(_))
        {
            return answer;
        }
        let (drive, key, name, kept) = (self.clone(), ask.key.clone(), ask.name.clone(), answer.clone());
        let written = tokio::task::spawn_blocking(move || {
            lock(&drive.journal).answered(&key, &name, &kept)?;
            lock(&drive.known).insert(key, (name, Known::Answered(kept)));
            Ok::<_, std::io::Error>(())
        });
        match written.await {
            Ok(Ok(())) => answer,
            Ok(Err(error)) => Answer::Gone(format!("the answer to {} cannot be kept: {error}", ask.name)),
            Err(error) => Answer::Gone(format!("the answer to {} cannot be kept: {error}", ask.name)),
        }
    }

    /// Starts a clock that ends what is asked under it.
    fn timer(self: &Arc<Self>, timer: &serde_json::Value) {
        let id = timer.get("id").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
        let Some(at) = timer.get("at").and_then(serde_json::Value::as_i64) else { return };
        let drive = Arc::downgrade(self);
        self.task.spawn_until_cancelled("timer", async move {
            sleep_until(at).await;
            let why = Interruption { message: "Timeout has been exceeded".into(), result: Outcome::Aborted };
            // What comes after the time is up, in the same block, ends too: until the block has ended.
            while let Some(drive) = drive.upgrade() {
                drive.interrupt(|_, timers| timers.contains(&id), &why);
                if drive.is_over(&id) {
                    return;
                }
                drop(drive);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
    }

    /// Whether a timer's block has ended.
    fn is_over(&self, timer: &str) -> bool {
        lock(&self.known).contains_key(&format!("over {timer}"))
    }

    pub(crate) fn timer_is_over(&self, timer: &str) {
        lock(&self.known).insert(format!("over {timer}"), ("timer".into(), Known::Asked(json!(null))));
    }

    /// Something is told.
    fn told(self: &Arc<Self>, event: Event) -> Result<()> {
        match event {
            Event::Began { id, parent, path, name, .. } => {
                self.tell(|story, now| story.began(&id, parent.as_deref(), &path, &name, now));
            }
            Event::Finished { id, result, reason, .. } => {
                let reason = reason.map(|reason| self.book.masked(&reason));
                self.tell(|story, now| story.finished(&id, result, reason.as_deref(), now));
            }
            Event::Log { branch, number, stage, text } => {
                self.book.text(&branch, number, stage.as_deref(), &text).context("write the log")?;
            }
            Event::Declared(declared) => self.declared(*declared)?,
            Event::Secret(secret) => self.book.secret(&secret),
            Event::Result(result) => self.tell(|story, _| story.status.result = Some(result.name().to_owned())),
            Event::Described { name, description } => self.tell(|story, _| {
                story.status.display_name = name.as_deref().map(short);
                story.status.description = description.as_deref().map(short);
            }),
        }
        Ok(())
    }

    /// Writes into the pipeline's status what its script says of it: that of its main branch, where there are several.
    fn declared(self: &Arc<Self>, declared: Declared) -> Result<()> {
        for (number, wrong) in declared.wrong.iter().enumerate() {
            let text = format!("WARNING: {wrong}\n");
            self.book.text("declared", number as u64 + 1, None, &text).context("write the log")?;
        }
        let run = self.object.borrow().clone();
        let key = Key::new(&self.key.namespace, &run.spec.pipeline_ref.name);
        let Some(pipeline) = self.inner.pipelines.get(&key).filter(|_| run.spec.script.is_none()) else {
            return Ok(());
        };
        let several = !matches!(pipeline.spec.branches.as_slice(), [] | [_])
            || pipeline.spec.branches.iter().any(|pattern| pattern.contains(['*', '?']));
        if several && !matches!(self.begun.branch.as_deref(), Some("main" | "master")) {
            return Ok(());
        }
        let status = pipeline.status.clone().unwrap_or_default();
        let same = status.parameters == declared.parameters
            && status.triggers == declared.triggers
            && status.retention == declared.retention
            && status.concurrency == declared.concurrency
            && status.quiet == declared.quiet;
        if same {
            return Ok(());
        }
        let api: Api<crate::kind::Pipeline> = Api::namespaced(self.inner.client.clone(), &key.namespace);
        let told = json!({
            "parameters": declared.parameters, "triggers": declared.triggers, "retention": declared.retention,
            "concurrency": declared.concurrency, "quiet": declared.quiet,
        });
        self.task.spawn_until_cancelled("declared", async move {
            let patch = Patch::Merge(json!({ "status": told }));
            if let Err(error) = api.patch_status(&key.name, &PatchParams::default(), &patch).await {
                tracing::warn!(%error, pipeline = %key, "note what a script declares");
            }
        });
        Ok(())
    }

    /// Writes the status whenever there is something new to say.
    async fn keep_status(self: Arc<Self>) {
        let mut last = RunStatus::default();
        loop {
            let run = self.object.borrow().clone();
            let (bytes, truncated) = self.book.length();
            let mut status = lock(&self.story).shown(bytes, truncated, Timestamp::now()).clone();
            // The clock alone is no news.
            (status.duration, status.log) = (None, None);
            if status != last {
                last = status;
                let writing = self.writing.lock().await;
                let status = lock(&self.story).shown(bytes, truncated, Timestamp::now()).clone();
                write(&self.inner, &run, &status).await;
                drop(writing);
            }
            tokio::time::sleep(PAUSE).await;
            self.changed.notified().await;
        }
    }

    /// The script has ended: so do its agents, and the status says how.
    async fn finish(self: &Arc<Self>, ended: Ended) -> Result<()> {
        let _writing = self.writing.lock().await;
        self.task.cancel();
        let (drive, book) = (self.clone(), self.book.clone());
        tokio::task::spawn_blocking(move || book.sync()).await??;
        let now = Timestamp::now();
        let (bytes, truncated) = self.book.length();
        let ended = Ended { error: ended.error.map(|error| self.book.masked(&error)), ..ended };
        let status = {
            let mut story = lock(&self.story);
            story.ended(&ended, now);
            story.shown(bytes, truncated, now).clone()
        };
        let run = self.object.borrow().clone();
        // Before the end is written: a kill in between does this again, which starts nothing twice.
        if let Err(error) = start::ended(&self.inner.client, &self.inner.pipelines, &run, ended.result).await {
            tracing::warn!(run = %self.key, error = format!("{error:#}"), "start what follows a run");
        }
        write(&self.inner, &run, &status).await;
        counted::ended(&self.inner.counts, &run, ended.result, status.started, now);
        drive.release().await;
        far::builds::forget(self).await;
        self.tell_pipeline(&status).await;
        if !self.begun.start.script.contains("preserveStashes") {
            crate::source::remove(&self.record.stashes()).await?;
        }
        Ok(())
    }

    /// Deletes Pods that are left.
    async fn release(&self) {
        let pods: HashSet<String> = lock(&self.story).status.agents.iter().map(|agent| agent.pod.clone()).collect();
        let api: Api<Pod> = Api::namespaced(self.inner.client.clone(), &self.key.namespace);
        for pod in pods {
            let key = Key::new(&self.key.namespace, &pod);
            let there = self.inner.hand.pods.get(&key).is_some_and(|pod| pod.metadata.deletion_timestamp.is_none());
            if !there {
                continue;
            }
            if let Err(error) = api.delete(&pod, &DeleteParams::default()).await
                && !matches!(&error, kube::Error::Api(status) if status.code == 404)
            {
                tracing::warn!(%error, pod, "give an agent back");
            }
        }
        // A Pod that was made while the server was killed stands in no status.
        let mine = ListParams::default().labels(&format!("{RUN}={}", label(&self.key.name)));
        if lock(&self.story).status.agents.is_empty() && !self.answered("agent").is_empty() {
            let _ = api.delete_collection(&DeleteParams::default(), &mine).await;
        }
    }

    /// The pipeline's status: which run ended last, and how.
    async fn tell_pipeline(&self, status: &RunStatus) {
        let run = self.object.borrow().clone();
        let pipeline = Key::new(&self.key.namespace, &run.spec.pipeline_ref.name);
        let Some(object) = self.inner.pipelines.get(&pipeline) else { return };
        let last = Last {
            name: self.key.name.to_string(),
            number: self.begun.number,
            result: status.result.clone().unwrap_or_default(),
            branch: self.begun.branch.clone(),
            commit: self.begun.commit.clone(),
            started: status.started,
            finished: status.finished,
        };
        let mut told = json!({ "last": last });
        match status.phase {
            Phase::Succeeded => told["lastSuccessful"] = json!(last),
            Phase::Failed => told["lastFailed"] = json!(last),
            _ => {}
        }
        let stands = object.status.as_ref().map(|status| status.number).unwrap_or_default();
        told["number"] = json!(stands.max(self.begun.number));
        let api: Api<crate::kind::Pipeline> = Api::namespaced(self.inner.client.clone(), &pipeline.namespace);
        let patch = Patch::Merge(json!({ "status": told }));
        if let Err(error) = api.patch_status(&pipeline.name, &PatchParams::default(), &patch).await
            && !matches!(&error, kube::Error::Api(status) if status.code == 404)
        {
            tracing::warn!(%error, %pipeline, "write the status of a pipeline");
        }
    }

    /// An agent is as far as this.
    pub(crate) fn agent(&self, stage: Option<&str>, pod: &str, phase: AgentPhase, node: Option<&str>) {
        let container = self.container(pod);
        self.tell(|story, now| {
            story.agent(stage, pod, now, |agent| {
                agent.phase = phase;
                if let Some(node) = node {
                    agent.node = Some(node.to_owned());
                }
                agent.container = agent.container.clone().or(container);
            });
        });
    }
}
