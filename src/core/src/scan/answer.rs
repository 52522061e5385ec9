//! The ids that an agent hands out in the body of an answer, found as it streams by.

use super::Pointer;
use super::events::{Events, Part, Run};
use super::scanner::Scanner;
use crate::plan::Plan;
use crate::settings::{AnswerSource, ServiceSettings};

/// The pointers of a plan's sources that stand in the bodies of answers.
#[derive(Debug, Clone)]
pub struct AnswerPointers {
    /// The kind of body of each.
    media: Vec<Media>,
    pointers: Vec<Pointer>,
}

impl AnswerPointers {
    /// Those of these settings.
    pub(crate) fn new(settings: &ServiceSettings) -> Self {
        let in_body = |source: &AnswerSource| match source {
            AnswerSource::Body(pointer) => Some((Media::Json, Pointer::new(pointer))),
            AnswerSource::Event(pointer) => Some((Media::EventStream, Pointer::new(pointer))),
            AnswerSource::Header(_) | AnswerSource::Cookie(_) => None,
        };
        let (media, pointers) = settings.learn_from.iter().filter_map(in_body).unzip();
        Self { media, pointers }
    }

    /// Those that are looked for in a body of this kind, by their bits.
    fn of(&self, media: Media) -> u32 {
        let all = Scanner::all(self.pointers.len());
        let others = self.media.iter().enumerate().filter(|(_, of)| **of != media);
        others.fold(all, |set, (place, _)| set & !Scanner::bit(place))
    }
}

/// The search of one answer for the ids of all sources of a plan. It keeps nothing of the answer but the ids.
#[derive(Debug, Clone)]
pub struct AnswerScan {
    media: Media,
    events: Events,
    scanner: Scanner,
    /// The pointers that have not been found, by their bits.
    wanted: u32,
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
    /// The search of a body of this type; none where no source of `plan` looks there, or it is neither JSON nor a stream of
    /// events.
    pub fn new(plan: &Plan, content_type: &[u8]) -> Option<Self> {
        let media = Media::of(content_type);
        let wanted = plan.answer_pointers.of(media);
        let left = usize::try_from(plan.settings.body.prefix_bytes).unwrap_or(usize::MAX);
        (wanted != 0).then(|| Self { media, events: Events::default(), scanner: Scanner::new(wanted), wanted, left })
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
        match self.media {
            Media::EventStream => self.read_events(plan, bytes, &mut ids),
            Media::Json | Media::Other => self.take(plan, bytes, &mut ids),
        }
        ids
    }

    fn read_events(&mut self, plan: &Plan, mut bytes: &[u8], ids: &mut Vec<Vec<u8>>) {
        while self.wanted != 0 {
            let count = match self.events.run(bytes) {
                Some(Run::Data(data)) => {
                    self.take(plan, data, ids);
                    data.len()
                }
                Some(Run::Beside(count)) => count,
                None => {
                    let Some(byte) = bytes.first() else { return };
                    match self.events.take(*byte) {
                        Part::Data(byte) => self.take(plan, &[byte], ids),
                        // Each event is a document of its own.
                        Part::End => self.scanner = Scanner::new(self.wanted),
                        Part::Beside => {}
                    }
                    1
                }
            };
            bytes = bytes.get(count..).unwrap_or_default();
        }
    }

    fn take(&mut self, plan: &Plan, bytes: &[u8], ids: &mut Vec<Vec<u8>>) {
        self.scanner.read(&plan.answer_pointers.pointers, bytes);
        for (place, id) in self.scanner.found() {
            if self.wanted & Scanner::bit(*place) != 0 {
                self.wanted &= !Scanner::bit(*place);
                ids.push(id.clone());
            }
        }
    }

    /// How far the answer has been searched.
    pub fn searched(&self) -> Searched {
        match self.media {
            _ if self.wanted == 0 => Searched::Found,
            // Another event may have it.
            Media::Json | Media::Other if !self.scanner.is_open() => Searched::Missing,
            _ if self.left == 0 => Searched::Over,
            _ => Searched::Open,
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
