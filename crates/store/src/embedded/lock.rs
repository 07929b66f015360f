//! The lock of a store's directory: two processes never open one.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::{Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::Path,
    time::Duration,
};

use crate::{Error, Result};

/// How often a lock is tried, and how long after each try. A process that was just ended may hold it for a moment, and so
/// may a child of this one between `fork` and `exec`.
const TRIES: u32 = 15;
const PAUSE: Duration = Duration::from_millis(20);

/// The held lock (`flock(2)`), released when it is dropped and when the process ends, however it ends.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "holding it open is its use")] File);

impl Lock {
    /// Makes the directory where it is absent, closes it to others, and locks it.
    pub fn take(dir: &Path) -> Result<Self> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(|error| Error::io(format!("make directory {}", dir.display()), error))?;
        let metadata = fs::metadata(dir).map_err(|error| Error::io(format!("look at {}", dir.display()), error))?;
        if metadata.permissions().mode() & 0o077 != 0 {
            fs::set_permissions(dir, Permissions::from_mode(0o700))
                .map_err(|error| Error::io(format!("close {} to other users", dir.display()), error))?;
        }
        let path = dir.join("lock");
        let failed = |error| Error::io(format!("lock {}", path.display()), error);
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let mut file = open.map_err(failed)?;
        let mut locked = file.try_lock();
        for _ in 0..TRIES {
            if !matches!(locked, Err(TryLockError::WouldBlock)) {
                break;
            }
            std::thread::sleep(PAUSE);
            locked = file.try_lock();
        }
        match locked {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.take(64).read_to_string(&mut holder);
                let holder = match holder.trim() {
                    "" => "another process".to_owned(),
                    pid => format!("process {pid}"),
                };
                return Err(Error::Locked { dir: dir.to_owned(), holder });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        // Only for the message above; a full disk must not keep the store from being read.
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self(file))
    }
}
