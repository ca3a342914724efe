//! A position in the bytes of a file. It only ever moves forward, and only over bytes that exist.

use crate::error::{GgufError, Place};

/// Reads little-endian numbers and counted strings.
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    pos: usize,
}

/// The bytes ended too soon. Kept small: the place is named by the caller, who only builds it when it is needed.
#[derive(Debug)]
pub(crate) struct Short {
    offset: u64,
    need: u64,
    have: u64,
    field: &'static str,
}

impl Short {
    /// The error of the crate, with the key or tensor that was being read.
    pub fn at(self, place: Place) -> GgufError {
        let Short {
            offset,
            need,
            have,
            field,
        } = self;
        GgufError::Truncated {
            place,
            field,
            offset,
            need,
            have,
        }
    }
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Cursor { bytes, pos: 0 }
    }

    /// Offset of the next byte from the start of the file.
    pub fn offset(&self) -> u64 {
        self.pos as u64
    }

    pub fn remaining(&self) -> u64 {
        (self.bytes.len() - self.pos) as u64
    }

    /// All bytes from here on.
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.pos..]
    }

    /// The next `n` bytes. `n` may be any number a file can claim.
    pub fn take(&mut self, n: u64, field: &'static str) -> Result<&'a [u8], Short> {
        if n > self.remaining() {
            return Err(Short {
                offset: self.offset(),
                need: n,
                have: self.remaining(),
                field,
            });
        }
        // Fits: n is at most the length of a slice.
        let (start, n) = (self.pos, n as usize);
        self.pos += n;
        Ok(&self.bytes[start..start + n])
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], Short> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N as u64, field)?);
        Ok(out)
    }

    pub fn u8(&mut self, field: &'static str) -> Result<u8, Short> {
        Ok(self.array::<1>(field)?[0])
    }

    pub fn u16(&mut self, field: &'static str) -> Result<u16, Short> {
        Ok(u16::from_le_bytes(self.array(field)?))
    }

    pub fn u32(&mut self, field: &'static str) -> Result<u32, Short> {
        Ok(u32::from_le_bytes(self.array(field)?))
    }

    pub fn u64(&mut self, field: &'static str) -> Result<u64, Short> {
        Ok(u64::from_le_bytes(self.array(field)?))
    }

    /// A 64-bit length and that many bytes.
    pub fn string(&mut self, field: &'static str) -> Result<&'a [u8], Short> {
        let n = self.u64(field)?;
        self.take(n, field)
    }
}
