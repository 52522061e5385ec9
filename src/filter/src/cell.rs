//! Interior mutability that cannot panic.

use std::cell::RefCell;

/// A `RefCell` whose borrows are tried: a nested one is refused, not fatal.
///
/// Callbacks of one VM never nest, so a refusal is a programming error; it then costs one request its decision
/// and not a worker all its streams.
#[derive(Debug, Default)]
pub struct SharedCell<T>(RefCell<T>);

impl<T> SharedCell<T> {
    /// A cell that holds `value`.
    pub fn new(value: T) -> Self {
        Self(RefCell::new(value))
    }

    /// Runs `f` on the value; `None` where the value is already borrowed.
    pub fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.0.try_borrow_mut().ok().map(|mut value| f(&mut value))
    }
}
