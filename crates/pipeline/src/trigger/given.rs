//! Values of a run's parameters: those that are given, checked, and defaults for the others.

use serde_json::Value as Json;

use crate::kind::{Given, Parameter};

/// Bytes of one value.
const LONGEST: usize = 256 * 1024;

/// Values for all parameters that are known. What nobody has declared is left out, since values become variables of steps.
///
/// # Errors
/// A value is none that its parameter may have.
pub fn fill(known: &[&Parameter], given: &[Given]) -> Result<Vec<Given>, String> {
    let value = |parameter: &&Parameter| -> Result<Given, String> {
        let name = parameter.name.clone();
        let found = given.iter().find(|given| given.name == name).map(|given| &given.value);
        let value = match found {
            Some(value) => checked(parameter, value)?,
            None => default(parameter),
        };
        Ok(Given { name, value })
    };
    known.iter().map(value).collect()
}

/// What a parameter is where nobody says it.
fn default(parameter: &Parameter) -> Json {
    match (parameter.kind.as_str(), &parameter.default) {
        ("boolean", value) => Json::Bool(*value == Json::Bool(true) || value == "true"),
        ("choice", Json::Null) => parameter.choices.first().map_or("".into(), |first| first.as_str().into()),
        (_, Json::Null) => "".into(),
        (_, value) => value.clone(),
    }
}

fn checked(parameter: &Parameter, value: &Json) -> Result<Json, String> {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_string);
    if text.len() > LONGEST {
        return Err(format!("the parameter {} is longer than {LONGEST} bytes", parameter.name));
    }
    match parameter.kind.as_str() {
        "boolean" => Ok(Json::Bool(matches!(text.as_str(), "true" | "on" | "yes" | "1"))),
        "choice" if !parameter.choices.is_empty() && !parameter.choices.contains(&text) => Err(format!(
            "the parameter {} is {text:?}, which is none of {}",
            parameter.name,
            parameter.choices.join(", ")
        )),
        _ => Ok(text.into()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parameter(name: &str, kind: &str, default: Json) -> Parameter {
        let choices = if kind == "choice" { vec!["a".to_string(), "b".into()] } else { Vec::new() };
        Parameter { name: name.into(), kind: kind.into(), default, choices, ..Parameter::default() }
    }

    fn given(values: &[(&str, Json)]) -> Vec<Given> {
        values.iter().map(|(name, value)| Given { name: (*name).into(), value: value.clone() }).collect()
    }

    #[test]
    fn values_are_checked_and_defaults_fill_the_rest() {
        let known = [
            parameter("WHO", "string", json!("you")),
            parameter("FAST", "boolean", Json::Null),
            parameter("ENV", "choice", Json::Null),
            parameter("COUNT", "string", json!(3)),
        ];
        let known: Vec<&Parameter> = known.iter().collect();
        let values = |values: &[(&str, Json)]| fill(&known, &given(values)).map(|all| json!(all));
        let expected = |who: Json, fast: bool, env: &str| {
            json!([{"name": "WHO", "value": who}, {"name": "FAST", "value": fast}, {"name": "ENV", "value": env},
                {"name": "COUNT", "value": 3}])
        };
        assert_eq!(values(&[]), Ok(expected(json!("you"), false, "a")));
        let all = [("WHO", json!("me")), ("FAST", json!("true")), ("ENV", json!("b")), ("PATH", json!("/evil"))];
        assert_eq!(values(&all), Ok(expected(json!("me"), true, "b")));
        assert_eq!(values(&[("WHO", json!(7))]), Ok(expected(json!("7"), false, "a")));
        assert!(values(&[("ENV", json!("c"))]).unwrap_err().contains("none of a, b"));
        assert!(values(&[("WHO", json!("x".repeat(LONGEST + 1)))]).is_err());
    }
}
