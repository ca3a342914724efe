//! Rules for every field of every good body, however deep it stands.

use serde_json::{Value, json};

use crate::{
    rules::{ask, message},
    support::{Answer, dialect_of, merge},
    table::{cases, setup},
};

/// Objects in which anything may stand: schemas, arguments, what a client notes for itself.
const FREE: [&str; 7] = [
    "parameters",
    "input_schema",
    "schema",
    "arguments",
    "metadata",
    "logit_bias",
    "hearth",
];

/// The places of all objects in a body whose fields have a meaning.
fn objects(value: &Value, place: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            found.push(place.to_owned());
            let is_call = map.get("type").is_some_and(|kind| kind == "tool_use");
            let is_free = |name: &str| FREE.contains(&name) || (is_call && name == "input");
            let inner = map.iter().filter(|(name, _)| !is_free(name));
            inner.for_each(|(name, value)| objects(value, &format!("{place}/{name}"), found));
        }
        Value::Array(list) => {
            let inner = list.iter().enumerate();
            inner.for_each(|(at, value)| objects(value, &format!("{place}/{at}"), found));
        }
        _ => {}
    }
}

#[tokio::test]
async fn an_unknown_field_is_named_however_deep_it_stands() {
    let server = setup().serve().await;
    let mut missed = Vec::new();
    for case in cases().iter().filter(|case| case.is_read()) {
        let mut places = Vec::new();
        objects(&case.body, "", &mut places);
        for place in places {
            let mut body = case.body.clone();
            merge(
                body.pointer_mut(&place).expect("it is there"),
                json!({"wings": 2}),
            );
            let answer = ask(&server, case, &body).await;
            assert_eq!(
                answer.status,
                200,
                "{} {place}: {}",
                case.path,
                answer.text()
            );
            let notice = answer.header("hearth-notice").unwrap_or_default();
            if !notice.contains("wings") {
                missed.push(format!("{} {place}", case.path));
            }
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

#[tokio::test]
async fn null_is_absent_however_deep_it_stands() {
    let server = setup().serve().await;
    for case in cases().iter().filter(|case| case.is_read()) {
        let mut places = Vec::new();
        objects(&case.body, "", &mut places);
        for place in places {
            let object = case.body.pointer(&place).and_then(Value::as_object);
            for name in object.expect("it is one").keys() {
                let mut nulled = case.body.clone();
                nulled.pointer_mut(&place).expect("it is there")[name] = Value::Null;
                let mut without = case.body.clone();
                let object = without.pointer_mut(&place).and_then(Value::as_object_mut);
                object.expect("it is there").remove(name);
                let [nulled, without] = [
                    ask(&server, case, &nulled).await,
                    ask(&server, case, &without).await,
                ];
                let told = |answer: &Answer| match answer.status {
                    200 => answer
                        .header("hearth-notice")
                        .unwrap_or_default()
                        .to_owned(),
                    _ => message(answer),
                };
                assert_eq!(
                    (nulled.status, told(&nulled)),
                    (without.status, told(&without)),
                    "{} {place}/{name}",
                    case.path
                );
            }
        }
    }
}

/// What an error leaves out of what it should say about a field; nothing if all is well.
fn check_told(answer: &Answer, name: &str) -> Option<String> {
    if answer.status != 400 {
        return Some(format!("{}", answer.status));
    }
    let param = answer.json()["error"]["param"].to_string();
    let is_named = dialect_of(answer) != "openai" || param.contains(name);
    let is_told = message(answer).contains(name);
    (!is_named || !is_told).then(|| answer.text())
}

#[tokio::test]
async fn a_value_of_another_type_is_refused_with_its_place() {
    // An object is as good as its JSON; what a client sends back of ours says nothing to a model.
    let is_free = |name: &str| ["arguments", "id", "status"].contains(&name);
    let server = setup().serve().await;
    let mut bad = Vec::new();
    for case in cases().iter().filter(|case| case.is_read()) {
        let mut places = Vec::new();
        objects(&case.body, "", &mut places);
        for place in places {
            let object = case.body.pointer(&place).and_then(Value::as_object);
            let fields = object.expect("it is one").iter();
            for (name, value) in fields.filter(|(name, _)| !is_free(name)) {
                let is_single = !value.is_object() && !value.is_array();
                let wrong = if is_single {
                    json!({"wings": 2})
                } else {
                    json!(7)
                };
                let mut body = case.body.clone();
                body.pointer_mut(&place).expect("it is there")[name] = wrong;
                let told = check_told(&ask(&server, case, &body).await, name);
                bad.extend(told.map(|told| format!("{} {place}/{name}: {told}", case.path)));
            }
        }
    }
    assert!(bad.is_empty(), "{bad:#?}");
}
