//! The ids that an agent hands out in the body of an answer, found as it streams by.

use super::events::{Events, Part};
use super::{Scanner, Search};
use crate::plan::Plan;

/// The searches of one answer for the ids of all sources of a plan. It keeps nothing of the answer but the ids.
#[derive(Debug, Clone)]
pub struct AnswerScan {
    media: Media,
    events: Events,
    /// The searches that go on: each with the place of its pointer.
    searches: Vec<(usize, Scanner)>,
    /// Whether some id is not there.
    lacks: bool,
    /// How many bytes are still looked at.
    left: usize,
}

/// How far an answer has been searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Searched {
    /// More of it may tell.
    Open,
    /// Every id was found.
    Found,
    /// Some id is not there.
    Missing,
    /// The bound came before some id.
    Over,
}

impl AnswerScan {
    /// The searches of a body of this type; none where no source of `plan` looks there, or it is neither JSON nor a
    /// stream of events.
    pub fn new(plan: &Plan, content_type: &[u8]) -> Option<Self> {
        let media = Media::of(content_type);
        let pointers = plan.answer_pointers.iter().enumerate().filter(|(_, (of, _))| *of == media);
        let searches: Vec<_> = pointers.map(|(place, _)| (place, Scanner::default())).collect();
        let left = usize::try_from(plan.settings.body.prefix_bytes).unwrap_or(usize::MAX);
        (!searches.is_empty()).then_some(Self { media, events: Events::default(), searches, lacks: false, left })
    }

    /// Most bytes that are still looked at.
    pub fn wants(&self) -> usize {
        self.left
    }

    /// Reads on, by the plan that this was made for, and returns the ids that have been found since.
    pub fn read(&mut self, plan: &Plan, bytes: &[u8]) -> Vec<Vec<u8>> {
        let bytes = bytes.get(..self.left).unwrap_or(bytes);
        self.left -= bytes.len();
        let mut ids = Vec::new();
        for byte in bytes {
            let part = match self.media {
                Media::EventStream => self.events.take(*byte),
                Media::Json | Media::Other => Part::Data(*byte),
            };
            match part {
                Part::Data(byte) => self.take(plan, byte, &mut ids),
                // Each event is a document of its own.
                Part::End => self.searches.iter_mut().for_each(|(_, scanner)| *scanner = Scanner::default()),
                Part::Beside => {}
            }
            if self.searches.is_empty() {
                break;
            }
        }
        ids
    }

    fn take(&mut self, plan: &Plan, byte: u8, ids: &mut Vec<Vec<u8>>) {
        let Self { media, searches, lacks, .. } = self;
        searches.retain_mut(|(place, scanner)| {
            let Some((_, pointer)) = plan.answer_pointers.get(*place) else { return false };
            match scanner.read(pointer, &[byte]) {
                Search::Open => true,
                Search::Found => {
                    ids.extend(scanner.id().map(<[u8]>::to_vec));
                    false
                }
                // Another event may have it.
                Search::Missing | Search::Malformed if *media == Media::EventStream => true,
                Search::Missing | Search::Malformed => {
                    *lacks = true;
                    false
                }
            }
        });
    }

    /// How far the answer has been searched.
    pub fn searched(&self) -> Searched {
        match self.searches.is_empty() {
            true if self.lacks => Searched::Missing,
            true => Searched::Found,
            false if self.left == 0 => Searched::Over,
            false => Searched::Open,
        }
    }
}

/// What a content type says of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    /// `application/json`, or a type whose name says that it is JSON.
    Json,
    /// `text/event-stream`.
    EventStream,
    /// Anything else.
    Other,
}

impl Media {
    /// Reads the value of a `content-type` header.
    pub fn of(content_type: &[u8]) -> Self {
        let name = content_type.split(|b| *b == b';').next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
        match name.as_slice() {
            b"application/json" => Self::Json,
            b"text/event-stream" => Self::EventStream,
            name if name.ends_with(b"+json") => Self::Json,
            _ => Self::Other,
        }
    }
}
