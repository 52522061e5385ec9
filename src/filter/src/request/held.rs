//! How much of bodies one worker holds for requests that wait: it lies in Envoy's buffers, and is counted here.

use std::cell::Cell;
use std::rc::Rc;

/// What all requests of one worker hold together, in bytes.
#[derive(Debug, Clone, Default)]
pub struct Held(Rc<Cell<usize>>);

/// What one request holds. It is given back when the request is decided, answered or gone, whichever way.
#[derive(Debug)]
pub struct Share {
    of: Held,
    bytes: usize,
}

impl Held {
    /// The share of another request.
    pub fn share(&self) -> Share {
        Share { of: self.clone(), bytes: 0 }
    }
}

impl Share {
    /// How much the request holds.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes it over: for what is decided, and held until its next piece.
    pub fn take(&mut self) -> Self {
        let bytes = self.bytes;
        self.set(0);
        let mut taken = self.of.share();
        taken.set(bytes);
        taken
    }

    /// The request holds so much by now. Returns what all hold together.
    pub fn set(&mut self, bytes: usize) -> usize {
        let others = self.of.0.get().saturating_sub(self.bytes);
        self.bytes = bytes;
        let all = others.saturating_add(bytes);
        self.of.0.set(all);
        all
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}
