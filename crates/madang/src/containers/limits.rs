//! Flags of `madang run` about what a container may take and how it is set apart: the less usual half.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Value, json};

use super::run::bytes;

/// Limits, health, logs, mounts in the longer form, namespaces.
#[derive(Args, Debug)]
pub struct Limits {
    /// Weight of its processor time
    #[arg(short, long, value_name = "N")]
    cpu_shares: Option<i64>,
    /// Microseconds of a period of processor time
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_period: Option<i64>,
    /// Microseconds of processor time a period
    #[arg(long, value_name = "MICROSECONDS", allow_negative_numbers = true)]
    cpu_quota: Option<i64>,
    /// Processors that it may use, such as 0-2,4
    #[arg(long, value_name = "LIST", default_value = "")]
    cpuset_cpus: String,
    /// Memory nodes that it may use
    #[arg(long, value_name = "LIST", default_value = "")]
    cpuset_mems: String,
    /// Memory that is not taken away
    #[arg(long, value_name = "BYTES")]
    memory_reservation: Option<String>,
    /// Memory and swap together; -1 for no limit
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true)]
    memory_swap: Option<String>,
    /// How readily memory is swapped out, 0 to 100
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    memory_swappiness: Option<i64>,
    /// Weight of its disk time, 10 to 1000
    #[arg(long, value_name = "N")]
    blkio_weight: Option<u16>,
    /// PATH:WEIGHT (repeatable)
    #[arg(long, value_name = "DEVICE")]
    blkio_weight_device: Vec<String>,
    /// PATH:BYTES a second (repeatable)
    #[arg(long, value_name = "RATE")]
    device_read_bps: Vec<String>,
    /// PATH:BYTES a second (repeatable)
    #[arg(long, value_name = "RATE")]
    device_write_bps: Vec<String>,
    /// PATH:REQUESTS a second (repeatable)
    #[arg(long, value_name = "RATE")]
    device_read_iops: Vec<String>,
    /// PATH:REQUESTS a second (repeatable)
    #[arg(long, value_name = "RATE")]
    device_write_iops: Vec<String>,
    /// Such as `c 10:200 rwm` (repeatable)
    #[arg(long, value_name = "RULE")]
    device_cgroup_rule: Vec<String>,
    /// Wait for memory instead of killing
    #[arg(long)]
    oom_kill_disable: bool,
    /// -1000 to 1000
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    oom_score_adj: i32,
    /// Group above its own
    #[arg(long, value_name = "PATH", default_value = "")]
    cgroup_parent: String,
    /// host, or private
    #[arg(long, value_name = "MODE", default_value = "")]
    cgroupns: String,
    /// host
    #[arg(long, value_name = "MODE", default_value = "")]
    userns: String,
    /// host
    #[arg(long, value_name = "MODE", default_value = "")]
    uts: String,
    /// Option of the resolver (repeatable)
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION")]
    dns_option: Vec<String>,
    /// Domain to search (repeatable)
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// CONTAINER[:ALIAS] (repeatable)
    #[arg(long, value_name = "CONTAINER")]
    link: Vec<String>,
    /// json-file, local or none
    #[arg(long, value_name = "DRIVER", default_value = "")]
    log_driver: String,
    /// NAME=VALUE, such as max-size=10m (repeatable)
    #[arg(long, value_name = "NAME=VALUE")]
    log_opt: Vec<String>,
    /// type=bind,source=PATH,target=PATH and so on (repeatable)
    #[arg(long, value_name = "MOUNT")]
    mount: Vec<String>,
    /// Driver of anonymous volumes
    #[arg(long, value_name = "DRIVER", default_value = "")]
    volume_driver: String,
    /// Name of the runtime
    #[arg(long, value_name = "NAME", default_value = "")]
    runtime: String,
    /// NAME=VALUE for the runtime (repeatable)
    #[arg(long, value_name = "NAME=VALUE")]
    annotation: Vec<String>,
    /// Time between two looks at its health, such as 30s
    #[arg(long, value_name = "DURATION")]
    health_interval: Option<String>,
    /// Time for one look
    #[arg(long, value_name = "DURATION")]
    health_timeout: Option<String>,
    /// Time in which failures do not count
    #[arg(long, value_name = "DURATION")]
    health_start_period: Option<String>,
    /// Time between two looks until then
    #[arg(long, value_name = "DURATION")]
    health_start_interval: Option<String>,
    /// Failures in a row that make it unhealthy
    #[arg(long, value_name = "N")]
    health_retries: Option<i64>,
    /// Do not look at its health, whatever the image says
    #[arg(long)]
    no_healthcheck: bool,
}

