//! The alphabet of byte-level vocabularies: every byte has a printable character that stands for it.
//!
//! Printable Latin-1 bytes stand for themselves, the other 68 get the characters from U+0100 on, in order. This is
//! the table of the GPT-2 tokenizer, which all byte-level vocabularies share.

/// True for the bytes that stand for themselves.
const fn is_printable(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff)
}

/// Byte of each character below U+0144; `NONE` where there is none.
const BYTES: [u16; 0x144] = {
    let mut table = [NONE; 0x144];
    let mut next = 0x100;
    let mut byte = 0usize;
    while byte < 256 {
        if is_printable(byte as u8) {
            table[byte] = byte as u16;
        } else {
            table[next] = byte as u16;
            next += 1;
        }
        byte += 1;
    }
    table
};

const NONE: u16 = u16::MAX;

/// The byte a character stands for.
pub(super) fn byte_of(c: char) -> Option<u8> {
    let code = usize::try_from(u32::from(c)).ok()?;
    BYTES.get(code).and_then(|&byte| u8::try_from(byte).ok())
}

/// Appends the bytes a token stands for; `false`, and nothing appended, when a character is outside the alphabet.
pub(super) fn decode(token: &str, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    for c in token.chars() {
        match byte_of(c) {
            Some(byte) => out.push(byte),
            None => {
                out.truncate(start);
                return false;
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_one_character() {
        let mut seen = [false; 256];
        for code in 0..0x200 {
            if let Some(byte) = char::from_u32(code).and_then(byte_of) {
                assert!(!std::mem::replace(&mut seen[usize::from(byte)], true));
            }
        }
        assert!(seen.iter().all(|&s| s));
        assert_eq!(byte_of('Ġ'), Some(b' '));
        assert_eq!(byte_of('Ċ'), Some(b'\n'));
    }

    #[test]
    fn other_characters_are_refused_whole() {
        let mut out = vec![1];
        assert!(!decode("aé▁", &mut out));
        assert_eq!(out, [1]);
        assert!(decode("Ġé", &mut out));
        assert_eq!(out, [1, b' ', 0xe9]);
    }
}
