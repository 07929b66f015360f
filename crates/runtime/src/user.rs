//! Who a container's first process is: numbers from an image's user string and its `/etc/passwd` and `/etc/group`.
//!
//! ```text
//! user string   NAME | UID | NAME:GROUP | UID:GID | NAME:GID | UID:GROUP | empty (root)
//! ```

use std::{collections::BTreeSet, path::PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::description::{GroupsPolicy, Security};

/// Numbers of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Further groups, ascending, the primary one among them.
    pub groups: Vec<u32>,
    /// Home directory, where the image tells one.
    pub home: Option<String>,
}

/// The two databases, as text.
#[derive(Clone, Debug, Default)]
pub struct Databases {
    /// `/etc/passwd`.
    pub passwd: String,
    /// `/etc/group`.
    pub group: String,
}

struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

impl Databases {
    /// Reads them from the layers of an image, the uppermost first. An entry in a layer hides those below it, as overlay
    /// does; links are not followed (an image whose `/etc` or `passwd` is a link has no users but numbers).
    pub fn read(layers: &[PathBuf]) -> Self {
        Self { passwd: from_layers(layers, "passwd"), group: from_layers(layers, "group") }
    }

    fn accounts(&self) -> impl Iterator<Item = Account<'_>> {
        self.passwd.lines().filter_map(|line| {
            let mut fields = line.trim().split(':');
            let (name, uid, gid) = (fields.next()?, fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
            Some(Account { name, uid, gid, home: fields.nth(1).unwrap_or("") })
        })
    }

    fn groups(&self) -> impl Iterator<Item = Group<'_>> {
        self.group.lines().filter_map(|line| {
            let mut fields = line.trim().split(':');
            let (name, gid) = (fields.next()?, fields.nth(1)?.parse().ok()?);
            Some(Group { name, gid, members: fields.next().unwrap_or("") })
        })
    }
}

/// Largest database that is read: more is no user database.
const LIMIT: u64 = 1 << 20;

fn from_layers(layers: &[PathBuf], file: &str) -> String {
    for layer in layers {
        let Ok(etc) = std::fs::symlink_metadata(layer.join("etc")) else { continue };
        if !etc.is_dir() {
            return String::new();
        }
        let path = layer.join("etc").join(file);
        match std::fs::symlink_metadata(&path) {
            Ok(found) if found.is_file() && found.len() <= LIMIT => {
                return std::fs::read(&path)
                    .map(|text| String::from_utf8_lossy(&text).into_owned())
                    .unwrap_or_default();
            }
            Ok(_) => return String::new(),
            Err(_) => {}
        }
    }
    String::new()
}

/// The numbers for `security` over the image's user string.
pub fn resolve(image_user: &str, security: &Security, databases: &Databases) -> Result<User> {
    let text = security.user.as_deref().unwrap_or(image_user);
    let (user_text, group_text) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (text, None),
    };
    let number = user_text.parse::<u32>().ok();
    let account = match number {
        Some(uid) => databases.accounts().find(|account| account.uid == uid),
        None if user_text.is_empty() => databases.accounts().find(|account| account.uid == 0),
        None => databases.accounts().find(|account| account.name == user_text),
    };
    let uid = match (&account, number) {
        (Some(account), _) => account.uid,
        (None, Some(uid)) => uid,
        (None, None) if user_text.is_empty() || user_text == "root" => 0,
        (None, None) => bail!("no user {user_text:?} in the image"),
    };
    let mut gid = account.as_ref().map_or(0, |account| account.gid);
    let mut explicit = false;
    if let Some(text) = group_text {
        gid = match text.parse() {
            Ok(gid) => gid,
            Err(_) => {
                databases
                    .groups()
                    .find(|group| group.name == text)
                    .with_context(|| format!("no group {text:?} in the image"))?
                    .gid
            }
        };
        explicit = true;
    }
    if let Some(group) = security.group {
        gid = group;
        explicit = false;
    }
    let mut groups = BTreeSet::from([gid]);
    if let Some(account) = account.as_ref().filter(|_| security.groups_policy == GroupsPolicy::Merge && !explicit) {
        for group in databases.groups() {
            if group.members.split(',').any(|member| member.trim() == account.name) {
                groups.insert(group.gid);
            }
        }
    }
    groups.extend(&security.supplemental_groups);
    let home = account.map(|account| account.home.to_owned()).filter(|home| !home.is_empty());
    Ok(User { uid, gid, groups: groups.into_iter().collect(), home })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn databases() -> Databases {
        Databases {
            passwd: "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000::/srv:/bin/sh\nbroken\n".into(),
            group: "root:x:0:\nweb:x:1000:\nstaff:x:50000:web,other\nother:x:7:other\n".into(),
        }
    }

    #[test]
    fn users_and_groups_come_from_the_image() {
        let none = Security::default;
        let with = |user: &str, group: Option<u32>, extra: &[u32], groups_policy| Security {
            user: (!user.is_empty()).then(|| user.to_owned()),
            group,
            supplemental_groups: extra.to_vec(),
            groups_policy,
            ..none()
        };
        use GroupsPolicy::*;
        type Case = (&'static str, Security, (u32, u32, Vec<u32>));
        let cases: Vec<Case> = vec![
            ("", none(), (0, 0, vec![0])),
            ("web", none(), (1000, 1000, vec![1000, 50000])),
            ("1000", none(), (1000, 1000, vec![1000, 50000])),
            ("1000:0", none(), (1000, 0, vec![0])),
            ("web:other", none(), (1000, 7, vec![7])),
            ("4711", none(), (4711, 0, vec![0])),
            ("web", with("5", None, &[], Merge), (5, 0, vec![0])),
            ("web", with("", Some(9), &[60000], Merge), (1000, 9, vec![9, 50000, 60000])),
            ("web", with("1000", Some(9), &[60000], Strict), (1000, 9, vec![9, 60000])),
        ];
        for (image_user, security, (uid, gid, groups)) in cases {
            let user = resolve(image_user, &security, &databases()).unwrap();
            assert_eq!((user.uid, user.gid, user.groups), (uid, gid, groups), "{image_user} {security:?}");
        }
        assert!(resolve("nobody", &none(), &databases()).is_err());
        assert!(resolve("web:nobody", &none(), &databases()).is_err());
    }

    #[test]
    fn an_upper_layer_hides_a_lower_one() {
        let dir = tempfile::tempdir().unwrap();
        let (top, bottom) = (dir.path().join("top"), dir.path().join("bottom"));
        for (layer, text) in [(&top, "a:x:1:1::/:\n"), (&bottom, "b:x:2:2::/:\n")] {
            std::fs::create_dir_all(layer.join("etc")).unwrap();
            std::fs::write(layer.join("etc/passwd"), text).unwrap();
        }
        let databases = Databases::read(&[top, bottom]);
        assert_eq!(databases.accounts().map(|account| account.uid).collect::<Vec<_>>(), [1]);
    }
}
