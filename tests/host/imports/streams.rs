//! What the guest does with a stream as a whole.

use wasmi::Linker;
use wasmi::errors::LinkerError;

use super::play;
use crate::abi::Direction;
use crate::guest::{Guest, Stop, bad_argument};
use crate::state::{Deferred, VmState};
use crate::{LocalReply, Status, maps};

pub(super) fn link(linker: &mut Linker<VmState>) -> Result<(), LinkerError> {
    play!(linker, "env",
        proxy_continue_stream(direction);
        proxy_close_stream(direction);
        proxy_send_local_response(
            status, details, details_length, body, body_length, headers, headers_length, grpc_status
        );
    );
    Ok(())
}

fn proxy_continue_stream(guest: &mut Guest<'_>, direction: u32) -> Result<(), Stop> {
    let direction =
        Direction::of(direction).ok_or_else(|| bad_argument(format!("an HTTP stream has no direction {direction}")))?;
    let state = guest.state_mut();
    let (context, by) = (state.context(), state.current);
    match state.stream_mut() {
        Some(stream) => {
            // Whichever direction goes on, Envoy lets go of the request there and then.
            stream.request.hide();
            state.deferred.push_back(Deferred::Continue { stream: context, direction, by });
        }
        None => {
            let why = format!("context {context} is no stream, so nothing is continued");
            guest.complain(Status::Ok, why);
        }
    }
    Ok(())
}

fn proxy_close_stream(guest: &mut Guest<'_>, direction: u32) -> Result<(), Stop> {
    if Direction::of(direction).is_none() {
        return Err(bad_argument(format!("an HTTP stream has no direction {direction}")));
    }
    if let Some(stream) = guest.state_mut().stream_mut() {
        stream.reset = true;
    }
    Ok(())
}

#[allow(clippy::too_many_arguments, reason = "the ABI has as many")]
fn proxy_send_local_response(
    guest: &mut Guest<'_>,
    status: u32,
    details: u32,
    details_length: u32,
    body: u32,
    body_length: u32,
    headers: u32,
    headers_length: u32,
    grpc_status: i32,
) -> Result<(), Stop> {
    let details = guest.read_text(details, details_length)?;
    let body = guest.read(body, body_length)?;
    let headers = maps::decode(&guest.read(headers, headers_length)?)
        .ok_or_else(|| bad_argument("a header map that cannot be read"))?;
    let state = guest.state_mut();
    state.stop_iteration = true;
    let Some(stream) = state.stream_mut() else {
        guest.complain(Status::Ok, "a local response without a stream goes nowhere".to_owned());
        return Ok(());
    };
    if stream.local_reply.is_some() {
        guest.complain(Status::Ok, "a second local response on one stream".to_owned());
        return Ok(());
    }
    stream.local_reply = Some(LocalReply { status, headers, body, details, grpc_status });
    Ok(())
}
