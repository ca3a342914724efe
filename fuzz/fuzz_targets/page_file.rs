//! Any bytes as the head of a page file: it is refused, or it is what `write` makes. And any head, written, is read back,
//! but not with a bit changed.

#![no_main]

use hearth_engine::prefix::{HEADER_BYTES, Header, Key, Link};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    hearth_fuzz::within_budget(input, |input| {
        match Header::read(input) {
            Ok(header) => assert_eq!(header.write()[..], input[..HEADER_BYTES]),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
        round_trip(input);
    });
});

fn round_trip(input: &[u8]) {
    // Endless: zeros follow the input.
    let mut bytes = input.iter().copied().chain(std::iter::repeat(0));
    let mut take = || bytes.next().unwrap_or(0);
    let mut u64 = || u64::from_le_bytes([(); 8].map(|()| take()));
    let flip = u64() as usize % (8 * HEADER_BYTES);
    let (page_format, body_bytes, body_checksum) = (u64() as u32, u64(), u64());
    let mut key = || {
        let words = [(); 4].map(|()| u64().to_le_bytes());
        Key(std::array::from_fn(|at| words[at / 8][at % 8]))
    };
    let [identity, root, parent, own] = [(); 4].map(|()| key());
    let tokens = [(); 64].map(|()| u64() as u32);
    let header = Header {
        page_format,
        body_bytes,
        body_checksum,
        identity,
        root,
        link: Link {
            key: own,
            parent,
            tokens,
        },
    };
    let mut written = header.write();
    assert_eq!(Header::read(&written), Ok(header));
    written[flip / 8] ^= 1 << (flip % 8);
    assert!(Header::read(&written).is_err());
}
