//! Rows of `cargo xtask bench images` that build: the same Dockerfiles by Madang, by Debian's buildah, and by docker (--peers).
//!
//! ```text
//! turn: a file that nobody has seen ─► first build ─► the same again, nothing changed       in turns, each builder
//! three stages that need nothing of each other and wait ten seconds
//! ```

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result};
use serde_json::json;

use super::{
    median,
    peers::Docker,
    report::{Figure, Target},
};
use crate::{
    host, images,
    server::{Place, Server},
};

/// Debian's packages of what builds beside Madang.
pub const PACKAGES: &[host::Package] = &[("buildah", "/usr/bin/buildah"), ("runc", "/usr/sbin/runc")];
const TURNS: usize = 5;
const STEPS: usize = 20;

/// Who builds.
enum Builder<'a> {
    Madang(&'a Server),
    Buildah(Place, PathBuf),
    Docker(&'a Docker),
}

impl Builder<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::Madang(_) => "madang",
            Self::Buildah(..) => "buildah",
            Self::Docker(_) => "docker",
        }
    }

    /// How long a build of `context` takes, in milliseconds.
    fn build(&self, context: &Path) -> Result<f64> {
        let mut command = match self {
            Self::Madang(server) => {
                let mut command = server.madang();
                command.arg("build").arg("--run-dir").arg(server.run_dir());
                command
            }
            Self::Buildah(place, dir) => {
                let mut command = buildah(place, dir);
                command.args(["build", "--isolation", "chroot", "--layers", "--jobs", "3", "--pull-never"]);
                command
            }
            Self::Docker(docker) => {
                let mut command = docker.client();
                command.arg("build").env("DOCKER_BUILDKIT", "0");
                command
            }
        };
        command.args(["--tag", "bench:latest"]).arg(context);
        let started = Instant::now();
        let built = command.output().with_context(|| format!("start {}", self.name()))?;
        let took = started.elapsed().as_secs_f64() * 1e3;
        anyhow::ensure!(built.status.success(), "{}: {}", self.name(), String::from_utf8_lossy(&built.stderr));
        Ok(took)
    }
}

fn buildah(place: &Place, dir: &Path) -> Command {
    let mut command = place.inside(Path::new("buildah"));
    command.arg("--root").arg(dir.join("data")).arg("--runroot").arg(dir.join("run"));
    command
}

/// Measures the three rows on a running server.
pub fn measure(server: &Server, with_docker: bool) -> Result<Vec<Figure>> {
    let base = images::busybox()?.path;
    server.load(std::slice::from_ref(&base))?;
    let scratch = server.scratch("builds")?;
    let store = server.scratch("buildah")?;
    let place = server.namespace();
    host::output(buildah(&place, &store).arg("pull").arg(format!("docker-archive:{}", base.display())))?;
    let docker = with_docker.then(|| Docker::start(server, &base)).transpose()?;
    let mut builders = vec![Builder::Madang(server), Builder::Buildah(place, store)];
    builders.extend(docker.as_ref().map(Builder::Docker));
    let mut figures = steps(&builders, &scratch.join("steps"))?;
    figures.push(stages(&builders, &scratch.join("stages"))?);
    Ok(figures)
}

/// A Dockerfile of twenty steps, built for the first time and again.
fn steps(builders: &[Builder<'_>], context: &Path) -> Result<Vec<Figure>> {
    fs::create_dir_all(context.join("files"))?;
    for file in 0..100 {
        fs::write(context.join(format!("files/{file}")), format!("{file}\n").repeat(1000))?;
    }
    let mut text = format!("FROM {}\nCOPY turn /turn\nENV A=1\nWORKDIR /work\nCOPY files files\n", images::BUSYBOX);
    for step in 5..STEPS {
        writeln!(text, "RUN echo {step} > step{step}")?;
    }
    fs::write(context.join("Dockerfile"), text)?;
    let (mut first, mut again) = (vec![Vec::new(); builders.len()], vec![Vec::new(); builders.len()]);
    for turn in 0..TURNS {
        fs::write(context.join("turn"), format!("{} of {}", turn, std::process::id()))?;
        for (at, builder) in builders.iter().enumerate() {
            first[at].push(builder.build(context)?);
            again[at].push(builder.build(context)?);
        }
    }
    let beside = |all: &[Vec<f64>]| -> Vec<(String, f64)> {
        builders
            .iter()
            .zip(all)
            .skip(1)
            .map(|(builder, all)| (builder.name().to_owned(), median(all.clone())))
            .collect()
    };
    let fastest = |all: &[Vec<f64>]| beside(all).iter().map(|(_, took)| *took).fold(f64::INFINITY, f64::min);
    Ok(vec![
        Figure {
            name: "rebuild with nothing changed, 20 steps",
            value: median(again[0].clone()),
            unit: "ms",
            target: Target::AtMost((fastest(&again) / 10.0).min(50.0)),
            beside: beside(&again),
            detail: json!({ "ms": again }),
        },
        Figure {
            name: "first build of it",
            value: median(first[0].clone()),
            unit: "ms",
            target: Target::AtMost(fastest(&first)),
            beside: beside(&first),
            detail: json!({ "ms": first }),
        },
    ])
}

/// Three stages that wait, each for itself.
fn stages(builders: &[Builder<'_>], context: &Path) -> Result<Figure> {
    fs::create_dir_all(context)?;
    let base = images::BUSYBOX;
    let mut text = String::new();
    for stage in ["one", "two", "three"] {
        writeln!(text, "FROM {base} AS {stage}\nRUN sleep 10; echo {} > /{stage}", std::process::id())?;
    }
    writeln!(text, "FROM {base}\nCOPY --from=one /one /\nCOPY --from=two /two /\nCOPY --from=three /three /")?;
    fs::write(context.join("Dockerfile"), text)?;
    let mut took = Vec::new();
    for builder in builders.iter().filter(|builder| !matches!(builder, Builder::Docker(_))) {
        took.push((builder.name().to_owned(), builder.build(context)? / 1e3));
    }
    let (_, ours) = took.remove(0);
    let detail = json!({ "seconds": ours });
    let name = "three independent stages of RUN sleep 10";
    Ok(Figure { name, value: ours, unit: "s", target: Target::AtMost(11.0), beside: took, detail })
}
