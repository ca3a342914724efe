//! Every defect has its own error, with the place of it, and none has a panic.

use std::path::Path;

use hearth_gguf::{Gguf, GgufError, TensorType};
use hearth_testing::hostile::{Hostile, Raw, corpus, id, well_formed};
use proptest::prelude::*;

/// The name of an error's variant.
fn variant(error: &GgufError) -> String {
    let debug = format!("{error:?}");
    debug
        .split([' ', '(', '{'])
        .next()
        .unwrap_or_default()
        .to_owned()
}

fn case(name: &str) -> Hostile {
    corpus()
        .into_iter()
        .find(|case| case.name == name)
        .expect("a case of that name")
}

/// Asserts the variant of the error, and returns its message.
fn refused(name: &str) -> String {
    let case = case(name);
    let error = Gguf::from_vec(case.bytes).expect_err(name);
    assert_eq!(variant(&error), case.error, "{name}: {error}");
    error.to_string()
}

#[test]
fn the_well_formed_file_opens() -> Result<(), GgufError> {
    let gguf = Gguf::from_vec(well_formed())?;
    assert_eq!(
        gguf.metadata().require_str("general.architecture")?,
        "llama"
    );
    let tokens = gguf.metadata().require_strings("tokenizer.ggml.tokens")?;
    assert_eq!(tokens.iter().collect::<Vec<_>>(), [&b"a"[..], b"\xff", b""]);
    let tensor = gguf.tensor("w").expect("it has one");
    assert_eq!(
        (tensor.shape.as_slice(), tensor.ty, gguf.data(tensor).len()),
        (&[8, 4][..], TensorType::F32, 128)
    );
    Ok(())
}

/// Versions 2 and 3 differ in nothing but what big-endian files may do.
#[test]
fn version_2_is_read_as_version_3() -> Result<(), GgufError> {
    let mut bytes = well_formed();
    bytes[4] = 2;
    let gguf = Gguf::from_vec(bytes)?;
    assert_eq!((gguf.version(), gguf.tensors().len()), (2, 1));
    Ok(())
}

