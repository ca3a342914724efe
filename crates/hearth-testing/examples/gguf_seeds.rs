//! Writes small valid files, and the hostile ones of the tests, into the folder given: where the `gguf` target starts.

use std::{env, fs, path::Path, process::ExitCode};

use hearth_gguf::{GgufError, GgufWriter, StringArray, TensorType};
use hearth_testing::hostile;

fn main() -> ExitCode {
    let Some(folder) = env::args_os().nth(1) else {
        eprintln!("error: no folder given\n\nhint: gguf_seeds FOLDER");
        return ExitCode::from(2);
    };
    match write_all(Path::new(&folder)) {
        Ok(count) => {
            println!("{count} seeds");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write_all(folder: &Path) -> Result<usize, Box<dyn std::error::Error>> {
    fs::create_dir_all(folder)?;
    let mut count = 0;
    let mut put = |name: String, bytes: Vec<u8>| {
        count += 1;
        fs::write(folder.join(name), bytes)
    };
    for &ty in TensorType::ALL {
        put(format!("one_{ty}"), one_tensor(ty)?)?;
    }
    put("values".to_owned(), every_value()?)?;
    put("well_formed".to_owned(), hostile::well_formed())?;
    for case in hostile::corpus() {
        // The few large ones only repeat a byte.
        if case.bytes.len() < 4096 {
            put(format!("hostile_{}", case.name), case.bytes)?;
        }
    }
    Ok(count)
}

fn one_tensor(ty: TensorType) -> Result<Vec<u8>, GgufError> {
    let mut writer = GgufWriter::new();
    writer.add_value("general.architecture", "llama")?;
    let n_bytes = writer.add_tensor("w", ty, &[2, ty.block_len()])?;
    let mut body = writer.begin(Vec::new())?;
    body.write_tensor(&vec![0x5a; n_bytes as usize])?;
    body.finish()
}

fn every_value() -> Result<Vec<u8>, GgufError> {
    let mut writer = GgufWriter::new();
    writer.set_alignment(8)?;
    writer.add_value("u8", 1_u8)?;
    writer.add_value("i8", -1_i8)?;
    writer.add_value("u16", 1_u16)?;
    writer.add_value("i16", -1_i16)?;
    writer.add_value("u32", 1_u32)?;
    writer.add_value("i32", -1_i32)?;
    writer.add_value("u64", 1_u64)?;
    writer.add_value("i64", -1_i64)?;
    writer.add_value("f32", 1.0_f32)?;
    writer.add_value("f64", 1.0_f64)?;
    writer.add_value("bool", true)?;
    writer.add_value("bools", vec![true, false])?;
    writer.add_value("u32s", vec![1_u32, 2])?;
    writer.add_value("f32s", vec![1.0_f32, 2.0])?;
    writer.add_value(
        "tokenizer.ggml.tokens",
        ["a", "b", ""].into_iter().collect::<StringArray>(),
    )?;
    writer.add_tensor("a", TensorType::F32, &[1, 2, 1, 2])?;
    writer.add_tensor("b", TensorType::I8, &[3])?;
    let mut body = writer.begin(Vec::new())?;
    body.write_tensor(&[0; 16])?;
    body.write_tensor(&[0; 3])?;
    body.finish()
}
