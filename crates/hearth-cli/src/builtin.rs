//! `spark`, the model that is part of the program.

/// What it is called on the command line.
pub const NAME: &str = "spark";

/// A file in the program's own image, aligned as a mapped file would be.
#[repr(C, align(4096))]
struct Aligned<T: ?Sized>(T);

static FILE: &Aligned<[u8]> = &Aligned(*include_bytes!("../../../models/spark/spark.gguf"));

/// The GGUF file.
pub fn bytes() -> &'static [u8] {
    &FILE.0
}
