//! The head of a page file: what the page is, so that nothing but the page that was meant is ever read.
//!
//! 512 bytes, numbers little-endian: magic, format, page format, length of the body, body checksum, then the
//! identity of the model, the root of the chain, the keys of the page before and of the page itself, the
//! tokens, zeros, and a checksum of all that. The body follows: the bytes of the page as the pool holds
//! them. Checksums are XXH3 of 64 bits: they find damage, not malice; who may write into this folder may
//! read the prompts anyway.

use hearth_kernels::PAGE_POSITIONS;
use twox_hash::XxHash3_64;

use super::chain::{Key, Link};

const MAGIC: &[u8; 8] = b"hearthKV";
/// Raised whenever the layout of the file changes.
pub(crate) const FORMAT: u32 = 1;
/// Length of the head.
pub const HEADER_BYTES: usize = 512;
const CHECKED_BYTES: usize = HEADER_BYTES - 8;

/// What stands before a page in its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// [`KvType::page_format`](hearth_kernels::KvType::page_format) of the page.
    pub page_format: u32,
    /// Length of the page.
    pub body_bytes: u64,
    /// Checksum of the page.
    pub body_checksum: u64,
    /// Model and settings.
    pub identity: Key,
    /// Where the chain begins: the owner.
    pub root: Key,
    /// The page's place in the chain.
    pub link: Link,
}

/// Why a file is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PageFileError {
    /// It ends too early or too late.
    #[error("the page file has {found} bytes, expected {expected}")]
    Length {
        /// What it should have.
        expected: u64,
        /// What it has.
        found: u64,
    },
    /// It begins with nothing but zeros, as after a power cut.
    #[error("the page file was never written to its end")]
    Torn,
    /// It begins with something else.
    #[error("not a page file")]
    Magic,
    /// It is of another version.
    #[error("page files of format {found} are not read, this is format {FORMAT}")]
    Format {
        /// Its format.
        found: u32,
    },
    /// Bytes changed.
    #[error("the {part} of the page file does not match its checksum")]
    Checksum {
        /// Which part.
        part: &'static str,
    },
    /// It is another page.
    #[error("the page file has another {field}")]
    Foreign {
        /// What differs.
        field: &'static str,
    },
}

impl PageFileError {
    /// Whether it is a file of ours that nobody can use any more.
    pub fn is_damage(self) -> bool {
        matches!(
            self,
            PageFileError::Length { .. } | PageFileError::Torn | PageFileError::Checksum { .. }
        )
    }
}

