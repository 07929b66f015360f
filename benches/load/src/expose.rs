//! A target of Prometheus with many series in text, whose values move as counters and gauges do.
//!
//! ```text
//! GET /metrics ─► 100 metrics: 50 counters, 25 walks with two decimals, 15 constant, 10 random; 150 bytes a line
//! GET /served  ─► how many lines were given so far
//! ```
//!
//! The same seed at each start: two servers that ask equally often are given the same samples.

use std::{
    fmt::Write as _,
    io::{BufRead, BufReader, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

const METRICS: usize = 100;

/// How a series moves.
#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Walk,
    Constant,
    Random,
}

impl Kind {
    fn of(metric: usize) -> Self {
        match metric % 20 {
            0..=9 => Self::Counter,
            10..=14 => Self::Walk,
            15..=17 => Self::Constant,
            _ => Self::Random,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            _ => "gauge",
        }
    }
}

/// All series: names and labels as text, and where they stand.
struct Target {
    /// Beginnings of lines, behind each other.
    heads: String,
    /// Where each beginning ends.
    ends: Vec<usize>,
    /// Whole numbers, or hundredths of walks.
    values: Vec<u64>,
    a_metric: usize,
    random: u64,
    served: u64,
    body: String,
}

impl Target {
    fn new(series: usize) -> Self {
        let a_metric = (series / METRICS).max(1);
        let (mut heads, mut ends, mut values) = (String::new(), Vec::new(), Vec::new());
        for metric in 0..METRICS {
            for nth in 0..a_metric {
                let _ = write!(heads, "{}{{", name(metric));
                let _ = write!(heads, "ns=\"team-{:02}\",pod=\"app-{:02}-7d9f8b6c5d-{nth:05x}\",", nth % 37, nth % 50);
                let _ = write!(heads, "container=\"main\",node=\"node-{:02}.example.internal\",", nth % 23);
                let _ = write!(heads, "zone=\"zone-{metric:02}\",code=\"{}\"}} ", [200, 404, 500][nth % 3]);
                ends.push(heads.len());
                values.push((nth * 97 + metric) as u64);
            }
        }
        Self { heads, ends, values, a_metric, random: 88_172_645_463_325_252, served: 0, body: String::new() }
    }

    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    /// The next answer.
    fn step(&mut self) {
        let mut body = std::mem::take(&mut self.body);
        body.clear();
        let mut start = 0;
        for nth in 0..self.values.len() {
            let metric = nth / self.a_metric;
            let kind = Kind::of(metric);
            if nth % self.a_metric == 0 {
                let _ = writeln!(body, "# TYPE {} {}", name(metric), kind.word());
            }
            let end = self.ends[nth];
            body.push_str(&self.heads[start..end]);
            start = end;
            let random = self.random();
            let value = &mut self.values[nth];
            let written = match kind {
                Kind::Counter => {
                    *value += random % 50;
                    writeln!(body, "{value}")
                }
                Kind::Walk => {
                    *value = (*value + random % 201).saturating_sub(100);
                    writeln!(body, "{}", *value as f64 / 100.0)
                }
                Kind::Constant => writeln!(body, "{value}"),
                Kind::Random => writeln!(body, "{}", (random >> 11) as f64 / (1u64 << 53) as f64),
            };
            let _ = written;
        }
        self.served += self.values.len() as u64;
        self.body = body;
    }
}

fn name(metric: usize) -> String {
    match Kind::of(metric) {
        Kind::Counter => format!("bench_requests_{metric:02}_total"),
        _ => format!("bench_level_of_things_{metric:02}"),
    }
}

/// Answers until it is ended.
pub fn serve(port: u16, series: usize) -> Result<Value> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).with_context(|| format!("listen on port {port}"))?;
    let target = Arc::new(Mutex::new(Target::new(series)));
    for stream in listener.incoming() {
        let (stream, target) = (stream?, target.clone());
        std::thread::spawn(move || {
            // Whoever asks may go away at any time.
            let _ = answer(&stream, &target);
        });
    }
    Ok(json!({}))
}

fn answer(stream: &TcpStream, target: &Mutex<Target>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    let mut out = stream;
    loop {
        let (mut path, mut line, mut once) = (String::new(), String::new(), false);
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if line.trim_end().is_empty() {
                break;
            }
            if path.is_empty() {
                path = line.split(' ').nth(1).unwrap_or("/").to_owned();
                once = line.trim_end().ends_with("HTTP/1.0");
            }
        }
        let mut target = target.lock().unwrap_or_else(PoisonError::into_inner);
        let head = |length: usize| {
            format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {length}\r\n\r\n")
        };
        if path == "/served" {
            let text = target.served.to_string();
            out.write_all((head(text.len()) + &text).as_bytes())?;
        } else {
            target.step();
            out.write_all(head(target.body.len()).as_bytes())?;
            out.write_all(target.body.as_bytes())?;
        }
        // Of this version the end of the connection ends the answer.
        if once {
            return Ok(());
        }
    }
}
