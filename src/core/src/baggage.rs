//! W3C baggage (<https://www.w3.org/TR/baggage/>) in header bytes: members are found by their key, and the one that is
//! ours is cut out; every other byte stays as it was.
//!
//! A line is a list of members parted by commas, which stand nowhere else in it; a member is a key, `=`, a value, and
//! properties behind semicolons. Several lines are one list. Whatever breaks these rules is somebody else's, and stays.

use std::borrow::Cow;

/// The request header.
pub const HEADER: &str = "baggage";
/// The key of our member: the run token.
pub const MEMBER: &str = "agent.run";

/// The values of all members of ours in one line, without their properties.
pub fn find(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    find_key(line, MEMBER.as_bytes())
}

/// The values of all members called `key` in one line, as they stand there: percent-encoded, without their properties.
pub fn find_key<'a>(line: &'a [u8], key: &[u8]) -> impl Iterator<Item = &'a [u8]> {
    line.split(|b| *b == b',').filter_map(move |member| value_under(member, key))
}

/// The lines without any member of ours; lines that hold nothing else are left out.
pub fn lines_without<'a>(lines: impl Iterator<Item = &'a [u8]>) -> impl Iterator<Item = Cow<'a, [u8]>> {
    lines.filter_map(|line| match find(line).next() {
        None => Some(Cow::Borrowed(line)),
        Some(_) => without(line).map(Cow::Owned),
    })
}

/// A line that holds our member alone.
pub fn line_of(token: &[u8]) -> Vec<u8> {
    [MEMBER.as_bytes(), b"=", token].concat()
}

/// The line without any member of ours; `None` where nothing is left.
fn without(line: &[u8]) -> Option<Vec<u8>> {
    let others: Vec<_> = line.split(|b| *b == b',').filter(|member| value_of(member).is_none()).collect();
    others.iter().any(|member| !member.trim_ascii().is_empty()).then(|| others.join(&b','))
}

fn value_of(member: &[u8]) -> Option<&[u8]> {
    value_under(member, MEMBER.as_bytes())
}

fn value_under<'a>(member: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let value = member.trim_ascii_start().strip_prefix(key)?;
    let value = value.trim_ascii_start().strip_prefix(b"=")?;
    Some(value.split(|b| *b == b';').next().unwrap_or_default().trim_ascii())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(line: &[u8]) -> Vec<&[u8]> {
        find(line).collect()
    }

    fn left<'a>(lines: &[&'a [u8]]) -> Vec<Cow<'a, [u8]>> {
        lines_without(lines.iter().copied()).collect()
    }

    /// Unforgeable: our member is found wherever it stands and however it is spaced, and nothing else is taken for it.
    #[test]
    fn finds_its_own_member() {
        let cases: [(&[u8], &[&[u8]]); 12] = [
            (b"", &[]),
            (b"agent.run=T", &[b"T"]),
            (b"a=1, agent.run=T ,b=2", &[b"T"]),
            (b"\tagent.run \t= T\t;p=1; q", &[b"T"]),
            (b"agent.run=1,agent.run=2", &[b"1", b"2"]),
            (b"agent.run=", &[b""]),
            (b"agent.run", &[]),
            (b"agent.running=1,xagent.run=2,Agent.Run=3", &[]),
            (b"a=agent.run=T", &[]),
            (b"a=1;agent.run=T", &[]),
            (b"a=\"x,agent.run=T\"", &[b"T\""]),
            (b"\xff=\xfe,agent.run=\xff,\x00", &[b"\xff"]),
        ];
        for (line, wanted) in cases {
            assert_eq!(found(line), wanted, "{}", line.escape_ascii());
        }
    }

    /// Stamped: what is not ours stays to the byte, over several lines, odd spaces, properties and noise.
    #[test]
    fn leaves_every_other_byte() {
        type Lines<'a> = &'a [&'a [u8]];
        let cases: [(Lines, Lines); 9] = [
            (&[b"a=1 ; p ,\tb=2"], &[b"a=1 ; p ,\tb=2"]),
            (&[b"a=1, agent.run=T;p=1 ,\tb=2 "], &[b"a=1,\tb=2 "]),
            (&[b"agent.run=T,a=1"], &[b"a=1"]),
            (&[b"a=1 ,agent.run=T"], &[b"a=1 "]),
            (&[b"agent.run=T"], &[]),
            (&[b" , agent.run=T,"], &[]),
            (&[b"a=1", b"agent.run=T", b"", b"b=2,agent.run=U,\xff"], &[b"a=1", b"", b"b=2,\xff"]),
            (&[b"agent.run=1,agent.run=2,c=3"], &[b"c=3"]),
            (&[b",,,"], &[b",,,"]),
        ];
        for (lines, wanted) in cases {
            let found = left(lines);
            assert_eq!(found.iter().map(|line| &**line).collect::<Vec<_>>(), wanted);
        }
    }

    proptest! {
        /// Total: whatever the bytes, nothing of ours is left, and the members that stay are the others, in order.
        #[test]
        fn total(members in proptest::collection::vec("(agent\\.run)?[ a-z=;\\PC]{0,12}", 0..40)) {
            let line = members.join(",").into_bytes();
            let kept = left(&[&line]).concat();
            prop_assert_eq!(found(&kept).len(), 0);
            let theirs: Vec<_> = line.split(|b| *b == b',').filter(|member| value_of(member).is_none()).collect();
            if theirs.iter().any(|member| !member.trim_ascii().is_empty()) {
                prop_assert_eq!(kept, theirs.join(&b','));
            }
        }

        /// Unforgeable: the line that is made of a token holds it and nothing else.
        #[test]
        fn writes_what_it_finds(token in "[A-Za-z0-9_-]{1,128}") {
            let line = line_of(token.as_bytes());
            prop_assert_eq!(found(&line), vec![token.as_bytes()]);
            prop_assert!(left(&[&line]).is_empty());
        }
    }
}
