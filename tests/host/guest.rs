//! A guest as a host call sees it: its memory, and the state that the call works on.

use std::fmt;
use std::ops::Range;

use wasmi::Caller;

use crate::Status;
use crate::state::VmState;

/// Why a host call does not answer with success.
#[derive(Debug)]
pub(crate) enum Stop {
    /// An answer that belongs to normal life, such as a missing key.
    Status(Status),
    /// An answer that a correct guest never gets; noted as a complaint.
    Refused(Status, String),
    /// A WASI error number.
    Errno(i32),
    /// The guest ends here.
    Trap(Trap),
}

/// An end of the guest that the host brings about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trap {
    UnknownImport(String),
    Exit(u32),
    NoMemory,
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trap::UnknownImport(name) => write!(f, "{name} is not played by this host"),
            Trap::Exit(code) => write!(f, "proc_exit({code})"),
            Trap::NoMemory => f.write_str("the guest gave no memory for the answer of a host call"),
        }
    }
}

impl wasmi::errors::HostError for Trap {}

impl From<Trap> for Stop {
    fn from(trap: Trap) -> Self {
        Stop::Trap(trap)
    }
}

impl From<Status> for Stop {
    fn from(status: Status) -> Self {
        Stop::Status(status)
    }
}

/// Refuses with `BadArgument`.
pub(crate) fn bad_argument(why: impl Into<String>) -> Stop {
    Stop::Refused(Status::BadArgument, why.into())
}

/// Refuses with `NotFound`, where a correct guest would not have asked.
pub(crate) fn not_found(why: impl Into<String>) -> Stop {
    Stop::Refused(Status::NotFound, why.into())
}

/// The guest that made a host call.
pub(crate) struct Guest<'a> {
    caller: Caller<'a, VmState>,
    import: &'static str,
}

impl<'a> Guest<'a> {
    /// Plays one host call: counts it, and turns its outcome into the number that the guest gets.
    pub(crate) fn answer(
        caller: Caller<'a, VmState>,
        import: &'static str,
        play: impl FnOnce(&mut Guest<'a>) -> Result<(), Stop>,
    ) -> Result<i32, wasmi::Error> {
        let mut guest = Guest { caller, import };
        let state = guest.state_mut();
        *state.host_calls.entry(import).or_default() += 1;
        state.last_import = Some(import);
        match play(&mut guest) {
            Ok(()) => Ok(Status::Ok as i32),
            Err(Stop::Status(status)) => Ok(status as i32),
            Err(Stop::Refused(status, why)) => {
                guest.complain(status, why);
                Ok(status as i32)
            }
            Err(Stop::Errno(errno)) => Ok(errno),
            Err(Stop::Trap(trap)) => Err(wasmi::Error::host(trap)),
        }
    }

    pub(crate) fn state(&self) -> &VmState {
        self.caller.data()
    }

    pub(crate) fn state_mut(&mut self) -> &mut VmState {
        self.caller.data_mut()
    }

    /// Notes what Envoy would refuse or punish.
    pub(crate) fn complain(&mut self, status: Status, why: String) {
        let import = self.import;
        self.state_mut().complain(import, status, why);
    }

    /// Bytes that the guest points at.
    pub(crate) fn read(&self, pointer: u32, length: u32) -> Result<Vec<u8>, Stop> {
        let memory = self.state().exports.as_ref().ok_or_else(|| outside(pointer, length))?.memory;
        memory
            .data(&self.caller)
            .get(range(pointer, length as usize))
            .map(<[u8]>::to_vec)
            .ok_or_else(|| outside(pointer, length))
    }

    /// Text that the guest points at.
    pub(crate) fn read_text(&self, pointer: u32, length: u32) -> Result<String, Stop> {
        String::from_utf8(self.read(pointer, length)?).map_err(|_| bad_argument("not UTF-8"))
    }

    pub(crate) fn write(&mut self, pointer: u32, bytes: &[u8]) -> Result<(), Stop> {
        let refused = || outside(pointer, bytes.len() as u32);
        let memory = self.state().exports.as_ref().ok_or_else(refused)?.memory;
        memory
            .data_mut(&mut self.caller)
            .get_mut(range(pointer, bytes.len()))
            .ok_or_else(refused)?
            .copy_from_slice(bytes);
        Ok(())
    }

    pub(crate) fn write_u32(&mut self, pointer: u32, number: u32) -> Result<(), Stop> {
        self.write(pointer, &number.to_le_bytes())
    }

    /// Hands bytes over in memory that the guest allocates; no bytes are a null pointer.
    pub(crate) fn give(&mut self, bytes: &[u8], pointer_at: u32, length_at: u32) -> Result<(), Stop> {
        let pointer = if bytes.is_empty() { 0 } else { self.allocate(bytes.len() as u32)? };
        self.write(pointer, bytes)?;
        self.write_u32(pointer_at, pointer)?;
        self.write_u32(length_at, bytes.len() as u32)
    }

    fn allocate(&mut self, length: u32) -> Result<u32, Stop> {
        let allocate = self.state().exports.as_ref().ok_or(Trap::NoMemory)?.allocate;
        match allocate.call(&mut self.caller, length) {
            Ok(pointer) if pointer != 0 => Ok(pointer),
            _ => Err(Trap::NoMemory.into()),
        }
    }
}

fn range(pointer: u32, length: usize) -> Range<usize> {
    let start = pointer as usize;
    start..start.saturating_add(length)
}

fn outside(pointer: u32, length: u32) -> Stop {
    Stop::Refused(Status::InvalidMemoryAccess, format!("{length} bytes at {pointer:#x} are outside the guest's memory"))
}