impl Limits {
    /// Puts what the flags mean into `HostConfig`.
    pub fn put(&self, host: &mut Value) -> Result<()> {
        let size = |text: &Option<String>| -> Result<Option<i64>> {
            match text.as_deref() {
                Some("-1") => Ok(Some(-1)),
                Some(text) => bytes(text).map(Some),
                None => Ok(None),
            }
        };
        let rates = |list: &[String], sizes: bool| -> Result<Vec<Value>> {
            let one = |text: &String| {
                let Some((path, rate)) = text.rsplit_once(':') else { bail!("{text}: expected PATH:RATE") };
                let rate =
                    if sizes { bytes(rate)? } else { rate.parse().with_context(|| format!("rate of {text}"))? };
                Ok(json!({"Path": path, "Rate": rate}))
            };
            list.iter().map(one).collect()
        };
        let weight = |text: &String| {
            let Some((path, weight)) = text.rsplit_once(':') else { bail!("{text}: expected PATH:WEIGHT") };
            let weight: u16 = weight.parse().with_context(|| format!("weight of {text}"))?;
            Ok(json!({"Path": path, "Weight": weight}))
        };
        let weights: Vec<Value> = self.blkio_weight_device.iter().map(weight).collect::<Result<_>>()?;
        let mounts: Vec<Value> = self.mount.iter().map(|text| mount(text)).collect::<Result<_>>()?;
        let set = json!({
            "CpuShares": self.cpu_shares, "CpuPeriod": self.cpu_period, "CpuQuota": self.cpu_quota,
            "CpusetCpus": self.cpuset_cpus, "CpusetMems": self.cpuset_mems,
            "MemoryReservation": size(&self.memory_reservation)?, "MemorySwap": size(&self.memory_swap)?,
            "MemorySwappiness": self.memory_swappiness, "BlkioWeight": self.blkio_weight,
            "BlkioWeightDevice": weights, "BlkioDeviceReadBps": rates(&self.device_read_bps, true)?,
            "BlkioDeviceWriteBps": rates(&self.device_write_bps, true)?,
            "BlkioDeviceReadIOps": rates(&self.device_read_iops, false)?,
            "BlkioDeviceWriteIOps": rates(&self.device_write_iops, false)?,
            "DeviceCgroupRules": self.device_cgroup_rule, "OomKillDisable": self.oom_kill_disable,
            "OomScoreAdj": self.oom_score_adj, "CgroupParent": self.cgroup_parent, "CgroupnsMode": self.cgroupns,
            "UsernsMode": self.userns, "UTSMode": self.uts, "DnsOptions": self.dns_option,
            "DnsSearch": self.dns_search, "Links": self.link,
            "LogConfig": {"Type": self.log_driver, "Config": pairs(&self.log_opt, "--log-opt")?},
            "Mounts": mounts, "VolumeDriver": self.volume_driver, "Runtime": self.runtime,
            "Annotations": pairs(&self.annotation, "--annotation")?,
        });
        if let (Some(host), Value::Object(set)) = (host.as_object_mut(), set) {
            host.extend(set.into_iter().filter(|(_, value)| !value.is_null()));
        }
        Ok(())
    }

