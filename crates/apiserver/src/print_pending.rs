//! pending
use api::kinds::Kind;
use jiff::Timestamp;
use serde_json::{Value, json};
/// x
pub struct Column(Value);
impl Column {
    /// x
    pub fn to_value(&self) -> Value {
        self.0.clone()
    }
}
/// x
pub fn columns(_kind: &Kind) -> Vec<Column> {
    vec![
        Column(json!({"name":"Name","type":"string","format":"name","description":"","priority":0})),
        Column(json!({"name":"Created At","type":"date","format":"","description":"","priority":0})),
    ]
}
/// x
pub fn row(_kind: &Kind, value: &Value, _now: Timestamp) -> Vec<Value> {
    vec![api::meta::name(value).into(), api::meta::creation_timestamp(value).into()]
}
/// x
pub fn age(text: &str, _now: Timestamp) -> String {
    text.to_owned()
}
