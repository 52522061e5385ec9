//! Files that are replaced as a whole: whoever reads one finds what was there before, or what is there now, after a crash too.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Readable to its owner alone.
pub const PRIVATE: u32 = 0o600;
/// As readable as the owner's other files are.
pub const ORDINARY: u32 = 0o666;

/// Puts `bytes` in the place of the file at `path`, on disk when this returns. `mode` is who may read it, less the umask.
///
/// # Errors
/// Where it cannot be written: nothing has changed then.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::other("it names no file"))?;
    let mut beside = OsString::from(".");
    beside.push(name);
    beside.push(format!(".{}.new", std::process::id()));
    let beside = path.with_file_name(beside);
    // Whatever a process that was killed left there may have another mode.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside);
    let written = opened.and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
    let placed = written.and_then(|()| fs::rename(&beside, path)).and_then(|()| File::open(folder)?.sync_all());
    if placed.is_err() {
        fs::remove_file(&beside).ok();
    }
    placed
}