impl Header {
    /// The bytes of the head.
    pub fn write(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut at = 0;
        let mut put = |part: &[u8]| {
            bytes[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        };
        put(MAGIC);
        put(&FORMAT.to_le_bytes());
        put(&self.page_format.to_le_bytes());
        put(&self.body_bytes.to_le_bytes());
        put(&self.body_checksum.to_le_bytes());
        for key in [self.identity, self.root, self.link.parent, self.link.key] {
            put(&key.0);
        }
        for token in self.link.tokens {
            put(&token.to_le_bytes());
        }
        let checksum = XxHash3_64::oneshot(&bytes[..CHECKED_BYTES]);
        bytes[CHECKED_BYTES..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads the head of a file; more may follow.
    ///
    /// # Errors
    /// It is none, it is of another format, or its bytes changed.
    pub fn read(bytes: &[u8]) -> Result<Header, PageFileError> {
        let Some(bytes) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(PageFileError::Length {
                expected: HEADER_BYTES as u64,
                found: bytes.len() as u64,
            });
        };
        if bytes.iter().all(|byte| *byte == 0) {
            return Err(PageFileError::Torn);
        }
        let mut reader = Reader(bytes);
        if reader.take::<8>() != *MAGIC {
            return Err(PageFileError::Magic);
        }
        // Another format may have its checksum elsewhere.
        let format = reader.u32();
        if format != FORMAT {
            return Err(PageFileError::Format { found: format });
        }
        let checksum = XxHash3_64::oneshot(&bytes[..CHECKED_BYTES]);
        if bytes[CHECKED_BYTES..] != checksum.to_le_bytes() {
            return Err(PageFileError::Checksum { part: "head" });
        }
        let (page_format, body_bytes, body_checksum) = (reader.u32(), reader.u64(), reader.u64());
        let [identity, root, parent, key] = [(); 4].map(|()| Key(reader.take()));
        let mut tokens = [0; PAGE_POSITIONS];
        tokens.fill_with(|| reader.u32());
        Ok(Header {
            page_format,
            body_bytes,
            body_checksum,
            identity,
            root,
            link: Link {
                key,
                parent,
                tokens,
            },
        })
    }

    /// Compares with the page that is looked for; the checksum of the body is the file's to tell.
    ///
    /// # Errors
    /// It is another page.
    pub(super) fn check(&self, wanted: &Header) -> Result<(), PageFileError> {
        let differs = [
            ("page format", self.page_format != wanted.page_format),
            ("length", self.body_bytes != wanted.body_bytes),
            ("model", self.identity != wanted.identity),
            ("owner", self.root != wanted.root),
            ("key", self.link.key != wanted.link.key),
            ("beginning", self.link.parent != wanted.link.parent),
            ("text", self.link.tokens != wanted.link.tokens),
        ];
        match differs.iter().find(|(_, differs)| *differs) {
            Some((field, _)) => Err(PageFileError::Foreign { field }),
            None => Ok(()),
        }
    }
}

/// Takes numbers from the front of bytes whose length was checked.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (first, rest) = self
            .0
            .split_first_chunk::<N>()
            .expect("the head is longer than its fields");
        self.0 = rest;
        *first
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            page_format: 1,
            body_bytes: 4096,
            body_checksum: 77,
            identity: Key([1; 32]),
            root: Key([2; 32]),
            link: Link {
                key: Key([3; 32]),
                parent: Key([4; 32]),
                tokens: std::array::from_fn(|index| index as u32 * 1000),
            },
        }
    }

    #[test]
    fn what_was_written_is_read() {
        assert_eq!(Header::read(&header().write()), Ok(header()));
        assert!(header().check(&header()).is_ok());
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let bytes = header().write();
        for bit in 0..8 * HEADER_BYTES {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            let error = Header::read(&damaged).expect_err("a bit differs");
            let expected = match bit / 8 {
                0..8 => PageFileError::Magic,
                8..12 => PageFileError::Format {
                    found: FORMAT ^ (1 << (bit - 64)),
                },
                _ => PageFileError::Checksum { part: "head" },
            };
            assert_eq!(error, expected, "bit {bit}");
        }
        for n in 0..HEADER_BYTES {
            let error = Header::read(&bytes[..n]).expect_err("too short");
            assert!(error.is_damage(), "{n}: {error}");
        }
        assert_eq!(Header::read(&[0; HEADER_BYTES]), Err(PageFileError::Torn));
        assert_eq!(Header::read(&[b'x'; 600]), Err(PageFileError::Magic));
    }

    #[test]
    fn only_damage_of_ours_is_removed() {
        assert!(PageFileError::Torn.is_damage());
        assert!(PageFileError::Checksum { part: "body" }.is_damage());
        assert!(!PageFileError::Magic.is_damage());
        assert!(!PageFileError::Format { found: 2 }.is_damage());
        assert!(!PageFileError::Foreign { field: "model" }.is_damage());
    }

    #[test]
    fn another_page_is_named() {
        type Change = fn(&mut Header);
        let changes: [(&str, Change); 7] = [
            ("page format", |header| header.page_format = 2),
            ("length", |header| header.body_bytes = 1),
            ("model", |header| header.identity.0[31] = 0),
            ("owner", |header| header.root.0[0] = 0),
            ("key", |header| header.link.key.0[0] = 0),
            ("beginning", |header| header.link.parent.0[0] = 0),
            ("text", |header| header.link.tokens[63] = 0),
        ];
        for (field, change) in changes {
            let mut other = header();
            change(&mut other);
            assert_eq!(
                other.check(&header()),
                Err(PageFileError::Foreign { field })
            );
        }
    }
}
