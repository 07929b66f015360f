//! Users and groups by name, as a container's own files have them.
//!
//! The files are read inside the root file system: a link in an image that points outside, or climbs, ends at the image's
//! root (`openat2` with `RESOLVE_IN_ROOT`).
//!
//! The form `user[:group]` with names or numbers is that of an image's `config.User`:
//! <https://github.com/opencontainers/image-spec/blob/main/config.md>.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use rustix::fs::{Mode, OFlags, ResolveFlags};

/// Bytes of `passwd` or `group` read at most.
const LIMIT: u64 = 4 << 20;

/// A user to run as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Groups whose members include the user by name, without `gid`.
    pub groups: Vec<u32>,
    /// Home directory; `/` where the user has none.
    pub home: String,
    /// The user's name, where it has one.
    pub name: Option<String>,
}

/// Why a user cannot be found.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such name.
    #[error("unable to find user {0}: no matching entries in passwd file")]
    User(String),
    /// No such name.
    #[error("unable to find group {0}: no matching entries in group file")]
    Group(String),
    /// A number over the largest.
    #[error("user or group number {0} is out of range")]
    Range(String),
    /// The files cannot be read.
    #[error("read {file} of the image: {source}")]
    Io {
        /// Which file.
        file: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// Finds `user[:group]` in the root file system at `root`; empty is user 0.
pub fn resolve(root: &Path, user: &str) -> Result<User, Error> {
    resolve_in(&Directories::open(std::slice::from_ref(&root))?, user)
}

/// The same in layers that are not mounted, the topmost first: the first that has a file counts, unless one above has
/// removed it.
pub fn resolve_in_layers<P: AsRef<Path>>(layers: &[P], user: &str) -> Result<User, Error> {
    resolve_in(&Directories::open(layers)?, user)
}

fn resolve_in(root: &Directories, user: &str) -> Result<User, Error> {
    let passwd = root.read("etc/passwd").map_err(|source| Error::Io { file: "etc/passwd", source })?;
    let group = root.read("etc/group").map_err(|source| Error::Io { file: "etc/group", source })?;
    find(&passwd, &group, user)
}

/// Finds `user[:group]` in the texts of the two files.
pub fn find(passwd: &str, group: &str, user: &str) -> Result<User, Error> {
    let (user, wanted) = user.split_once(':').map_or((user, None), |(user, group)| (user, Some(group)));
    let user = if user.is_empty() { "0" } else { user };
    let accounts = passwd.lines().filter_map(Account::parse);
    let number = numeric(user)?;
    // A name of digits is a name first, as in every runtime.
    let account = accounts.clone().find(|account| account.name == user);
    let account = account.or_else(|| number.and_then(|uid| accounts.clone().find(|account| account.uid == uid)));
    let (uid, default) = match (&account, number) {
        (Some(account), _) => (account.uid, account.gid),
        (None, Some(uid)) => (uid, 0),
        (None, None) => return Err(Error::User(user.into())),
    };
    let gid = match wanted.filter(|group| !group.is_empty()) {
        None => default,
        Some(wanted) => {
            let named = group.lines().filter_map(Group::parse).find(|group| group.name == wanted);
            match (named, numeric(wanted)?) {
                (Some(group), _) => group.gid,
                (None, Some(gid)) => gid,
                (None, None) => return Err(Error::Group(wanted.into())),
            }
        }
    };
    let name = account.as_ref().map(|account| account.name.to_owned());
    let mut groups = Vec::new();
    // With a group given, that one alone counts.
    if let (Some(name), true) = (&name, wanted.is_none_or(str::is_empty)) {
        for group in group.lines().filter_map(Group::parse) {
            if group.gid != gid && !groups.contains(&group.gid) && group.members.split(',').any(|member| member == name)
            {
                groups.push(group.gid);
            }
        }
    }
    let home = account.map(|account| account.home).filter(|home| !home.is_empty()).unwrap_or("/").to_owned();
    Ok(User { uid, gid, groups, home, name })
}

/// The groups that a user given by number is in by name, for `supplementalGroupsPolicy: Merge`.
pub fn groups_of(passwd: &str, group: &str, uid: u32) -> Vec<u32> {
    let Some(account) = passwd.lines().filter_map(Account::parse).find(|account| account.uid == uid) else {
        return Vec::new();
    };
    let member = |group: &Group<'_>| group.members.split(',').any(|member| member == account.name);
    group.lines().filter_map(Group::parse).filter(member).map(|group| group.gid).collect()
}

/// The home directory of a user in the text of a `passwd` file.
pub fn home(passwd: &str, uid: u32) -> Option<&str> {
    let account = passwd.lines().filter_map(Account::parse).find(|account| account.uid == uid)?;
    Some(account.home).filter(|home| home.starts_with('/'))
}

fn numeric(text: &str) -> Result<Option<u32>, Error> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    // The highest numbers mean "no user" to the kernel.
    match text.parse::<u32>() {
        Ok(number) if number <= i32::MAX as u32 => Ok(Some(number)),
        _ => Err(Error::Range(text.into())),
    }
}

#[derive(Clone)]
struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

impl<'a> Account<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.trim_end().split(':');
        let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
        fields.next()?;
        let (uid, gid) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        fields.next();
        Some(Self { name, uid, gid, home: fields.next().unwrap_or_default() })
    }
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

impl<'a> Group<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.trim_end().split(':');
        let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
        fields.next()?;
        Some(Self { name, gid: fields.next()?.parse().ok()?, members: fields.next().unwrap_or_default() })
    }
}

/// Root directories, the topmost first.
struct Directories(Vec<OwnedFd>);

impl Directories {
    fn open<P: AsRef<Path>>(layers: &[P]) -> Result<Self, Error> {
        let open = |layer: &P| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::open(layer.as_ref(), flags, Mode::empty())
                .map_err(|error| Error::Io { file: "root", source: error.into() })
        };
        layers.iter().map(open).collect::<Result<_, _>>().map(Self)
    }

    /// The file's text in the first layer that has it; empty where none does, or one above has removed it.
    fn read(&self, file: &str) -> io::Result<String> {
        for layer in &self.0 {
            match open_in(layer, file) {
                Ok(found) => {
                    let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode);
                    // A character device 0:0 is how an overlay marks what was removed; others are not worth reading either.
                    if kind != rustix::fs::FileType::RegularFile {
                        return Ok(String::new());
                    }
                    let mut bytes = Vec::new();
                    File::from(found).take(LIMIT).read_to_end(&mut bytes)?;
                    return Ok(String::from_utf8_lossy(&bytes).into_owned());
                }
                Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(String::new())
    }
}

/// Opens a file for reading as if `root` were the root directory. Devices and pipes are not waited for.
pub(crate) fn open_in(root: impl AsFd, file: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let found = rustix::fs::openat2(&root, file, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)?;
    let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode);
    if kind != rustix::fs::FileType::RegularFile {
        // Opening a device may do things.
        return Ok(found);
    }
    rustix::fs::openat2(&root, file, flags, Mode::empty(), resolve)
}

#[cfg(test)]
mod tests;
