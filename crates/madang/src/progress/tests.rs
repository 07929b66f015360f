//! What is written for builds that are told here.

use build::progress::{Event, Outcome, Status, Stream, Vertex};
use jiff::{Timestamp, ToSpan};

use build::shown::{model::Model, plain::Plain, text};

use super::tree::Tree;

fn at(milliseconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + milliseconds.milliseconds()
}

fn known(id: u32, name: &str) -> Event {
    Event::Known(Vertex { id, name: name.to_owned(), ..Vertex::default() })
}

fn started(vertex: u32, when: i64) -> Event {
    Event::Started { vertex, at: at(when) }
}

fn log(vertex: u32, when: i64, text: &str) -> Event {
    Event::Log { vertex, at: at(when), stream: Stream::Out, bytes: text.into() }
}

fn finished(vertex: u32, when: i64, outcome: Outcome) -> Event {
    Event::Finished { vertex, at: at(when), outcome }
}

fn plain(events: &[Event]) -> String {
    let (mut model, mut plain, mut out) = (Model::default(), Plain::default(), String::new());
    for event in events {
        model.apply(event);
        out += &plain.lines(&model, event);
    }
    out + &plain.end(&model)
}

#[test]
fn plain_lines_name_the_step_again_when_another_goes_on() {
    let events = [
        known(1, "[internal] load build context"),
        known(2, "[a 1/1] RUN one"),
        known(3, "[b 1/1] RUN two"),
        started(1, 0),
        Event::Status(Status {
            vertex: 1,
            part: "transferring context:".to_owned(),
            current: 1234,
            total: 0,
            started: at(0),
            ended: Some(at(200)),
        }),
        finished(1, 200, Outcome::Done),
        started(2, 200),
        log(2, 300, "first\nsec"),
        started(3, 300),
        log(3, 310, "other\n"),
        log(2, 400, "ond\n"),
        finished(3, 500, Outcome::Cached),
        log(2, 600, "unfinished"),
        finished(2, 1700, Outcome::Failed("exit code: 1".to_owned())),
    ];
    let expected = "\
#1 [internal] load build context
#1 transferring context: 1.23kB 0.2s done
#1 DONE 0.2s

#2 [a 1/1] RUN one
#2 0.100 first
#2 ...

#3 [b 1/1] RUN two
#3 0.010 other
#3 ...

#2 [a 1/1] RUN one
#2 0.100 second
#2 ...

#3 [b 1/1] RUN two
#3 CACHED

#2 [a 1/1] RUN one
#2 0.400 unfinished
#2 ERROR: exit code: 1
";
    assert_eq!(plain(&events), expected);
}

#[test]
fn plain_lines_keep_what_a_program_wrote() {
    let shown = plain(&[
        known(1, "x"),
        started(1, 0),
        log(1, 0, "\u{1b}[31mred\u{1b}[0m\r\n\n"),
        finished(1, 0, Outcome::Canceled),
    ]);
    assert_eq!(shown, "#1 x\n#1 0.000 \u{1b}[31mred\u{1b}[0m\n#1 0.000 \n#1 CANCELED\n");
}

/// The lines of a drawing, without what moves the cursor.
fn tree(events: &[Event], now: i64, size: fn() -> Option<(usize, usize)>, last: bool) -> Vec<String> {
    let mut model = Model::default();
    events.iter().for_each(|event| model.apply(event));
    let drawn = Tree::new(false, size).draw(&model, at(now), last);
    drawn.lines().map(|line| text::plain(line.as_bytes())).filter(|line| !line.is_empty()).collect()
}

fn wide() -> Option<(usize, usize)> {
    Some((40, 24))
}

fn small() -> Option<(usize, usize)> {
    Some((30, 6))
}

