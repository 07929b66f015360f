//! How long things take and how much memory a shim has. Not tests: run with `--ignored --nocapture`, and with
//! `MADANG_SHIM` naming the real thing.

use std::{fs, time::Instant};

use crate::sandbox::{Sandbox, as_root};

fn pss(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn median(mut times: Vec<f64>) -> String {
    times.sort_by(f64::total_cmp);
    format!("min {:.2} median {:.2} max {:.2} ms", times[0], times[times.len() / 2], times[times.len() - 1])
}

#[test]
#[ignore = "a measurement"]
fn times() {
    as_root(async {
        let mut pod = Sandbox::new().await;
        let spec = pod.spec_of(&["/bin/true"]);
        let (mut all, mut create, mut start, mut wait, mut delete) = (vec![], vec![], vec![], vec![], vec![]);
        for _ in 0..50 {
            let rootfs = pod.rootfs("c");
            let (typed, stdio) = (crate::sandbox::typed(&spec), pod.stdio("c"));
            let begin = Instant::now();
            let mut last = begin;
            let mut lap = |list: &mut Vec<f64>| {
                list.push(last.elapsed().as_secs_f64() * 1e3);
                last = Instant::now();
            };
            pod.shim.create("c", &typed, &rootfs, &stdio).await.unwrap();
            lap(&mut create);
            pod.shim.start("c").await.unwrap();
            lap(&mut start);
            pod.exit("c").await;
            lap(&mut wait);
            pod.shim.delete("c", false).await.unwrap();
            lap(&mut delete);
            all.push(begin.elapsed().as_secs_f64() * 1e3);
        }
        println!("create+start+wait+delete: {}", median(all));
        println!("create {}", median(create));
        println!("start  {}", median(start));
        println!("wait   {}", median(wait));
        println!("delete {}", median(delete));
        let spec = pod.spec("sleep 1000");
        pod.start("s", &spec).await.unwrap();
        let mut execs = vec![];
        for _ in 0..50 {
            let begin = Instant::now();
            let exec = pod.shim.exec("s", &pod.process(&["/bin/true"]), false, false).await.unwrap();
            crate::sandbox::finish(exec).await;
            execs.push(begin.elapsed().as_secs_f64() * 1e3);
        }
        println!("exec {}", median(execs));
        pod.end().await;
    });
}

#[test]
#[ignore = "a measurement"]
fn memory() {
    as_root(async {
        let mut pods = Vec::new();
        let mut launches = vec![];
        for _ in 0..50 {
            let begin = Instant::now();
            let pod = Sandbox::new().await;
            launches.push(begin.elapsed().as_secs_f64() * 1e3);
            let spec = pod.spec_of(&["/bin/sleep", "1000"]);
            pod.start("c", &spec).await.unwrap();
            if pods.is_empty() {
                println!("alone: {} KiB PSS", pss(pod.shim.pid()));
            }
            pods.push(pod);
        }
        println!("launch with the test's own preparations: {}", median(launches));
        let sum: u64 = pods.iter().map(|pod| pss(pod.shim.pid())).sum();
        println!("one of 50: {} KiB PSS", sum / 50);
        if std::env::var_os("SMAPS").is_some() {
            println!("{}", fs::read_to_string(format!("/proc/{}/smaps", pods[0].shim.pid())).unwrap());
        }
        for pod in pods {
            pod.end().await;
        }
    });
}
