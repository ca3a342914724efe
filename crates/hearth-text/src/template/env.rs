//! The sandbox a template runs in.

use std::any::Any;

use indexmap::IndexMap;
use minijinja::machinery::{eval, make_string_output};
use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, UndefinedBehavior, Value};

use super::error::{RaisedMessage, TemplateError};
use super::formatting;
use super::guard::{self, Program};
use super::json;
use super::limits::TemplateLimits;
use super::methods;
use super::time::Timestamp;

/// Native stack per unit of fuel. A value nests one level deeper for about two units, and dropping or printing a
/// level takes up to 300 bytes of stack (measured), so nesting runs out of fuel before the stack ends.
const STACK_PER_FUEL: u64 = 256;
/// Stack for the interpreter itself: macro calls up to the depth limit, and the parser.
const BASE_STACK: u64 = 16 << 20;

const NAME: &str = "chat_template";

/// Parses without running. The parser bounds its own recursion; the thread gives it a stack we know.
pub(super) fn check_syntax(source: &str, limits: &TemplateLimits) -> Result<(), TemplateError> {
    in_sandbox(limits.base_fuel, || compile(source).map(|_| ()))
}

/// Runs a template over a context.
pub(super) fn render(
    source: &str,
    limits: &TemplateLimits,
    context: &serde_json::Value,
    now: Timestamp,
) -> Result<String, TemplateError> {
    let serde_json::Value::Object(members) = context else {
        return Err(TemplateError::ContextNotAnObject {
            found: json_kind(context),
        });
    };
    let bytes = members.iter().try_fold(0usize, |sum, (key, value)| {
        Some(
            sum.saturating_add(key.len())
                .saturating_add(context_size(value, limits.depth)?),
        )
    });
    let bytes = bytes.ok_or(TemplateError::ContextTooDeep {
        limit: limits.depth,
    })?;
    let fuel = limits.fuel(bytes);
    in_sandbox(fuel, || {
        let env = environment(limits, fuel, now);
        let program = compile(source)?;
        let mut text = String::new();
        let mut out = make_string_output(&mut text);
        eval(
            &env,
            &program.main,
            from_json(context),
            &program.blocks,
            &mut out,
            AutoEscape::None,
        )
        .map(|_| ())
        .map_err(|error| explain(&error, fuel))?;
        // While it runs, fuel bounds the text; what is handed on is bounded more tightly.
        let limit = limits.output(bytes);
        if text.len() > limit {
            return Err(TemplateError::OutputTooLarge { limit });
        }
        Ok(text)
    })
}

fn compile(source: &str) -> Result<Program<'_>, TemplateError> {
    // Whitespace as transformers sets it.
    let mut syntax = SyntaxConfig::builder();
    syntax
        .trim_blocks(true)
        .lstrip_blocks(true)
        .keep_trailing_newline(false);
    let syntax = syntax.build().expect("the standard delimiters are valid");
    guard::compile(NAME, source, syntax).map_err(|error| TemplateError::Syntax {
        detail: describe(&error),
    })
}

/// Runs `work` on a thread whose stack suits its fuel.
fn in_sandbox<T: Send>(
    fuel: u64,
    work: impl FnOnce() -> Result<T, TemplateError> + Send,
) -> Result<T, TemplateError> {
    let stack =
        usize::try_from(BASE_STACK + fuel.saturating_mul(STACK_PER_FUEL)).unwrap_or(usize::MAX);
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("template".to_owned())
            .stack_size(stack)
            .spawn_scoped(scope, work)
            .map_err(TemplateError::Sandbox)?;
        match thread.join() {
            Ok(result) => result,
            // A stranger's template found a bug of the interpreter: its rendering fails, nothing else does.
            Err(panic) => Err(TemplateError::Panicked {
                detail: panic_text(panic.as_ref()),
            }),
        }
    })
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    cut(text.unwrap_or("no message").to_owned())
}