#[test]
fn every_hostile_file_causes_the_error_meant_for_it() {
    let mut failures = Vec::new();
    for case in corpus() {
        match Gguf::from_vec(case.bytes) {
            Ok(_) => failures.push(format!("{}: opened", case.name)),
            Err(error) => {
                let (found, text) = (variant(&error), error.to_string());
                if found != case.error {
                    failures.push(format!("{}: {found}, not {}", case.name, case.error));
                }
                let is_designed =
                    !text.ends_with('.') && !text.contains('\n') && !error.hint().is_empty();
                if !is_designed {
                    failures.push(format!("{}: {text:?} / {:?}", case.name, error.hint()));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

// The traps that caught other programs, each by its name.

#[test]
fn cve_2024_21802_header_counts_are_bounded_before_memory_is_taken() {
    assert!(refused("cve_2024_21802_tensor_count_of_all_bits").contains("offset 8"));
    assert!(refused("cve_2024_21802_key_count_of_all_bits").contains("offset 16"));
}

#[test]
fn ghsa_96jg_and_vgg9_products_do_not_wrap() {
    refused("ghsa_96jg_element_count_wraps_to_zero");
    refused("ghsa_96jg_element_count_wraps_small");
    refused("ghsa_vgg9_byte_count_wraps");
    refused("ghsa_vgg9_offset_wraps");
    refused("array_whose_bytes_wrap_to_8");
}

#[test]
fn alignment_is_bounded_and_its_type_checked() {
    for name in [
        "alignment_zero",
        "alignment_no_power_of_two",
        "alignment_without_bound",
        "alignment_of_63_bits",
    ] {
        refused(name);
    }
    for name in [
        "alignment_a_string",
        "alignment_a_float",
        "alignment_an_array",
    ] {
        assert!(
            refused(name).contains("\"general.alignment\" at offset 24"),
            "{name}"
        );
    }
}

#[test]
fn an_empty_key_is_an_error_and_no_assertion() {
    assert_eq!(
        refused("empty_key"),
        "metadata entry 0 at offset 24 has an empty key"
    );
}

#[test]
fn cve_2026_7482_data_beyond_the_file_is_never_lent() {
    assert!(refused("cve_2026_7482_data_beyond_the_file").contains("tensor \"w\""));
    refused("data_one_byte_short");
}

#[test]
fn a_tiny_file_with_an_array_of_2_to_63_takes_no_memory() {
    assert!(case("array_of_2_to_63_u8").bytes.len() < 64);
    for name in [
        "array_of_2_to_63_u8",
        "array_of_2_to_63_u64",
        "array_of_2_to_63_strings",
    ] {
        assert!(refused(name).contains("9223372036854775808"), "{name}");
    }
}

#[test]
fn go_2025_3559_zero_dimensions_are_refused_where_they_stand() {
    assert_eq!(
        refused("go_2025_3559_zero_dimension"),
        "tensor \"w\" at offset 24: dimension 0 is zero"
    );
}

#[test]
fn names_from_a_file_cannot_command_a_terminal() {
    let bytes = Raw::header(0, 1).key("\x1b[2J\u{202e}", 77).finish();
    let text = Gguf::from_vec(bytes)
        .expect_err("unknown value type")
        .to_string();
    assert!(
        !text.contains('\x1b') && !text.contains('\u{202e}'),
        "{text:?}"
    );
}

/// Hardening that compares every tensor with every other made loading slow elsewhere; here it would take minutes.
#[test]
fn a_hundred_thousand_tensors_open() -> Result<(), GgufError> {
    let n = 100_000;
    let mut raw = Raw::header(n, 0);
    for i in 0..n {
        raw = raw.tensor(&format!("t{i}"), &[8], id::TENSOR_F32, (n - 1 - i) * 32);
    }
    let bytes = raw.data(32, n as usize * 32).finish();
    let gguf = Gguf::from_vec(bytes)?;
    assert_eq!(gguf.tensors().len() as u64, n);
    Ok(())
}

#[test]
fn wrong_types_are_named_with_what_was_expected_and_found() -> Result<(), GgufError> {
    let bytes = Raw::header(0, 2)
        .key("text", id::STRING)
        .string(b"\xff")
        .key_u32("number", 7)
        .finish();
    let gguf = Gguf::from_vec(bytes)?;
    let text = gguf
        .metadata()
        .get_str("text")
        .expect_err("not UTF-8")
        .to_string();
    assert_eq!(
        text,
        "metadata key \"text\" at offset 24 must be a string, and is string that is not UTF-8"
    );
    let number = gguf
        .metadata()
        .require_str("number")
        .expect_err("no string")
        .to_string();
    assert_eq!(
        number,
        "metadata key \"number\" at offset 49 must be a string, and is u32"
    );
    let missing = gguf
        .metadata()
        .require_u32("none")
        .expect_err("absent")
        .to_string();
    assert_eq!(missing, "the metadata has no key \"none\" (an integer)");
    Ok(())
}

#[test]
fn paths_that_are_no_files_say_so() {
    let missing = Gguf::open(Path::new("no/such/file.gguf")).expect_err("missing");
    assert_eq!(
        (variant(&missing).as_str(), missing.hint()),
        ("Open", "check the path")
    );
    let directory = Gguf::open(Path::new(env!("CARGO_MANIFEST_DIR"))).expect_err("a directory");
    assert_eq!(variant(&directory), "Directory");
    if cfg!(unix) {
        let device = Gguf::open(Path::new("/dev/zero")).expect_err("a device");
        assert_eq!(variant(&device), "NotRegular");
    }
}

#[test]
fn cut_at_every_byte_never_panics_and_never_opens() {
    let whole = well_formed();
    assert!(Gguf::from_vec(whole.clone()).is_ok());
    for len in 0..whole.len() {
        let error = Gguf::from_vec(whole[..len].to_vec()).expect_err("a cut file");
        assert!(!error.hint().is_empty(), "cut at {len}");
    }
}

/// What opens must be usable: every tensor's data can be touched, every name found.
fn open_and_touch(bytes: Vec<u8>) {
    let Ok(gguf) = Gguf::from_vec(bytes) else {
        return;
    };
    for tensor in gguf.tensors() {
        assert_eq!(gguf.data(tensor).len() as u64, tensor.n_bytes());
        assert_eq!(gguf.tensor(&tensor.name), Some(tensor));
    }
    for (key, value) in gguf.metadata().iter() {
        assert_eq!(
            gguf.metadata().get(key).map(ToString::to_string),
            Some(value.to_string())
        );
    }
}

#[test]
fn every_byte_replaced_by_extremes_never_panics() {
    let whole = well_formed();
    for at in 0..whole.len() {
        for byte in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] = byte;
            open_and_touch(bytes);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Shapes whose products lie around the ends of 32, 63 and 64 bits: refused or exactly inside the file.
    #[test]
    fn shapes_near_the_ends_of_the_number_line_never_wrap(
        dims in prop::collection::vec(
            prop_oneof![
                0..40_u64,
                (0..64_u32, -2..3_i64).prop_map(|(bit, delta)| (1_u64 << bit).wrapping_add_signed(delta)),
                any::<u64>(),
            ],
            1..5,
        ),
        ty in 0..45_u32,
        offset in prop_oneof![Just(0_u64), Just(32), any::<u64>().prop_map(|x| x & !31)],
    ) {
        let bytes = Raw::header(1, 0).tensor("w", &dims, ty, offset).data(32, 256).finish();
        let len = bytes.len() as u128;
        if let Ok(gguf) = Gguf::from_vec(bytes) {
            let tensor = &gguf.tensors()[0];
            let elements = dims.iter().map(|&d| u128::from(d)).product::<u128>();
            let n_bytes = elements / u128::from(tensor.ty.block_len()) * u128::from(tensor.ty.block_bytes());
            prop_assert_eq!(gguf.data(tensor).len() as u128, n_bytes);
            prop_assert!(u128::from(tensor.offset()) + n_bytes <= len);
        }
    }

    #[test]
    fn random_damage_never_panics(
        at in prop::collection::vec((0..400_usize, any::<u8>()), 0..12),
        cut in 0..400_usize,
    ) {
        let mut bytes = well_formed();
        for (at, byte) in at {
            let n = bytes.len();
            bytes[at % n] = byte;
        }
        bytes.truncate(cut.max(8));
        open_and_touch(bytes);
    }
}
