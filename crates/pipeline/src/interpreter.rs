//! The process that interprets a script: it computes, asks and tells, and can do nothing else.
//!
//! ```text
//! this process                                  child (`serve`)
//! ────────────                                  ───────────────
//! start: script, parameters ──────────────────► confine, interpret
//!            ◄──────────────── ask 7, tell ...  branches are threads; one waits for each ask
//! answer 7 ───────────────────────────────────►
//!            ◄───────────────────────── ended
//! ```
//!
//! Both ways go frames: a length of four bytes, the least first, and so many bytes of JSON.
//!
//! | against | by |
//! |---|---|
//! | reading or writing anything | system calls allowed by name, the others refused: none opens a file or a connection, and bytes pass the three descriptors it was born with only |
//! | other processes | threads may be made, processes not; no signals, no tracing |
//! | endless loops, memory | the language's own limits ([`groovy::limit`]), and behind them limits of the process: CPU time, address space, the first to die when memory is short |
//! | outliving its parent | its input ends, and a death signal |

use std::{
    collections::{BTreeMap, HashMap},
    io::{self, BufReader, Read, Write},
    process::ExitCode,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
};

use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, Signal};
use seccompiler::{
    SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::run::{
    Ended, Start,
    world::{Answer, Ask, Event, World},
};

/// Bytes of a frame.
pub const FRAME: usize = 48 << 20;
/// Bytes of address space: each branch has a stack, of which it uses little.
const ADDRESSES: u64 = 128 << 30;
/// Seconds of CPU.
const CPU: u64 = 600;
/// Descriptors.
const DESCRIPTORS: u64 = 16;

/// What the child says.
#[derive(Debug, Deserialize, Serialize)]
pub enum Said {
    /// It asks, under a number.
    Ask(u64, Ask),
    /// It tells.
    Tell(Event),
    /// What is asked below a key is to end.
    Interrupt {
        /// How keys begin.
        below: String,
        /// Why.
        reason: String,
    },
    /// The script has come to its end.
    Ended(Ended),
}

/// What it is told.
#[derive(Debug, Deserialize, Serialize)]
pub enum Told {
    /// What to do.
    Start(Box<Start>),
    /// An answer.
    Answer(u64, Answer),
}

/// A frame's bytes.
///
/// # Errors
/// It is too long.
pub fn frame<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, value)?;
    let length = bytes.len() - 4;
    if length > FRAME {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("{length} bytes; at most {FRAME} can be passed"),
        ));
    }
    bytes[..4].copy_from_slice(&(length as u32).to_le_bytes());
    Ok(bytes)
}

fn read<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is too long"));
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)?;
    Ok(Some(serde_json::from_slice(&bytes)?))
}