    /// The health check that the flags mean with `command`; none where they say nothing.
    pub fn health(&self, command: Option<&str>) -> Result<Option<Value>> {
        let nanoseconds = |text: &Option<String>| -> Result<u64> {
            let Some(text) = text else { return Ok(0) };
            let found = duration(text).with_context(|| format!("{text:?} is no duration such as 30s"))?;
            Ok(u64::try_from(found.as_nanos()).unwrap_or(u64::MAX))
        };
        let check = json!({
            "Interval": nanoseconds(&self.health_interval)?, "Timeout": nanoseconds(&self.health_timeout)?,
            "StartPeriod": nanoseconds(&self.health_start_period)?,
            "StartInterval": nanoseconds(&self.health_start_interval)?, "Retries": self.health_retries.unwrap_or(0),
        });
        let says = check.as_object().is_some_and(|fields| fields.values().any(|value| value != 0));
        match (self.no_healthcheck, command) {
            (true, None) if !says => Ok(Some(json!({"Test": ["NONE"]}))),
            (true, _) => bail!("--no-healthcheck conflicts with --health-* options"),
            (false, None) if !says => Ok(None),
            (false, command) => {
                let mut check = check;
                check["Test"] = command.map_or_else(|| json!([]), |command| json!(["CMD-SHELL", command]));
                Ok(Some(check))
            }
        }
    }
}

fn pairs(list: &[String], flag: &str) -> Result<BTreeMap<String, String>> {
    let pair = |text: &String| match text.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => bail!("{flag} {text}: expected NAME=VALUE"),
    };
    list.iter().map(pair).collect()
}

/// `1h30m`, `1.5s`, `300ms`.
fn duration(text: &str) -> Option<std::time::Duration> {
    let (mut left, mut seconds) = (text, 0.0);
    while !left.is_empty() {
        let digits = left.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let number: f64 = left[..digits].parse().ok()?;
        let rest = &left[digits..];
        let unit = rest.find(|letter: char| letter.is_ascii_digit() || letter == '.').unwrap_or(rest.len());
        let factor = match &rest[..unit] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += number * factor;
        left = &rest[unit..];
    }
    std::time::Duration::try_from_secs_f64(seconds).ok().filter(|_| !text.is_empty())
}