#[test]
fn the_tree_shows_steps_their_times_and_the_last_lines_of_those_that_run() {
    let mut events = vec![
        known(1, "[internal] load build context"),
        known(2, "[1/2] FROM base"),
        known(3, "[2/2] RUN make everything that there is to be made"),
        known(4, "exporting"),
        started(1, 0),
        finished(1, 100, Outcome::Done),
        finished(2, 100, Outcome::Cached),
        started(3, 100),
    ];
    events.extend((0..8).map(|line| log(3, 200, &format!("\u{1b}[1mline\t{line}\u{1b}[0m\r\n"))));
    events.push(log(3, 300, "progress 10%\rprogress 20%"));
    let lines = tree(&events, 1300, wide, false);
    let expected = [
        "[+] Building 1.3s (2/4)",
        " => [internal] load build context   0.1s",
        " => CACHED [1/2] FROM base          0.0s",
        " => [2/2] RUN make everything that  1.2s",
        " => => # line    3",
        " => => # line    4",
        " => => # line    5",
        " => => # line    6",
        " => => # line    7",
        " => => # progress 20%",
    ];
    assert_eq!(lines, expected);
    events.push(finished(3, 2000, Outcome::Done));
    let lines = tree(&events, 2000, wide, true);
    assert_eq!(lines.last().unwrap(), " => [2/2] RUN make everything that  1.9s");
    assert!(lines.iter().all(|line| text::width(line) <= 40), "{lines:?}");
}

#[test]
fn what_does_not_fit_is_left_out_the_least_wanted_first() {
    let mut events = Vec::new();
    for id in 1..=6 {
        events.extend([known(id, &format!("step {id}")), started(id, 0)]);
        if id <= 3 {
            events.push(finished(id, 1000, Outcome::Done));
        } else {
            events.extend((0..9).map(|line| log(id, 10, &format!("{line}\n"))));
        }
    }
    let lines = tree(&events, 2000, small, false);
    let names: Vec<&str> = lines.iter().map(|line| line.split("  ").next().unwrap()).collect();
    assert_eq!(names, ["[+] Building 2.0s (3/6)", " => step 3", " => step 4", " => step 5", " => step 6"]);
    // At the end everything is shown.
    assert_eq!(tree(&events, 2000, small, true).len(), 7);
}

#[test]
fn a_tree_goes_up_over_what_it_drew_however_narrow_the_terminal_became() {
    let mut model = Model::default();
    [known(1, "step"), started(1, 0)].iter().for_each(|event| model.apply(event));
    let mut tree = Tree::new(true, wide);
    let first = tree.draw(&model, at(10), false);
    assert!(!first.contains("A\r"), "{first:?}");
    let second = tree.draw(&model, at(20), false);
    assert!(second.contains("\u{1b}[2A\r"), "{second:?}");
    // Two lines of 23 and 40 columns take one and two lines of 30 columns.
    let mut narrow = Tree::new(true, small);
    narrow.draw(&model, at(10), false);
    let narrow = narrow.draw(&model, at(10), false);
    assert!(narrow.contains("\u{1b}[2A\r"), "{narrow:?}");
    model.apply(&finished(1, 30, Outcome::Failed("x".to_owned())));
    let last = tree.draw(&model, at(40), true);
    assert!(last.contains("\u{1b}[31m => ERROR step"), "{last:?}");
}

#[test]
fn nothing_that_a_step_writes_moves_the_cursor() {
    for (written, shown) in [
        ("a\u{1b}[2Jb", "ab"),
        ("\u{1b}]0;title\u{7}c", "c"),
        ("\u{1b}]8;;http://x\u{1b}\\link\u{1b}]8;;\u{1b}\\", "link"),
        ("x\u{8}\u{7}\u{202e}y", "xy"),
        ("one\rtwo", "two"),
        ("\u{1b}", ""),
        ("\u{1b}[", ""),
        ("\u{9b}31mz", "31mz"),
    ] {
        assert_eq!(text::plain(written.as_bytes()), shown, "{written:?}");
    }
    assert_eq!(text::plain(&[b'a', 0xff, b'b']), "a\u{fffd}b");
    assert_eq!((text::width("한글a"), text::cut("한글a", 3)), (5, "한".to_owned()));
}

#[test]
fn warnings_stand_at_the_end() {
    let mut model = Model::default();
    assert_eq!(model.warnings(), "");
    let lines = Some(build::dockerfile::Lines { first: 3, last: 3 });
    model.apply(&Event::Warning { message: "Empty continuation line".to_owned(), lines });
    assert_eq!(model.warnings(), "\n 1 warning found:\n - Empty continuation line (line 3)\n");
}