fn environment(limits: &TemplateLimits, fuel: u64, now: Timestamp) -> Environment<'static> {
    let mut env = Environment::new();
    env.set_undefined_behavior(UndefinedBehavior::Lenient);
    env.set_auto_escape_callback(|_| AutoEscape::None);
    env.set_recursion_limit(limits.depth);
    env.set_fuel(Some(fuel));
    env.set_debug(false);
    env.set_unknown_method_callback(methods::call);
    env.set_formatter(formatting::write);
    formatting::guard_filters(&mut env);
    guard::add_operators(&mut env);
    env.add_filter("tojson", json::tojson);
    env.remove_global("debug");
    env.add_function("raise_exception", raise_exception);
    env.add_function("strftime_now", move |pattern: &str| now.format(pattern));
    env
}

fn raise_exception(state: &mut State, message: Value) -> Result<Value, Error> {
    let text = formatting::python_str(state, &message)?;
    Err(
        Error::new(ErrorKind::InvalidOperation, "raised by the template")
            .with_source(RaisedMessage(text)),
    )
}

/// Turns the interpreter's error into ours; the causes are searched because macros and filters wrap them.
fn explain(error: &Error, fuel: u64) -> TemplateError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(this) = cause {
        if let Some(raised) = this.downcast_ref::<RaisedMessage>() {
            return TemplateError::Raised {
                message: raised.0.clone(),
            };
        }
        if this
            .downcast_ref::<Error>()
            .is_some_and(|e| e.kind() == ErrorKind::OutOfFuel)
        {
            return TemplateError::OutOfFuel { fuel };
        }
        cause = this.source();
    }
    TemplateError::Failed {
        detail: describe(error),
    }
}

/// The error's own words and place, without a dump of the template.
fn describe(error: &Error) -> String {
    cut(error.to_string())
}

/// Cuts a text to a length fit for a message.
fn cut(mut text: String) -> String {
    const LONGEST: usize = 400;
    if text.len() > LONGEST {
        let end = (0..=LONGEST)
            .rev()
            .find(|&i| text.is_char_boundary(i))
            .unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

fn json_kind(value: &serde_json::Value) -> &'static str {
    match value {
        serde_json::Value::Null => "null",
        serde_json::Value::Bool(_) => "boolean",
        serde_json::Value::Number(_) => "number",
        serde_json::Value::String(_) => "string",
        serde_json::Value::Array(_) => "array",
        serde_json::Value::Object(_) => "object",
    }
}

/// Bytes of text in a value plus a little per node, or `None` when it nests deeper than `depth`.
fn context_size(value: &serde_json::Value, depth: usize) -> Option<usize> {
    const NODE: usize = 8;
    let depth = depth.checked_sub(1)?;
    Some(match value {
        serde_json::Value::String(text) => NODE + text.len(),
        serde_json::Value::Array(items) => items
            .iter()
            .try_fold(NODE, |sum, item| Some(sum + context_size(item, depth)?))?,
        serde_json::Value::Object(members) => {
            members.iter().try_fold(NODE, |sum, (key, item)| {
                Some(sum + key.len() + context_size(item, depth)?)
            })?
        }
        _ => NODE,
    })
}

fn from_json(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::from(()),
        serde_json::Value::Bool(flag) => Value::from(*flag),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(n), _) => Value::from(n),
            (None, Some(n)) => Value::from(n),
            (None, None) => Value::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Array(items) => {
            items.iter().map(from_json).collect::<Vec<Value>>().into()
        }
        serde_json::Value::Object(members) => members
            .iter()
            .map(|(key, item)| (Value::from(key.as_str()), from_json(item)))
            .collect::<IndexMap<Value, Value>>()
            .into(),
    }
}

/// Spends fuel from inside a helper.
pub(super) fn spend(state: &State, fuel: u64) -> Result<(), Error> {
    state.consume_fuel(fuel)
}

/// Spends what a text of this length costs.
pub(super) fn spend_bytes(state: &State, bytes: usize) -> Result<(), Error> {
    spend(state, 1 + u64::try_from(bytes / 64).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_the_interpreter_is_an_error_of_the_template() {
        for long in [false, true] {
            let work = || -> Result<(), TemplateError> {
                if long {
                    panic!("{}", "é".repeat(1000));
                }
                panic!("slot is empty");
            };
            let message = in_sandbox(1, work).unwrap_err().to_string();
            let expected = "chat template broke its interpreter: ";
            assert!(message.starts_with(expected), "{message}");
            assert!(long || message.ends_with(": slot is empty"), "{message}");
            assert!(message.len() < 500, "{}", message.len());
        }
    }
}
