//! Spans of time for people.

/// The two largest units of a span, as in `8 days 2 h`.
pub fn span(seconds: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "days"), (3_600, "h"), (60, "min"), (1, "s")];
    let mut left = seconds;
    let mut words = Vec::new();
    for (unit, name) in UNITS {
        let count = left / unit;
        left %= unit;
        if count > 0 || (unit == 1 && words.is_empty()) {
            let name = if unit == 86_400 && count == 1 { "day" } else { name };
            words.push(format!("{count} {name}"));
        } else if !words.is_empty() {
            break;
        }
        if words.len() == 2 {
            break;
        }
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tired person reads days and hours, not seconds.
    #[test]
    fn two_units() {
        let cases = [(0, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (3_600, "1 h"), (3_605, "1 h"), (86_400, "1 day")];
        for (seconds, wanted) in cases.into_iter().chain([(698_400, "8 days 2 h"), (604_800, "7 days")]) {
            assert_eq!(span(seconds), wanted);
        }
    }
}
