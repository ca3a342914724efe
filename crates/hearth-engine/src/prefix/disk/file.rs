//! One page file: opened, read straight into the page it is for, written beside its name and renamed.

use std::{
    fs::{self, File, FileTimes},
    hash::Hasher,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    time::SystemTime,
};

use twox_hash::XxHash3_64;

use crate::prefix::{
    header::{HEADER_BYTES, Header, PageFileError},
    private::private,
};

/// Read and summed at a time, so that the sum finds the bytes in the processor's cache.
const CHUNK_BYTES: usize = 256 << 10;

/// The name under which a file is written. Whoever writes holds the lock, so there is never more than one.
pub(super) const UNFINISHED: &str = "unfinished";

/// Why a page did not come from its file.
#[derive(Debug, thiserror::Error)]
pub(in crate::prefix) enum ReadError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    File(#[from] PageFileError),
}

/// A file whose head is that of the page wanted.
#[derive(Debug)]
pub(in crate::prefix) struct OpenPage {
    file: File,
    header: Header,
    pub(super) path: PathBuf,
}

impl OpenPage {
    /// Opens a file and compares its head and length.
    pub(super) fn open(path: PathBuf, wanted: &Header) -> Result<OpenPage, (PathBuf, ReadError)> {
        match open(&path, wanted) {
            Ok((file, header)) => Ok(OpenPage { file, header, path }),
            Err(error) => Err((path, error)),
        }
    }

    /// Reads the page into memory of its length.
    pub(super) fn read(&mut self, body: &mut [u8]) -> Result<(), ReadError> {
        let mut checksum = XxHash3_64::new();
        for chunk in body.chunks_mut(CHUNK_BYTES) {
            self.file.read_exact(chunk)?;
            checksum.write(chunk);
        }
        if checksum.finish() == self.header.body_checksum {
            Ok(())
        } else {
            Err(PageFileError::Checksum { part: "body" }.into())
        }
    }
}

fn open(path: &Path, wanted: &Header) -> Result<(File, Header), ReadError> {
    // A pipe or a folder under this name is not ours, and to open a pipe is to wait.
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_file() {
        return Err(PageFileError::Magic.into());
    }
    let mut file = File::open(path)?;
    let mut head = Vec::with_capacity(HEADER_BYTES);
    (&mut file)
        .take(HEADER_BYTES as u64)
        .read_to_end(&mut head)?;
    let header = Header::read(&head)?;
    header.check(wanted)?;
    let (found, expected) = (metadata.len(), HEADER_BYTES as u64 + wanted.body_bytes);
    if found != expected {
        return Err(PageFileError::Length { expected, found }.into());
    }
    Ok((file, header))
}

/// Writes a page, whose checksum the head gets here. Nothing is forced to the disk: after a power cut a file may
/// have any content, and its checksums tell.
pub(super) fn write(path: &Path, header: &Header, body: &[u8]) -> io::Result<()> {
    let header = Header {
        body_checksum: XxHash3_64::oneshot(body),
        ..header.clone()
    };
    let unfinished = path.with_file_name(UNFINISHED);
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = private()
        .write(true)
        .create_new(true)
        .open(&unfinished)
        .and_then(|mut file| {
            file.write_all(&header.write())?;
            file.write_all(body)
        })
        .and_then(|()| fs::rename(&unfinished, path));
    if written.is_err() {
        // What is left of it would count against the disk; the error that is told is the first one.
        let _ = fs::remove_file(&unfinished);
    }
    written
}

/// Marks a file as just used. A file that went away meanwhile is no error.
pub(super) fn touch(path: &Path) {
    let now = FileTimes::new().set_modified(SystemTime::now());
    let _ = File::open(path).and_then(|file| file.set_times(now));
}
