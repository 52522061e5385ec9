//! The numbers of the proxy-wasm ABI 0.2.1, as types.

/// What a host call answers the guest; zero is the only success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// The key, header, property, metric or buffer does not exist.
    NotFound = 1,
    /// The call makes no sense here; the SDK's own wrappers panic on it.
    BadArgument = 2,
    /// A pointer and length outside the guest's memory.
    InvalidMemoryAccess = 6,
    /// A queue without entries.
    Empty = 7,
    /// Somebody else wrote the key since the guest read it.
    CasMismatch = 8,
}

/// What the proxy does with the part of a stream that a callback was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It goes on to the next filter.
    Continue,
    /// It waits here until the guest continues the stream.
    Pause,
    /// The guest was not asked: its headers callback paused all of the stream, so the proxy keeps
    /// the part, and brings it when the stream is continued.
    Held,
}

impl Action {
    /// What a callback's return value means; a callback that is not exported continues.
    pub(crate) fn of(returned: Option<i32>) -> Self {
        match returned {
            None | Some(0) => Action::Continue,
            Some(_) => Action::Pause,
        }
    }
}

/// Severity of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names say all")]
pub enum LogLevel {
    Trace = 0,
    Debug = 1,
    Info = 2,
    Warn = 3,
    Error = 4,
    Critical = 5,
}

impl LogLevel {
    pub(crate) fn of(raw: u32) -> Option<Self> {
        Some(match raw {
            0 => Self::Trace,
            1 => Self::Debug,
            2 => Self::Info,
            3 => Self::Warn,
            4 => Self::Error,
            5 => Self::Critical,
            _ => return None,
        })
    }
}

/// Which header map a host call means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MapKind {
    RequestHeaders,
    RequestTrailers,
    ResponseHeaders,
    ResponseTrailers,
    CallResponseHeaders,
    CallResponseTrailers,
}

impl MapKind {
    pub(crate) fn of(raw: u32) -> Option<Self> {
        Some(match raw {
            0 => Self::RequestHeaders,
            1 => Self::RequestTrailers,
            2 => Self::ResponseHeaders,
            3 => Self::ResponseTrailers,
            6 => Self::CallResponseHeaders,
            7 => Self::CallResponseTrailers,
            _ => return None,
        })
    }
}

/// Which buffer a host call means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BufferKind {
    RequestBody,
    ResponseBody,
    CallResponseBody,
    VmConfiguration,
    PluginConfiguration,
}

impl BufferKind {
    pub(crate) fn of(raw: u32) -> Option<Self> {
        Some(match raw {
            0 => Self::RequestBody,
            1 => Self::ResponseBody,
            4 => Self::CallResponseBody,
            6 => Self::VmConfiguration,
            7 => Self::PluginConfiguration,
            _ => return None,
        })
    }
}

/// The two directions of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Request,
    Response,
}

impl Direction {
    pub(crate) fn of(raw: u32) -> Option<Self> {
        match raw {
            0 => Some(Self::Request),
            1 => Some(Self::Response),
            _ => None,
        }
    }
}
