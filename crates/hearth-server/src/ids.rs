//! Ids nobody can guess: of requests, answers, calls.

/// `prefix` and 24 random hexadecimal digits.
///
/// # Panics
///
/// The system gives no random bytes, which no later step of a server would survive either.
pub fn new(prefix: &str) -> String {
    let bytes: [u8; 12] = random();
    prefix.to_owned() + &hex(&bytes)
}

/// Random bytes of the system.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system has random bytes");
    bytes
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn ids_differ_and_keep_their_prefix() {
        let (a, b) = (super::new("req_"), super::new("req_"));
        assert!(a.starts_with("req_") && a.len() == 28 && a != b);
    }
}
