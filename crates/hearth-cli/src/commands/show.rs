//! `hearth show`: what a model file contains. Works for files that this version cannot run, too.

use std::collections::BTreeMap;
use std::sync::Arc;

use hearth_gguf::{Gguf, TensorInfo, Value};
use hearth_model::{Model, ModelOptions};
use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};

use crate::args::ShowArgs;
use crate::failure::{Failure, one_line};
use crate::model_ref::ModelRef;
use crate::printer::{self, Output, bold};

/// Prints metadata, and on request tensors and plan.
pub fn run(args: &ShowArgs) -> Result<(), Failure> {
    let reference = ModelRef::parse(&args.model)?;
    let gguf = reference.open()?;
    // The plan first: when it cannot be made, nothing is printed but the error.
    let plan = match args.plan {
        true => Some(
            Model::load(gguf.clone(), ModelOptions::default())?
                .plan()
                .to_string(),
        ),
        false => None,
    };
    let mut output = Output::new();
    if args.json {
        output.json(&everything(&reference, &gguf, plan.as_deref()))?;
    } else {
        summary(&mut output, &reference, &gguf)?;
        metadata(&mut output, &gguf)?;
        if args.tensors {
            tensors(&mut output, &gguf)?;
        }
        if let Some(plan) = plan {
            output.line(format!("\n{}\n{}", bold("plan"), plan.trim_end()))?;
        }
    }
    output.flush()
}

fn summary(output: &mut Output, reference: &ModelRef, gguf: &Arc<Gguf>) -> Result<(), Failure> {
    let files = match gguf.n_files() {
        1 => String::new(),
        n => format!(" in {n} files"),
    };
    let text = |key: &str| gguf.metadata().get_str(key).ok().flatten().map(one_line);
    let mut lines = vec![
        (
            "file",
            format!(
                "{reference}, {}{files}, GGUF version {}",
                printer::bytes(gguf.file_bytes()),
                gguf.version()
            ),
        ),
        (
            "tensors",
            format!(
                "{} with {:.1} million weights; --tensors lists them",
                gguf.tensors().len(),
                n_weights(gguf) as f64 / 1e6
            ),
        ),
        ("types", types(gguf)),
    ];
    lines.splice(1..1, text("general.name").map(|name| ("name", name)));
    let verdict = match Runs::of(gguf) {
        Runs::Yes { n_ctx } => format!("yes, with a context of up to {n_ctx} tokens"),
        Runs::No { reason } => format!("no: {}", one_line(&reason)),
    };
    lines.push(("runs", verdict));
    for (label, value) in lines {
        output.line(format!("{} {value}", bold(&format!("{label:<10}"))))?;
    }
    Ok(())
}

/// Whether this version can run the file.
#[derive(Serialize)]
#[serde(untagged)]
enum Runs {
    Yes { n_ctx: usize },
    No { reason: String },
}

impl Runs {
    fn of(gguf: &Arc<Gguf>) -> Runs {
        match Model::load(gguf.clone(), ModelOptions::default()) {
            Ok(model) => Runs::Yes {
                n_ctx: model.n_ctx(),
            },
            Err(error) => Runs::No {
                reason: error.to_string(),
            },
        }
    }
}

fn n_weights(gguf: &Gguf) -> u64 {
    gguf.tensors().iter().map(TensorInfo::n_elements).sum()
}

/// Weight types by their share of the bytes, largest first.
fn types(gguf: &Gguf) -> String {
    let mut bytes_of: BTreeMap<&str, u64> = BTreeMap::new();
    for tensor in gguf.tensors() {
        *bytes_of.entry(tensor.ty.name()).or_default() += tensor.n_bytes();
    }
    let total = bytes_of.values().sum::<u64>().max(1);
    let mut shares: Vec<_> = bytes_of.into_iter().collect();
    shares.sort_by_key(|&(_, bytes)| std::cmp::Reverse(bytes));
    let shares = shares
        .iter()
        .map(|(name, bytes)| format!("{name} {:.1} %", *bytes as f64 * 100.0 / total as f64));
    shares.collect::<Vec<_>>().join(", ")
}

fn metadata(output: &mut Output, gguf: &Gguf) -> Result<(), Failure> {
    /// A line of a terminal; a chat template would fill pages.
    const SHOWN: usize = 100;
    output.line(format!("\n{}", bold("metadata")))?;
    let rows = gguf.metadata().iter().map(|(key, value)| {
        let text = one_line(&value.to_string());
        let n_chars = text.chars().count();
        let text = if n_chars <= SHOWN {
            text
        } else {
            format!(
                "{}... ({n_chars} characters)",
                text.chars().take(SHOWN - 20).collect::<String>()
            )
        };
        vec![one_line(key), value.describe_type(), text]
    });
    let rows: Vec<_> = rows.collect();
    output.bytes(printer::table(&["key", "type", "value"], &[false; 3], &rows).as_bytes())
}