/// The child's life: confines itself, reads what to do from standard input, does it, says so on standard output.
pub fn serve() -> ExitCode {
    match confine().and_then(|()| interpret()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("interpreter: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn interpret() -> anyhow::Result<()> {
    let mut input = BufReader::new(io::stdin());
    let start = match read(&mut input)? {
        Some(Told::Start(start)) => *start,
        _ => anyhow::bail!("nothing was said of what to do"),
    };
    let line = Arc::new(Line { out: Mutex::new(io::stdout()), waiting: Mutex::default() });
    let listening = line.clone();
    std::thread::Builder::new().name("answers".into()).stack_size(256 << 10).spawn(move || {
        while let Ok(Some(told)) = read::<Told>(&mut input) {
            if let Told::Answer(number, answer) = told
                && let Some(waiting) = listening.waiting().answers.remove(&number)
            {
                let _ = waiting.send(answer);
            }
        }
        // Nobody is left to ask.
        std::process::exit(0);
    })?;
    let ended = crate::run::run(start, line.clone());
    line.say(&Said::Ended(ended));
    Ok(())
}

/// The child's world: on the other end of a line.
struct Line {
    out: Mutex<io::Stdout>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    last: u64,
    answers: HashMap<u64, mpsc::Sender<Answer>>,
}

impl Line {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it was said.
    fn say(&self, said: &Said) -> bool {
        let Ok(frame) = frame(said) else { return false };
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        out.write_all(&frame).and_then(|()| out.flush()).is_ok()
    }
}

impl World for Line {
    fn ask(&self, ask: &Ask) -> Answer {
        let (sender, answer) = mpsc::channel();
        let number = {
            let mut waiting = self.waiting();
            waiting.last += 1;
            let number = waiting.last;
            waiting.answers.insert(number, sender);
            number
        };
        if !self.say(&Said::Ask(number, ask.clone())) {
            self.waiting().answers.remove(&number);
            let message = format!("{}: what it is given is too long", ask.name);
            return Answer::Failed { class: "IllegalArgumentException".into(), message };
        }
        answer.recv().unwrap_or_else(|_| Answer::Gone("nobody answers any more".into()))
    }

    fn tell(&self, event: Event) {
        self.say(&Said::Tell(event));
    }

    fn interrupt(&self, below: &str, reason: &str) {
        self.say(&Said::Interrupt { below: below.into(), reason: reason.into() });
    }
}

/// Gives up whatever interpreting does not take. Cannot be undone.
fn confine() -> anyhow::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).context("set death signal")?;
    // The one to end where memory is short, before anything that serves others.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    for (resource, value) in [
        (Resource::As, ADDRESSES),
        (Resource::Cpu, CPU),
        (Resource::Core, 0),
        (Resource::Nofile, DESCRIPTORS),
        (Resource::Fsize, 0),
        (Resource::Memlock, 0),
        (Resource::Msgqueue, 0),
    ] {
        let lowered = Rlimit { current: Some(value), maximum: Some(value) };
        rustix::process::setrlimit(resource, lowered).context("set resource limits")?;
    }
    rustix::thread::set_no_new_privs(true).context("set no_new_privs")?;
    filter().context("filter system calls")
}

fn filter() -> anyhow::Result<()> {
    let free = [
        libc::SYS_brk,
        libc::SYS_mmap,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_mprotect,
        libc::SYS_madvise,
        libc::SYS_futex,
        libc::SYS_getrandom,
        libc::SYS_clock_gettime,
        libc::SYS_clock_nanosleep,
        libc::SYS_sched_yield,
        libc::SYS_sched_getaffinity,
        libc::SYS_sigaltstack,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_restart_syscall,
        libc::SYS_set_robust_list,
        libc::SYS_rseq,
        libc::SYS_gettid,
        libc::SYS_getpid,
        libc::SYS_prctl,
        libc::SYS_exit,
        libc::SYS_exit_group,
    ];
    let mut rules: BTreeMap<_, _> = free.into_iter().map(|call| (call, Vec::new())).collect();
    let only = |argument, operation, value| -> anyhow::Result<Vec<SeccompRule>> {
        let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operation, value)?;
        Ok(vec![SeccompRule::new(vec![condition])?])
    };
    for call in [libc::SYS_read, libc::SYS_write, libc::SYS_writev, libc::SYS_readv] {
        rules.insert(call, only(0, SeccompCmpOp::Le, 2)?);
    }
    // Threads, and no processes. `clone3` is refused as unknown, after which the C library takes this one.
    let thread = libc::CLONE_THREAD as u64;
    rules.insert(libc::SYS_clone, only(0, SeccompCmpOp::MaskedEq(thread), thread)?);
    let machine = TargetArch::try_from(std::env::consts::ARCH)?;
    let refuse = SeccompAction::Errno(libc::ENOSYS as u32);
    let filter = SeccompFilter::new(rules, refuse, SeccompAction::Allow, machine)?;
    let program: seccompiler::BpfProgram = filter.try_into()?;
    seccompiler::apply_filter(&program)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_as_it_was_written() {
        let bytes = frame(&Told::Answer(7, Answer::Done("x".into()))).unwrap();
        match read::<Told>(&mut &bytes[..]).unwrap() {
            Some(Told::Answer(7, Answer::Done(value))) => assert_eq!(value, "x"),
            other => panic!("{other:?}"),
        }
        assert!(read::<Told>(&mut &bytes[..0]).unwrap().is_none());
        assert!(read::<Told>(&mut &bytes[..6]).is_err());
        assert!(read::<Told>(&mut &[0xff, 0xff, 0xff, 0xff, 0][..]).is_err());
    }
}
