//! Guesses what a file is that is not GGUF, because "wrong magic" helps nobody who downloaded a web page.

use std::fmt;

use crate::error::GgufError;

/// A kind of file that people hand us in place of a GGUF file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lookalike {
    /// A model file of ggml from before GGUF.
    LegacyGgml,
    /// Weights in the format of Hugging Face.
    Safetensors,
    /// An archive; PyTorch checkpoints are among them.
    Zip,
    /// A web page, usually the error page of a download.
    Html,
    /// The stand-in that git leaves for a file it did not fetch.
    GitLfsPointer,
    /// Some other text.
    Text,
}

impl Lookalike {
    /// The next step for who has such a file.
    #[must_use]
    pub fn hint(self) -> &'static str {
        match self {
            Lookalike::LegacyGgml => {
                "the file is from before August 2023; find a GGUF file of the same model"
            }
            Lookalike::Safetensors => {
                "find a GGUF file of the same model, or convert it with llama.cpp's convert_hf_to_gguf.py"
            }
            Lookalike::Zip => {
                "unpack it if it holds a GGUF file; a PyTorch checkpoint must be converted first"
            }
            Lookalike::Html => {
                "the download saved a web page; use the link that downloads the file itself"
            }
            Lookalike::GitLfsPointer => {
                "run 'git lfs pull' where the file came from, or download the file itself"
            }
            Lookalike::Text => "give the path of a GGUF file",
        }
    }
}

impl fmt::Display for Lookalike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Lookalike::LegacyGgml => "a GGML file from before GGUF",
            Lookalike::Safetensors => "a safetensors file",
            Lookalike::Zip => "a ZIP archive or a PyTorch checkpoint",
            Lookalike::Html => "a web page",
            Lookalike::GitLfsPointer => "a Git LFS pointer, not the file it points to",
            Lookalike::Text => "text",
        })
    }
}

/// The error for bytes that do not begin with `GGUF`; at least one byte.
pub(crate) fn not_gguf(bytes: &[u8]) -> GgufError {
    if bytes.starts_with(b"FUGG") {
        return GgufError::BigEndian;
    }
    if let Some(found) = lookalike(&bytes[..bytes.len().min(512)]) {
        return GgufError::OtherFormat { found };
    }
    let mut found = [0; 4];
    let n = bytes.len().min(4);
    found[..n].copy_from_slice(&bytes[..n]);
    GgufError::Magic { found }
}

fn lookalike(head: &[u8]) -> Option<Lookalike> {
    // The old magics were 32-bit numbers (ggml, ggmf, ggjt, ggla), so their letters stand reversed.
    if [b"lmgg", b"fmgg", b"tjgg", b"algg"]
        .iter()
        .any(|magic| head.starts_with(*magic))
    {
        return Some(Lookalike::LegacyGgml);
    }
    // Eight bytes of header length, then JSON.
    if head.len() > 9 && head[8] == b'{' && head[4..8] == [0; 4] {
        return Some(Lookalike::Safetensors);
    }
    if head.starts_with(b"PK\x03\x04") {
        return Some(Lookalike::Zip);
    }
    if head.starts_with(b"version https://git-lfs") {
        return Some(Lookalike::GitLfsPointer);
    }
    let is_text = |b: &u8| matches!(b, b'\t' | b'\n' | b'\r' | 0x20..=0x7e | 0x80..);
    if !head.iter().all(is_text) || (head.len() < 4 && b"GGUF".starts_with(head)) {
        return None;
    }
    let start = head.trim_ascii_start().to_ascii_lowercase();
    let is_page = [&b"<!doctype"[..], b"<html", b"<?xml"]
        .iter()
        .any(|tag| start.starts_with(tag));
    // Cut in the middle of a character, so only an error before the last few bytes counts.
    let is_utf8 = std::str::from_utf8(head).map_or_else(|e| e.error_len().is_none(), |_| true);
    if is_page {
        Some(Lookalike::Html)
    } else {
        is_utf8.then_some(Lookalike::Text)
    }
}
