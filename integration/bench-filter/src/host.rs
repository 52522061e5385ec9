//! The host calls that are measured, made as the filter makes them: the raw imports, buffers taken over as they come.

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32;
    fn proxy_get_buffer_bytes(buffer: u32, start: usize, max: usize, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_get_header_map_value(
        map: u32,
        key: *const u8,
        key_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_replace_header_map_value(
        map: u32,
        key: *const u8,
        key_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_add_header_map_value(
        map: u32,
        key: *const u8,
        key_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_remove_header_map_value(map: u32, key: *const u8, key_size: usize) -> u32;
    fn proxy_get_property(path: *const u8, path_size: usize, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_set_property(path: *const u8, path_size: usize, value: *const u8, value_size: usize) -> u32;
    fn proxy_get_shared_data(
        key: *const u8,
        key_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
        cas: *mut u32,
    ) -> u32;
    fn proxy_set_shared_data(key: *const u8, key_size: usize, value: *const u8, value_size: usize, cas: u32) -> u32;
    fn proxy_define_metric(kind: u32, name: *const u8, name_size: usize, id: *mut u32) -> u32;
    fn proxy_increment_metric(id: u32, offset: i64) -> u32;
}

const REQUEST: u32 = 0;
const PLUGIN_CONFIGURATION: u32 = 7;

/// Which header map.
#[derive(Debug, Clone, Copy)]
#[repr(u32)]
pub enum Map {
    /// The request's headers.
    Request = 0,
    /// The response's headers.
    Response = 2,
}

/// Takes the buffer that a call hands over; none where the call failed.
fn receive(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Option<Vec<u8>> {
    let mut data = std::ptr::null_mut();
    let mut size = 0;
    if call(&mut data, &mut size) != 0 {
        return None;
    }
    if data.is_null() {
        return Some(Vec::new());
    }
    // SAFETY: the host had `proxy_on_memory_allocate` of the SDK make this buffer with exactly `size` bytes as a boxed
    // slice, filled it, and keeps no reference to it.
    Some(unsafe { Vec::from_raw_parts(data, size, size) })
}

/// The plugin configuration, while it is being handed over; empty where there is none.
pub fn plugin_configuration() -> Vec<u8> {
    // SAFETY: both pointers are valid for the call.
    let configuration =
        receive(|data, size| unsafe { proxy_get_buffer_bytes(PLUGIN_CONFIGURATION, 0, usize::MAX, data, size) });
    configuration.unwrap_or_default()
}

/// All headers of the request.
pub fn headers() -> Option<Vec<u8>> {
    // SAFETY: both pointers are valid for the call.
    receive(|data, size| unsafe { proxy_get_header_map_pairs(REQUEST, data, size) })
}

/// One header.
pub fn header(map: Map, name: &str) -> Option<Vec<u8>> {
    // SAFETY: all pointers are valid for the call.
    receive(|data, size| unsafe { proxy_get_header_map_value(map as u32, name.as_ptr(), name.len(), data, size) })
}

/// Sets a header of the request.
pub fn set_header(name: &str, value: &str) {
    // SAFETY: all pointers are valid for the call.
    unsafe {
        proxy_replace_header_map_value(REQUEST, name.as_ptr(), name.len(), value.as_ptr(), value.len());
    }
}

/// Adds a header to the response.
pub fn add_header(name: &str, value: &str) {
    // SAFETY: all pointers are valid for the call.
    unsafe {
        proxy_add_header_map_value(Map::Response as u32, name.as_ptr(), name.len(), value.as_ptr(), value.len());
    }
}

/// Removes a header of the request.
pub fn remove_header(name: &str) {
    // SAFETY: all pointers are valid for the call.
    unsafe {
        proxy_remove_header_map_value(REQUEST, name.as_ptr(), name.len());
    }
}

/// A property, by its path with NULs between the parts.
pub fn property(path: &str) -> Option<Vec<u8>> {
    // SAFETY: all pointers are valid for the call.
    receive(|data, size| unsafe { proxy_get_property(path.as_ptr(), path.len(), data, size) })
}

/// Sets filter state.
pub fn set_property(name: &str, value: &str) {
    // SAFETY: all pointers are valid for the call.
    unsafe {
        proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len());
    }
}

/// A value of shared data.
pub fn shared(key: &str) -> Option<Vec<u8>> {
    let mut cas = 0;
    // SAFETY: all pointers are valid for the call.
    receive(|data, size| unsafe { proxy_get_shared_data(key.as_ptr(), key.len(), data, size, &mut cas) })
}

/// Writes a value of shared data.
pub fn set_shared(key: &str, value: &[u8]) {
    // SAFETY: all pointers are valid for the call.
    unsafe {
        proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), 0);
    }
}

/// The time in nanoseconds.
pub fn time() -> u64 {
    let mut time = 0;
    // SAFETY: the pointer is valid for the call.
    unsafe {
        proxy_get_current_time_nanoseconds(&mut time);
    }
    time
}

/// Defines a counter.
pub fn define_counter(name: &str) -> u32 {
    let mut id = 0;
    // SAFETY: all pointers are valid for the call.
    unsafe {
        proxy_define_metric(0, name.as_ptr(), name.len(), &mut id);
    }
    id
}

/// Counts one more.
pub fn increment(id: u32) {
    // SAFETY: plain numbers.
    unsafe {
        proxy_increment_metric(id, 1);
    }
}
