//! `/v1/responses` as its clients see it, on tiny models.

use serde_json::{Value, json};

use crate::client::{Server, with};

pub const RESPONSES: &str = "/v1/responses";

/// A greedy request that does not take long.
fn request(model: &str) -> Value {
    json!({"model": model, "input": "Tell me of the fire.", "temperature": 0, "max_output_tokens": 24})
}

pub fn tool() -> Value {
    json!({"type": "function", "name": "light", "strict": true, "parameters": {"type": "object",
        "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 9}, "ok": {"type": "boolean"}},
        "required": ["n", "ok"], "additionalProperties": false}})
}

fn forced() -> Value {
    let fields = json!({"max_output_tokens": 400, "tools": [tool()], "tool_choice": "required", "parallel_tool_calls": false});
    with(&request("chat"), fields)
}

/// What is made anew for each answer, taken out.
pub fn anonymous(mut response: Value) -> Value {
    for name in ["id", "created_at", "completed_at"] {
        response[name].take();
    }
    response["usage"]["input_tokens_details"].take();
    for item in response["output"].as_array_mut().unwrap() {
        item["id"].take();
        if item["type"] == "function_call" {
            item["call_id"].take();
        }
    }
    response
}

/// The events of a stream, whose names are their types and whose numbers have no gaps.
pub async fn stream(server: &Server, body: Value) -> Vec<Value> {
    let events = server.events(RESPONSES, body).await;
    for (at, (name, event)) in events.iter().enumerate() {
        assert_eq!(event["type"], name.as_str());
        assert_eq!(event["sequence_number"], at);
    }
    events.into_iter().map(|(_, event)| event).collect()
}

