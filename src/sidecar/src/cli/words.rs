//! How numbers, times and the words of strangers are put for people.

use std::time::Duration;

use colorfast_core::time::UnixMillis;

use crate::api::Millis;

/// This moment.
pub fn now() -> UnixMillis {
    let millis = jiff::Timestamp::now().as_millisecond();
    UnixMillis(u64::try_from(millis).unwrap_or_default())
}

/// How long ago `then` was, as in `3 min ago`.
pub fn ago(now: UnixMillis, then: UnixMillis) -> String {
    match now.since(then) {
        0..1000 => "just now".to_owned(),
        millis => format!("{} ago", coarse(millis)),
    }
}

/// How long until `then`, as in `3 min left`; nothing once it has come.
pub fn left(now: UnixMillis, then: UnixMillis) -> Option<String> {
    match then.since(now) {
        0 => None,
        millis => Some(format!("{} left", coarse(millis))),
    }
}

/// The largest unit alone: what a glance wants.
fn coarse(millis: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(86_400, "d"), (3600, "h"), (60, "min")];
    let seconds = millis / 1000;
    let unit = UNITS.iter().find(|(length, _)| seconds >= *length);
    let (length, name) = unit.unwrap_or(&(1, "s"));
    format!("{} {name}", seconds / length)
}

/// A moment in full, UTC, to the second.
pub fn moment(at: UnixMillis) -> String {
    let seconds = i64::try_from(at.seconds().0).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_second(seconds) {
        Ok(moment) => moment.to_string(),
        Err(_) => format!("{} (Unix ms)", at.0),
    }
}

/// A measured time, as in `34.1 ms` or `1.25 s`.
pub fn measured(Millis(micros): Millis) -> String {
    match micros {
        0..1_000_000 => format!("{}.{} ms", micros / 1000, micros % 1000 / 100),
        _ => format!("{}.{:02} s", micros / 1_000_000, micros % 1_000_000 / 10_000),
    }
}

/// A limit that somebody set, as in `10 s` or `500 ms`.
pub fn limit(time: Duration) -> String {
    match time.as_millis() {
        millis if millis % 1000 == 0 => format!("{} s", millis / 1000),
        millis => format!("{millis} ms"),
    }
}

/// A size, as in `96 KiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{} {name}", bytes.div_ceil(*unit)),
        None => format!("{bytes} B"),
    }
}

/// `2 members`, `1 member`.
pub fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// Text that came over the wire, made safe for a terminal: no control character reaches it.
pub fn tame(text: &str) -> String {
    let mut tamed = String::with_capacity(text.len());
    for character in text.chars() {
        match character.is_control() {
            true => tamed.extend(character.escape_unicode()),
            false => tamed.push(character),
        }
    }
    tamed
}

/// Text of several lines, likewise: its ends of line stay.
pub fn tame_lines(text: &str) -> String {
    text.split_inclusive('\n')
        .map(|line| match line.strip_suffix('\n') {
            Some(line) => format!("{}\n", tame(line)),
            None => tame(line),
        })
        .collect()
}

/// A value as a shell reads it back: one word, whatever stands in it. Advice is pasted by people in a hurry.
pub fn shell(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._~@/:-".contains(c);
    // A tilde is a home directory, but at the beginning alone.
    match !value.is_empty() && !value.starts_with('~') && value.chars().all(plain) {
        true => value.to_owned(),
        false => format!("'{}'", value.replace('\'', r"'\''")),
    }
}

/// The same for an argument that stands by itself, where a leading dash would make it an option.
pub fn operand(value: &str) -> String {
    let dashes = if value.starts_with('-') { "-- " } else { "" };
    format!("{dashes}{}", shell(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Times are told by their largest unit, and never run backwards.
    #[test]
    fn relative_times() {
        let now = UnixMillis(1_000_000_000);
        let cases = [
            (0, "just now"),
            (999, "just now"),
            (1_000, "1 s ago"),
            (59_999, "59 s ago"),
            (180_000, "3 min ago"),
            (7_300_000, "2 h ago"),
            (200_000_000, "2 d ago"),
        ];
        for (millis, wanted) in cases {
            assert_eq!(ago(now, UnixMillis(now.0 - millis)), wanted);
        }
        assert_eq!(ago(now, now.plus_millis(5_000)), "just now");
        assert_eq!(left(now, now.plus_millis(3_600_000)).as_deref(), Some("1 h left"));
        assert_eq!(left(now, now), None);
        assert_eq!(moment(UnixMillis(1_763_719_200_500)), "2025-11-21T10:00:00Z");
    }

    /// Measured times keep the digits that matter.
    #[test]
    fn measured_times() {
        for (micros, wanted) in [(0, "0.0 ms"), (34_149, "34.1 ms"), (999_999, "999.9 ms"), (1_254_000, "1.25 s")] {
            assert_eq!(measured(Millis(micros)), wanted);
        }
        assert_eq!(limit(Duration::from_secs(10)), "10 s");
        assert_eq!(limit(Duration::from_millis(1500)), "1500 ms");
    }

    /// A node id cannot repaint the operator's terminal.
    #[test]
    fn strangers_cannot_write_escapes() {
        assert_eq!(tame("edge\x1b[2J\u{9b}1\n"), "edge\\u{1b}[2J\\u{9b}1\\u{a}");
        assert_eq!(tame("edge-1/ü"), "edge-1/ü");
        assert_eq!(tame_lines("a: 1\nb: \u{9b}2J\n"), "a: 1\nb: \\u{9b}2J\n");
    }

    /// A value in a command that is pasted stays one argument, and runs nothing.
    #[test]
    fn advice_can_be_pasted() {
        let cases = [
            ("router~10.0.0.1~edge-1.default/9f86d081884c7d65", "router~10.0.0.1~edge-1.default/9f86d081884c7d65"),
            ("x; touch pwned; #", "'x; touch pwned; #'"),
            ("it's $(id)", r"'it'\''s $(id)'"),
            ("~root", "'~root'"),
            ("", "''"),
        ];
        for (value, wanted) in cases {
            assert_eq!(operand(value), wanted);
        }
        assert_eq!(operand("--json"), "-- --json");
        assert_eq!(operand("-x y"), "-- '-x y'");
        for value in ["x; touch pwned; #", "it's $(id)", "~root", "", "a\\b `id` \"$HOME\"", "*"] {
            let read = std::process::Command::new("sh").arg("-c").arg(format!("printf %s {}", shell(value))).output();
            assert_eq!(String::from_utf8(read.unwrap().stdout).unwrap(), value);
        }
    }
}