/// A mount in the longer form: <https://docs.docker.com/engine/storage/volumes/#options-for---mount>.
fn mount(text: &str) -> Result<Value> {
    let mut mount = json!({"Type": "volume"});
    let (mut labels, mut driver, mut tmpfs) = (BTreeMap::new(), BTreeMap::new(), json!({}));
    for option in text.split(',') {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let flag = || match value {
            "" | "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => bail!("--mount {text}: {name} is true or false"),
        };
        let pair = || match value.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => (value.to_owned(), String::new()),
        };
        match name {
            "type" => mount["Type"] = value.into(),
            "source" | "src" => mount["Source"] = value.into(),
            "target" | "dst" | "destination" => mount["Target"] = value.into(),
            "readonly" | "ro" => mount["ReadOnly"] = flag()?.into(),
            "consistency" => mount["Consistency"] = value.into(),
            "bind-propagation" => mount["BindOptions"]["Propagation"] = value.into(),
            "bind-nonrecursive" => mount["BindOptions"]["NonRecursive"] = flag()?.into(),
            "bind-recursive" => match value {
                "enabled" => {}
                "disabled" => mount["BindOptions"]["NonRecursive"] = true.into(),
                "writable" => mount["BindOptions"]["ReadOnlyNonRecursive"] = true.into(),
                "readonly" => mount["BindOptions"]["ReadOnlyForceRecursive"] = true.into(),
                _ => bail!("--mount {text}: bind-recursive is enabled, disabled, writable or readonly"),
            },
            "volume-nocopy" => mount["VolumeOptions"]["NoCopy"] = flag()?.into(),
            "volume-subpath" => mount["VolumeOptions"]["Subpath"] = value.into(),
            "volume-driver" => mount["VolumeOptions"]["DriverConfig"]["Name"] = value.into(),
            "volume-label" => drop(labels.insert(pair().0, pair().1)),
            "volume-opt" => drop(driver.insert(pair().0, pair().1)),
            "image-subpath" => mount["ImageOptions"]["Subpath"] = value.into(),
            "tmpfs-size" => tmpfs["SizeBytes"] = bytes(value)?.into(),
            "tmpfs-mode" => {
                let mode = u32::from_str_radix(value, 8);
                tmpfs["Mode"] =
                    mode.with_context(|| format!("--mount {text}: {value:?} are no permission bits"))?.into();
            }
            _ => bail!("--mount {text}: there is no option {name}"),
        }
    }
    if !labels.is_empty() {
        mount["VolumeOptions"]["Labels"] = json!(labels);
    }
    if !driver.is_empty() {
        mount["VolumeOptions"]["DriverConfig"]["Options"] = json!(driver);
    }
    if tmpfs.as_object().is_some_and(|fields| !fields.is_empty()) {
        mount["TmpfsOptions"] = tmpfs;
    }
    // A path that is relative is this process's.
    if mount["Type"] == "bind"
        && let Some(source) = mount["Source"].as_str().filter(|source| !source.starts_with('/'))
    {
        let whole = std::path::absolute(source).with_context(|| format!("--mount {text}: path {source}"))?;
        mount["Source"] = whole.to_string_lossy().into();
    }
    if mount["Target"].as_str().is_none_or(str::is_empty) {
        bail!("--mount {text}: target is required");
    }
    Ok(mount)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        limits: Limits,
    }

    fn limits(line: &str) -> Limits {
        Flags::try_parse_from(std::iter::once("run").chain(line.split_whitespace())).unwrap().limits
    }

    #[test]
    fn mounts_in_the_longer_form_are_read() {
        assert_eq!(
            mount("type=bind,src=/a,dst=/b,ro,bind-propagation=rslave").unwrap(),
            json!({"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": true,
                   "BindOptions": {"Propagation": "rslave"}})
        );
        assert_eq!(
            mount("source=data,target=/b,volume-opt=type=nfs,volume-label=a=b").unwrap(),
            json!({"Type": "volume", "Source": "data", "Target": "/b",
                   "VolumeOptions": {"Labels": {"a": "b"}, "DriverConfig": {"Options": {"type": "nfs"}}}})
        );
        assert_eq!(
            mount("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770").unwrap(),
            json!({"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 1 << 20, "Mode": 0o1770}})
        );
        for bad in ["type=bind,src=/a", "target=/b,what=1", "target=/b,ro=maybe", "target=/b,tmpfs-mode=9"] {
            assert!(mount(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_not_said_is_not_sent() {
        let mut host = json!({});
        limits("--memory-swap -1 --cpu-shares 5 --device-read-bps /dev/vda:1m").put(&mut host).unwrap();
        assert_eq!((&host["MemorySwap"], &host["CpuShares"]), (&json!(-1), &json!(5)));
        assert_eq!(host["BlkioDeviceReadBps"], json!([{"Path": "/dev/vda", "Rate": 1 << 20}]));
        assert!(host.get("CpuQuota").is_none());
    }

    #[test]
    fn health_is_told_in_nanoseconds_or_switched_off() {
        let found = limits("--health-interval 1m30s --health-retries 2").health(Some("true")).unwrap().unwrap();
        assert_eq!((&found["Interval"], &found["Test"]), (&json!(90_000_000_000_u64), &json!(["CMD-SHELL", "true"])));
        assert_eq!(limits("").health(None).unwrap(), None);
        assert_eq!(limits("--no-healthcheck").health(None).unwrap(), Some(json!({"Test": ["NONE"]})));
        assert!(limits("--no-healthcheck").health(Some("true")).is_err());
        assert!(limits("--health-interval soon").health(None).is_err());
    }
}
