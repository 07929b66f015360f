//! Every corpus, replayed, and a short run from a fixed seed.

use fuzz::{run, targets::TARGETS};

/// Mutations of each corpus.
const TRIES: u64 = 3_000;

#[test]
fn no_input_of_a_corpus_breaks_its_reader() {
    for target in TARGETS {
        for (name, input) in run::corpus(target).unwrap() {
            if let Err(how) = run::try_one(target, &input) {
                panic!("{}/{name}: {how}", target.name);
            }
        }
    }
}

#[test]
fn a_short_run_breaks_no_reader_and_finds_something() {
    for target in TARGETS {
        let found = run::watched(*target, 1, run::SLOW * 15, |tried| tried < TRIES).unwrap();
        if let Some(broken) = found.broken {
            panic!("{}: {}\n{:?}", target.name, broken.how, String::from_utf8_lossy(&broken.input));
        }
        let alone = run::corpus(target).unwrap().len();
        assert!(found.outcomes.len() > 1 && found.tried >= TRIES, "{} of {alone}: {:?}", target.name, found.outcomes);
    }
}

#[test]
fn every_folder_of_the_corpus_has_a_reader() {
    for entry in std::fs::read_dir(run::folder().join("corpus")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(TARGETS.iter().any(|target| target.name == name), "{name}");
    }
}