fn joined(events: &[Value], kind: &str) -> String {
    events
        .iter()
        .filter(|event| event["type"] == kind)
        .map(|event| event["delta"].as_str().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_put_together_is_the_answer() {
    let server = Server::new();
    for body in [request("chat"), request("think"), forced()] {
        let whole = server.ok(RESPONSES, body.clone()).await;
        let events = stream(&server, body).await;
        let last = events.last().unwrap();
        assert_eq!(
            last["type"],
            format!("response.{}", whole["status"].as_str().unwrap())
        );
        let done: Vec<_> = events
            .iter()
            .filter(|event| event["type"] == "response.output_item.done")
            .map(|event| event["item"].clone())
            .collect();
        assert_eq!(json!(done), last["response"]["output"]);
        for item in &done {
            match item["type"].as_str().unwrap() {
                "message" => assert_eq!(
                    joined(&events, "response.output_text.delta"),
                    item["content"][0]["text"].as_str().unwrap()
                ),
                "reasoning" => assert_eq!(
                    joined(&events, "response.reasoning_text.delta"),
                    item["content"][0]["text"].as_str().unwrap()
                ),
                _ => assert_eq!(
                    joined(&events, "response.function_call_arguments.delta"),
                    item["arguments"].as_str().unwrap()
                ),
            }
        }
        assert_eq!(anonymous(last["response"].clone()), anonymous(whole));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_goes_on_from_a_stored_response() {
    let server = Server::new();
    let first = server
        .ok(
            RESPONSES,
            with(&request("chat"), json!({"instructions": "Be brief."})),
        )
        .await;
    let body = with(
        &request("chat"),
        json!({"input": "And then?", "previous_response_id": first["id"]}),
    );
    let second = server.ok(RESPONSES, body).await;
    assert_eq!(second["previous_response_id"], first["id"]);
    assert_eq!(second["instructions"], Value::Null, "not inherited");
    let mut items = vec![json!({"role": "user", "content": "Tell me of the fire."})];
    items.extend(first["output"].as_array().unwrap().clone());
    items.push(json!({"role": "user", "content": "And then?"}));
    let mut by_hand = server
        .ok(
            RESPONSES,
            with(&request("chat"), json!({"input": items, "store": false})),
        )
        .await;
    (by_hand["previous_response_id"], by_hand["store"]) = (first["id"].clone(), json!(true));
    assert_eq!(anonymous(second), anonymous(by_hand));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_response_is_found_listed_and_forgotten() {
    let server = Server::new();
    let response = server.ok(RESPONSES, request("chat")).await;
    let path = format!("{RESPONSES}/{}", response["id"].as_str().unwrap());
    assert_eq!(server.get(&path).await.body, response);
    let items = server.get(&format!("{path}/input_items")).await.body;
    assert_eq!(
        (&items["object"], &items["has_more"]),
        (&json!("list"), &json!(false))
    );
    assert_eq!(
        items["data"][0]["content"],
        json!([{"type": "input_text", "text": "Tell me of the fire."}])
    );
    assert_eq!(items["first_id"], items["data"][0]["id"]);
    let deleted = server.delete(&path).await;
    assert_eq!(
        deleted.body,
        json!({"id": response["id"], "object": "response", "deleted": true})
    );
    for answer in [
        server.get(&path).await,
        server.delete(&path).await,
        server.get(&format!("{path}/input_items")).await,
    ] {
        assert_eq!(
            (answer.status, &answer.body["error"]["type"]),
            (404, &json!("invalid_request_error"))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn items_are_listed_in_pages() {
    let server = Server::new();
    let turn = |text: &str| json!({"role": "user", "content": text, "id": format!("msg_{text}")});
    let input: Vec<Value> = ["a", "b", "c", "d"].map(turn).into();
    let body = with(&request("chat"), json!({"input": input}));
    let response = server.ok(RESPONSES, body).await;
    let path = format!(
        "{RESPONSES}/{}/input_items",
        response["id"].as_str().unwrap()
    );
    for (query, expected, has_more) in [
        ("", "dcba", false),
        ("?order=asc", "abcd", false),
        ("?order=asc&limit=2", "ab", true),
        ("?order=asc&limit=2&after=msg_b", "cd", false),
        ("?limit=1&after=msg_c", "b", true),
        ("?after=msg_nowhere", "", false),
        ("?include=x&unknown=1", "dcba", false),
    ] {
        let page = server.get(&format!("{path}{query}")).await.body;
        let data = page["data"].as_array().unwrap();
        let found: String = data
            .iter()
            .map(|item| item["content"][0]["text"].as_str().unwrap())
            .collect();
        assert_eq!(
            (found.as_str(), &page["has_more"]),
            (expected, &json!(has_more)),
            "{query}"
        );
        let ids = [data.first(), data.last()].map(|item| json!(item.map(|item| &item["id"])));
        assert_eq!([&page["first_id"], &page["last_id"]], [&ids[0], &ids[1]]);
    }
    for query in ["?order=up", "?limit=0", "?limit=101", "?limit=x"] {
        assert_eq!(
            server.get(&format!("{path}{query}")).await.status,
            400,
            "{query}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_turns_out_late_is_part_of_the_response() {
    let server = Server::new();
    let body = with(&forced(), json!({"max_output_tokens": 20}));
    let whole = server.post(RESPONSES, body.clone()).await;
    let notices = whole.body["hearth"]["notices"].as_array();
    assert_eq!(notices.map(Vec::len), Some(1), "{}", whole.body);
    let header = whole.headers["hearth-notice"].to_str().unwrap();
    assert!(header.starts_with("note="), "{header}");
    let events = stream(&server, body).await;
    assert_eq!(
        events.last().unwrap()["response"]["hearth"],
        whole.body["hearth"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_to_be_kept_is_not() {
    let server = Server::new();
    let response = server
        .ok(RESPONSES, with(&request("chat"), json!({"store": false})))
        .await;
    assert_eq!(
        server
            .get(&format!("{RESPONSES}/{}", response["id"].as_str().unwrap()))
            .await
            .status,
        404
    );
    let (status, error) = server
        .refused(
            RESPONSES,
            with(
                &request("chat"),
                json!({"previous_response_id": response["id"]}),
            ),
        )
        .await;
    assert_eq!(
        (status, &error["code"]),
        (400, &json!("previous_response_not_found"))
    );
    let reference = json!([{"type": "item_reference", "id": response["output"][0]["id"]}]);
    let (status, error) = server
        .refused(
            RESPONSES,
            with(&request("chat"), json!({"input": reference})),
        )
        .await;
    assert_eq!((status, &error["param"]), (400, &json!("input[0].id")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_count_is_what_the_answer_costs() {
    let server = Server::new();
    let first = server.ok(RESPONSES, request("chat")).await;
    let body = with(
        &forced(),
        json!({"instructions": "Be brief.", "previous_response_id": first["id"], "max_output_tokens": 1}),
    );
    let count = server.ok("/v1/responses/input_tokens", body.clone()).await;
    let usage = server.ok(RESPONSES, body).await["usage"].clone();
    assert_eq!(
        count,
        json!({"object": "response.input_tokens", "input_tokens": usage["input_tokens"]})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forced_call_validates_and_its_result_goes_back() {
    let server = Server::new();
    for choice in [
        json!("required"),
        json!({"type": "function", "name": "light"}),
    ] {
        let body = with(&forced(), json!({"tool_choice": choice, "temperature": 1}));
        let call = server.ok(RESPONSES, body.clone()).await;
        assert_eq!(call["output"].as_array().unwrap().len(), 1, "{call}");
        let item = &call["output"][0];
        assert_eq!(
            (&item["type"], &item["name"], &item["status"]),
            (
                &json!("function_call"),
                &json!("light"),
                &json!("completed")
            )
        );
        let arguments: Value = serde_json::from_str(item["arguments"].as_str().unwrap()).unwrap();
        assert!(arguments["n"].as_u64().unwrap() <= 9 && arguments["ok"].is_boolean());
        let result =
            json!([{"type": "function_call_output", "call_id": item["call_id"], "output": "lit"}]);
        let body = with(
            &body,
            json!({"input": result, "previous_response_id": call["id"], "tool_choice": "none", "max_output_tokens": 4}),
        );
        assert_eq!(
            server.ok(RESPONSES, body).await["output"][0]["type"],
            "message"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_of_a_namespace_is_called_with_it() {
    let server = Server::new();
    let tools = json!([{"type": "namespace", "name": "lamps", "description": "Lamps.", "tools": [tool()]}, {"type": "web_search"}]);
    let body = with(&forced(), json!({"tools": tools}));
    let answer = server.post(RESPONSES, body).await;
    let item = &answer.body["output"][0];
    assert_eq!(
        (&item["name"], &item["namespace"]),
        (&json!("light"), &json!("lamps")),
        "{}",
        answer.body
    );
    assert_eq!(answer.headers["hearth-notice"], "dropped-tool=web_search");
    assert_eq!(answer.body["tools"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_binds_the_answer_and_not_the_thinking() {
    let server = Server::new();
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 9}}, "required": ["n"], "additionalProperties": false});
    let format = json!({"format": {"type": "json_schema", "name": "digit", "schema": schema, "strict": true}});
    for effort in ["none", "low"] {
        let body = with(
            &request("think"),
            json!({"text": format, "max_output_tokens": 2000, "reasoning": {"effort": effort}, "temperature": 1}),
        );
        let response = server.ok(RESPONSES, body).await;
        let output = response["output"].as_array().unwrap();
        if response["status"] == "completed" {
            let text = output.last().unwrap()["content"][0]["text"]
                .as_str()
                .unwrap();
            let value: Value = serde_json::from_str(text).unwrap();
            assert!(value["n"].as_u64().unwrap() <= 9);
        }
        assert_eq!(response["text"], format);
        assert_eq!(response["reasoning"]["effort"], effort);
    }
    let body = with(
        &request("chat"),
        json!({"text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "object", "if": {}}}}}),
    );
    let (status, error) = server.refused(RESPONSES, body).await;
    assert_eq!((status, &error["param"]), (400, &json!("text.format")));
    assert!(error["message"].as_str().unwrap().contains("if"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn log_probabilities_are_those_of_the_text() {
    let server = Server::new();
    let body = with(
        &request("chat"),
        json!({"include": ["message.output_text.logprobs"], "top_logprobs": 2}),
    );
    let whole = server.ok(RESPONSES, body.clone()).await;
    let part = &whole["output"][0]["content"][0];
    let entries = part["logprobs"].as_array().unwrap();
    assert!(!entries.is_empty());
    for entry in entries {
        assert!(entry["logprob"].as_f64().unwrap() <= 0.0);
        assert_eq!(entry["top_logprobs"].as_array().unwrap().len(), 2);
        assert_eq!(
            entry["top_logprobs"][0]["token"], entry["token"],
            "greedy takes the best"
        );
    }
    let events = stream(&server, body).await;
    let deltas = events
        .iter()
        .filter(|event| event["type"] == "response.output_text.delta");
    let streamed: Vec<_> = deltas
        .flat_map(|event| event["logprobs"].as_array().unwrap().clone())
        .collect();
    assert_eq!(&streamed, entries);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_name_their_field() {
    let server = Server::new();
    let cases = [
        (
            404,
            json!("model"),
            with(&request("chat"), json!({"model": "nowhere"})),
        ),
        (
            404,
            json!("model"),
            with(
                &request("chat"),
                json!({"model": "nowhere", "stream": true}),
            ),
        ),
        (
            400,
            json!("input"),
            with(&request("chat"), json!({"input": null})),
        ),
        (
            400,
            json!("tools[0].name"),
            with(&request("chat"), json!({"tools": [{"type": "function"}]})),
        ),
        (
            400,
            json!("user"),
            with(
                &request("chat"),
                json!({"user": "u", "hearth": {"strict": true}}),
            ),
        ),
        (
            400,
            json!("input"),
            with(
                &request("chat"),
                json!({"input": "fire ".repeat(9000), "truncation": "auto"}),
            ),
        ),
    ];
    for (status, param, body) in cases {
        let (found, error) = server.refused(RESPONSES, body).await;
        assert_eq!((found, &error["param"]), (status, &param), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_is_no_trouble() {
    let server = Server::new();
    for _ in 0..4 {
        drop(
            server
                .open(
                    RESPONSES,
                    with(&request("chat"), json!({"max_output_tokens": 2000})),
                )
                .await,
        );
    }
    server.ok(RESPONSES, request("chat")).await;
}
