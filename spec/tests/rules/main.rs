//! Rules of a spec: what the parser says to each case of the table, and whether the table has a case for each rule of the API
//! server. That the server answers like this is tested on a real one, by the operator's tests.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod table;

use std::collections::BTreeSet;

use herd_spec::plan::Plan;
use herd_spec::{crd, document};
use serde_json::Value;
use table::{Table, changed};

fn parse(pipeline: &Value) -> Vec<(String, String)> {
    let yaml = serde_yaml::to_string(pipeline).unwrap();
    match document::parse(&yaml).and_then(|pipeline| Plan::parse(&pipeline)) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.into_iter().map(|problem| (problem.path, problem.message)).collect(),
    }
}

#[test]
fn parser_reports_the_problem_of_each_case() {
    for case in Table::read().refused {
        let found = parse(&changed(&case.set));
        match (case.path, case.parser) {
            (Some(path), Some(message)) => {
                assert!(found.contains(&(path, message)), "{:?}\n{found:#?}", case.set);
            }
            _ => assert!(found.is_empty(), "{:?}\n{found:#?}", case.set),
        }
    }
}

#[test]
fn parser_accepts_values_at_the_edge_of_a_rule() {
    for case in Table::read().accepted {
        let found = parse(&changed(&case.set));
        assert!(found.is_empty(), "{:?}\n{found:#?}", case.set);
    }
}

/// The messages of the schema's rules, but for those about a change, which have tests of their own.
fn server_messages(schema: &Value, found: &mut BTreeSet<String>) {
    let rules = schema.get("x-kubernetes-validations").and_then(Value::as_array);
    for rule in rules.into_iter().flatten() {
        if !rule["rule"].as_str().unwrap().contains("oldSelf") {
            found.insert(rule["message"].as_str().unwrap().to_owned());
        }
    }
    match schema {
        Value::Object(fields) => fields.values().for_each(|inner| server_messages(inner, found)),
        Value::Array(items) => items.iter().for_each(|inner| server_messages(inner, found)),
        _ => {}
    }
}

#[test]
fn table_has_a_case_for_each_rule_of_the_api_server() {
    let mut messages = BTreeSet::new();
    server_messages(&serde_json::to_value(crd::crd()).unwrap(), &mut messages);
    assert!(messages.len() > 40, "{}", messages.len());
    let words: Vec<String> = Table::read().refused.into_iter().filter_map(|case| case.server).collect();
    messages.retain(|message| !words.iter().any(|words| message.contains(words.as_str())));
    assert!(messages.is_empty(), "no case for {messages:#?}");
}
