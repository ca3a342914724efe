//! The memory map of a file. The only unsafe code of the crate.

use std::{fs::File, io};

use memmap2::Mmap;

/// A file mapped read-only.
pub(crate) struct Map(Mmap);

impl Map {
    /// Maps a regular file that is not empty.
    pub fn new(file: &File) -> io::Result<Map> {
        // SAFETY: the map is read-only and private to this type, which lends it as `&[u8]` for its own lifetime. What we
        // cannot rule out is another process changing the file: the crate's documentation says so, all offsets were
        // copied out and checked before use, and weights are only ever read as plain numbers, where any bits are valid.
        unsafe { Mmap::map(file) }.map(Map)
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Tells the system that a range is about to be read. A wish, so failure is no error.
    pub fn will_need(&self, start: usize, len: usize) {
        #[cfg(unix)]
        let _ = self.0.advise_range(memmap2::Advice::WillNeed, start, len);
        #[cfg(not(unix))]
        let _ = (start, len);
    }

    /// Bytes of the map that are in memory, to the page; `None` where the system does not tell.
    #[cfg(unix)]
    pub fn resident_bytes(&self) -> Option<u64> {
        /// Pages asked about in one call: 64 MiB of file cost 16 KiB of answers.
        const PAGES: usize = 1 << 14;
        // SAFETY: sysconf has no preconditions.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) })
            .ok()
            .filter(|&page| page > 0)?;
        let mut answers = vec![0_u8; PAGES];
        let mut resident = 0;
        for chunk in self.bytes().chunks(PAGES * page) {
            // SAFETY: `chunk` is part of a live map and begins at a page (the map does, and chunks are whole pages), and
            // `answers` has a byte for each of its at most PAGES pages.
            let code = unsafe {
                libc::mincore(
                    chunk.as_ptr().cast_mut().cast(),
                    chunk.len(),
                    answers.as_mut_ptr().cast(),
                )
            };
            if code != 0 {
                return None;
            }
            let pages = chunk.len().div_ceil(page);
            let in_memory = answers[..pages]
                .iter()
                .filter(|&&answer| answer & 1 == 1)
                .count();
            resident += (in_memory * page).min(chunk.len()) as u64;
        }
        Some(resident)
    }

    /// Bytes of the map that are in memory; this system does not tell.
    #[cfg(not(unix))]
    pub fn resident_bytes(&self) -> Option<u64> {
        None
    }
}
