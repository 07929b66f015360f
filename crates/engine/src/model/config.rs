//! The part of a container that moves with its image: what runs, as whom, with which environment.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Deserializer, Serialize};

/// An object without fields, as Go writes members of a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {}

/// `Config` of the API.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Config {
    /// Host name inside.
    pub hostname: String,
    /// Domain name inside.
    pub domainname: String,
    /// `USER[:GROUP]`.
    pub user: String,
    /// What the client that made it attached to.
    pub attach_stdin: bool,
    /// What the client that made it attached to.
    pub attach_stdout: bool,
    /// What the client that made it attached to.
    pub attach_stderr: bool,
    /// `PORT/PROTOCOL`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Member>,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether its input is kept open.
    pub open_stdin: bool,
    /// Whether that ends with the first client.
    pub stdin_once: bool,
    /// `NAME=VALUE`; a name alone unsets the image's.
    pub env: Vec<String>,
    /// Arguments.
    #[serde(deserialize_with = "words")]
    pub cmd: Option<Vec<String>>,
    /// How its health is looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// The image's name as it was given.
    pub image: String,
    /// Paths that get volumes of their own.
    pub volumes: BTreeMap<String, Member>,
    /// Working directory.
    pub working_dir: String,
    /// First words of the command line.
    #[serde(deserialize_with = "words")]
    pub entrypoint: Option<Vec<String>>,
    /// No network at all.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub network_disabled: bool,
    /// Ethernet address, until 1.44.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mac_address: String,
    /// What a Dockerfile that begins with the image does first.
    pub on_build: Option<Vec<String>>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Signal that stops it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// Seconds until it is killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    /// Shell of the shell forms.
    #[serde(deserialize_with = "words", skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
}

/// `HealthConfig` of the API; durations are nanoseconds, 0 the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `NONE`, or `CMD` and words, or `CMD-SHELL` and a line; empty for the image's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Between two looks.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// For one look.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// In which failures do not count.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Between two looks in that time.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Failures in a row that make it unhealthy.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

impl Healthcheck {
    /// Whether there is anything to run.
    pub fn is_some(&self) -> bool {
        self.test.first().is_some_and(|kind| kind != "NONE")
    }

    /// A duration of nanoseconds, or its default.
    pub fn duration(nanoseconds: i64, default: Duration) -> Duration {
        u64::try_from(nanoseconds).ok().filter(|number| *number > 0).map_or(default, Duration::from_nanos)
    }
}

/// A list of words, or one.
fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        One(String),
        Many(Vec<String>),
    }
    Ok(Option::<Form>::deserialize(deserializer)?.map(|form| match form {
        Form::One(word) => vec![word],
        Form::Many(words) => words,
    }))
}