fn tensors(output: &mut Output, gguf: &Gguf) -> Result<(), Failure> {
    output.line(format!("\n{}", bold("tensors")))?;
    let rows: Vec<_> = gguf
        .tensors()
        .iter()
        .map(|tensor| {
            let shape: Vec<String> = tensor.shape.iter().map(u64::to_string).collect();
            vec![
                one_line(&tensor.name),
                format!("[{}]", shape.join(", ")),
                tensor.ty.to_string(),
                tensor.n_bytes().to_string(),
            ]
        })
        .collect();
    output.bytes(
        printer::table(
            &["name", "shape", "type", "bytes"],
            &[false, false, false, true],
            &rows,
        )
        .as_bytes(),
    )
}

/// Everything at once, for programs.
#[derive(Serialize)]
struct Everything<'a> {
    file: String,
    bytes: u64,
    files: usize,
    gguf_version: u32,
    alignment: u64,
    n_tensors: usize,
    n_weights: u64,
    /// The context it runs with, or the reason why it does not.
    runs: Runs,
    metadata: Metadata<'a>,
    tensors: Vec<Tensor<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<&'a str>,
}

#[derive(Serialize)]
struct Tensor<'a> {
    name: &'a str,
    shape: &'a [u64],
    #[serde(rename = "type")]
    ty: &'a str,
    bytes: u64,
}

fn everything<'a>(
    reference: &ModelRef,
    gguf: &'a Arc<Gguf>,
    plan: Option<&'a str>,
) -> Everything<'a> {
    let tensor = |tensor: &'a TensorInfo| Tensor {
        name: &tensor.name,
        shape: &tensor.shape,
        ty: tensor.ty.name(),
        bytes: tensor.n_bytes(),
    };
    Everything {
        file: reference.to_string(),
        bytes: gguf.file_bytes(),
        files: gguf.n_files(),
        gguf_version: gguf.version(),
        alignment: gguf.alignment(),
        n_tensors: gguf.tensors().len(),
        n_weights: n_weights(gguf),
        runs: Runs::of(gguf),
        metadata: Metadata(gguf.metadata()),
        tensors: gguf.tensors().iter().map(tensor).collect(),
        plan,
    }
}

/// Metadata as a JSON object in the order of the file.
struct Metadata<'a>(&'a hearth_gguf::Metadata);

impl Serialize for Metadata<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, Plain(value))))
    }
}

/// A metadata value as JSON: numbers of every width alike, a string that is not UTF-8 as a list of bytes.
struct Plain<'a>(&'a Value);

impl Serialize for Plain<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::U8(value) => value.serialize(serializer),
            Value::I8(value) => value.serialize(serializer),
            Value::U16(value) => value.serialize(serializer),
            Value::I16(value) => value.serialize(serializer),
            Value::U32(value) => value.serialize(serializer),
            Value::I32(value) => value.serialize(serializer),
            Value::U64(value) => value.serialize(serializer),
            Value::I64(value) => value.serialize(serializer),
            Value::F32(value) => value.serialize(serializer),
            Value::F64(value) => value.serialize(serializer),
            Value::Bool(value) => value.serialize(serializer),
            Value::String(value) => value.serialize(serializer),
            Value::Bytes(value) => value.serialize(serializer),
            Value::Array(array) => {
                let mut sequence = serializer.serialize_seq(Some(array.len()))?;
                for value in (0..array.len()).filter_map(|index| array.get(index)) {
                    sequence.serialize_element(&Plain(&value))?;
                }
                sequence.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use hearth_gguf::Array;

    use super::*;

    #[test]
    fn values_keep_their_precision_and_their_kind() {
        let cases = [
            (Value::F32(0.1), "0.1"),
            (Value::U64(u64::MAX), "18446744073709551615"),
            (Value::String("a\"b".into()), r#""a\"b""#),
            (Value::Bytes([0xff, 1].into()), "[255,1]"),
            (Value::Array(Array::Bool(vec![true, false])), "[true,false]"),
        ];
        for (value, text) in cases {
            assert_eq!(serde_json::to_string(&Plain(&value)).unwrap(), text);
        }
    }
}
