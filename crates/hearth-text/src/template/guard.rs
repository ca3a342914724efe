//! Operators that pay before they work.
//!
//! The interpreter charges fuel for what an operator makes, after it was made. That is too late where a value is far
//! larger than its description: `[1] * 100000000`, or a list that holds itself twice, thirty times over. Printing,
//! comparing or hashing such a value would take minutes. So the compiled operators that walk their operands are
//! exchanged, one for one, for filters that pay for the walk first. Their names cannot be written in a template.

use std::collections::BTreeMap;

use minijinja::machinery::{CodeGenerator, Instruction, Instructions, parse};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};

use super::env::{spend, spend_bytes};
use super::formatting::{charge_walk, python_str};

/// A template ready to run.
pub(super) struct Program<'s> {
    pub(super) main: Instructions<'s>,
    pub(super) blocks: BTreeMap<&'s str, Instructions<'s>>,
}

/// No slot in the interpreter's cache of filters.
const UNCACHED: u8 = u8::MAX;

/// Parses, compiles and guards a template.
pub(super) fn compile<'s>(
    name: &'s str,
    source: &'s str,
    syntax: SyntaxConfig,
) -> Result<Program<'s>, Error> {
    let tree = parse(source, name, syntax)?;
    let mut generator = CodeGenerator::new(name, source);
    generator.compile_stmt(&tree);
    let (mut main, mut blocks) = generator.finish();
    exchange(&mut main)?;
    for block in blocks.values_mut() {
        exchange(block)?;
    }
    Ok(Program { main, blocks })
}

fn exchange(instructions: &mut Instructions<'_>) -> Result<(), Error> {
    let mut index = 0;
    while let Some(instruction) = instructions.get_mut(index) {
        let filter = |name, n_args| Instruction::ApplyFilter(name, Some(n_args), UNCACHED);
        let guarded = match instruction {
            Instruction::StringConcat => filter("~", 2),
            Instruction::Eq => filter("==", 2),
            Instruction::Ne => filter("!=", 2),
            Instruction::Lt => filter("<", 2),
            Instruction::Lte => filter("<=", 2),
            Instruction::Gt => filter(">", 2),
            Instruction::Gte => filter(">=", 2),
            Instruction::In => filter("in()", 2),
            Instruction::GetItem => filter("[]", 2),
            Instruction::CallMethod("changed", Some(n_args)) => filter(".changed", *n_args),
            Instruction::BuildMap(n_pairs) => {
                let n_args = u16::try_from(*n_pairs * 2)
                    .map_err(|_| refused("a literal of so many pairs"))?;
                filter("{}", n_args)
            }
            // It leaves an operand behind, which no filter can.
            Instruction::CompareAndPreserve(_) => {
                return Err(refused("a chain of comparisons; write `a < b and b < c`"));
            }
            _ => {
                index += 1;
                continue;
            }
        };
        *instruction = guarded;
        index += 1;
    }
    Ok(())
}

fn refused(what: &str) -> Error {
    Error::new(
        ErrorKind::SyntaxError,
        format!("the template uses {what}: not supported"),
    )
}

/// Puts the filters behind the exchanged operators into the environment.
pub(super) fn add_operators(env: &mut Environment) {
    env.add_filter("~", concat);
    env.add_filter("==", compared(|a, b| a == b));
    env.add_filter("!=", compared(|a, b| a != b));
    env.add_filter("<", compared(|a, b| a < b));
    env.add_filter("<=", compared(|a, b| a <= b));
    env.add_filter(">", compared(|a, b| a > b));
    env.add_filter(">=", compared(|a, b| a >= b));
    env.add_filter(
        "in()",
        |state: &mut State, needle: Value, container: Value| {
            state.perform_test("in", &[needle, container])
        },
    );
    env.add_filter("[]", item);
    env.add_filter("{}", map);
    env.add_filter(".changed", |state: &mut State, args: Rest<Value>| {
        args.iter()
            .skip(1)
            .try_for_each(|arg| charge_walk(state, arg))?;
        let (this, args) = args
            .split_first()
            .ok_or_else(|| Error::from(ErrorKind::MissingArgument))?;
        this.call_method(state, "changed", args)
    });
}

fn compared(
    compare: fn(&Value, &Value) -> bool,
) -> impl Fn(&mut State, Value, Value) -> Result<bool, Error> + Send + Sync + 'static {
    move |state, left, right| {
        charge_walk(state, &left)?;
        charge_walk(state, &right)?;
        Ok(compare(&left, &right))
    }
}

fn concat(state: &mut State, left: Value, right: Value) -> Result<Value, Error> {
    let text = |value: &Value| {
        if value.is_undefined() {
            Ok(String::new())
        } else {
            python_str(state, value)
        }
    };
    let size = |value: &Value| value.as_str().map_or(0, str::len);
    spend_bytes(state, size(&left).saturating_add(size(&right)))?;
    Ok(Value::from(text(&left)? + &text(&right)?))
}

fn item(state: &mut State, value: Value, key: Value) -> Result<Value, Error> {
    if matches!(
        key.kind(),
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Map
    ) {
        charge_walk(state, &key)?;
    }
    if value.kind() == ValueKind::Iterable {
        // Found by counting from the beginning.
        let steps = key.as_usize().or_else(|| value.len()).unwrap_or(0);
        spend(state, steps as u64)?;
    }
    value.get_item(&key)
}

fn map(state: &mut State, pairs: Rest<Value>) -> Result<Value, Error> {
    let mut out = indexmap::IndexMap::with_capacity(pairs.len() / 2);
    for pair in pairs.chunks_exact(2) {
        charge_walk(state, &pair[0])?;
        out.insert(pair[0].clone(), pair[1].clone());
    }
    Ok(Value::from(out))
}
