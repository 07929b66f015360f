//! A request of OTLP as JSON, made into what protocol buffers give.
//!
//! Names are written in camel case, whole numbers of 64 bits as numbers or texts, traces and spans in hexadecimal digits. What
//! is not known is passed over. How many parts there may be is counted before anything is made of them.
//!
//! See <https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding>.

use base64::Engine;
use serde_json::{Map, Value};

use super::message::{
    Any, Attributes, Buckets, Data, Exemplar, Explicit, Exponential, Metric, Number, Point, Quantiles, Request,
    Resource, Scope, Temporality,
};

/// Commas, colons and brackets of a request at most.
const MARKS: usize = 2 << 20;

type Object = Map<String, Value>;

/// Reads a request.
pub fn read(bytes: &[u8]) -> Result<Request, String> {
    if marks(bytes) > MARKS {
        return Err("a request has too many parts; send less at once".to_owned());
    }
    let value: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let request = object(&value, "request")?;
    Ok(Request { resources: list(request, "resourceMetrics", resource)? })
}

/// How many marks there are outside of texts.
fn marks(bytes: &[u8]) -> usize {
    let (mut count, mut quoted, mut escaped) = (0, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' | b':' | b'[' | b'{' if !quoted => count += 1,
            _ => {}
        }
    }
    count
}

fn object<'a>(value: &'a Value, what: &str) -> Result<&'a Object, String> {
    value.as_object().ok_or_else(|| format!("{what}: not an object"))
}

/// A field by its name, in camel case or as it is written in the protocol's own files.
fn field<'a>(object: &'a Object, name: &str) -> Option<&'a Value> {
    let found = object.get(name).or_else(|| {
        let mut other = String::with_capacity(name.len() + 4);
        for c in name.chars() {
            if c.is_ascii_uppercase() {
                other.push('_');
            }
            other.push(c.to_ascii_lowercase());
        }
        object.get(&other)
    });
    found.filter(|value| !value.is_null())
}

fn list<T>(object: &Object, name: &str, read: fn(&Value) -> Result<T, String>) -> Result<Vec<T>, String> {
    let Some(value) = field(object, name) else { return Ok(Vec::new()) };
    let values = value.as_array().ok_or_else(|| format!("{name}: not a list"))?;
    values.iter().map(read).collect::<Result<_, _>>().map_err(|error| format!("{name}: {error}"))
}

fn text(object: &Object, name: &str) -> Result<String, String> {
    match field(object, name) {
        None => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(format!("{name}: not a string")),
    }
}

fn unsigned(value: &Value) -> Result<u64, String> {
    let found = match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    found.ok_or_else(|| format!("{value} is no whole number of 64 bits"))
}

fn signed(value: &Value) -> Result<i64, String> {
    let found = match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    found.ok_or_else(|| format!("{value} is no whole number of 64 bits with a sign"))
}

fn float(value: &Value) -> Result<f64, String> {
    let found = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            text => text.parse().ok(),
        },
        _ => None,
    };
    found.ok_or_else(|| format!("{value} is no number"))
}

/// A field if it is there, read; an error says which it is.
fn read_as<T>(object: &Object, name: &str, read: fn(&Value) -> Result<T, String>) -> Result<Option<T>, String> {
    field(object, name).map(read).transpose().map_err(|error| format!("{name}: {error}"))
}

fn or_zero<T: Default>(object: &Object, name: &str, read: fn(&Value) -> Result<T, String>) -> Result<T, String> {
    Ok(read_as(object, name, read)?.unwrap_or_default())
}

fn resource(value: &Value) -> Result<Resource, String> {
    let value = object(value, "resource metrics")?;
    let attributes = match field(value, "resource") {
        Some(resource) => list(object(resource, "resource")?, "attributes", attribute)?,
        None => Attributes::new(),
    };
    Ok(Resource { attributes, scopes: list(value, "scopeMetrics", scope)? })
}

fn scope(value: &Value) -> Result<Scope, String> {
    let value = object(value, "scope metrics")?;
    let mut scope = match field(value, "scope") {
        Some(found) => {
            let found = object(found, "scope")?;
            Scope {
                name: text(found, "name")?,
                version: text(found, "version")?,
                attributes: list(found, "attributes", attribute)?,
                ..Scope::default()
            }
        }
        None => Scope::default(),
    };
    scope.schema_url = text(value, "schemaUrl")?;
    scope.metrics = list(value, "metrics", metric)?;
    Ok(scope)
}

fn metric(value: &Value) -> Result<Metric, String> {
    let value = object(value, "metric")?;
    let of = |name: &str| field(value, name).map(|data| object(data, name)).transpose();
    let mut metric = Metric {
        name: text(value, "name")?,
        description: text(value, "description")?,
        unit: text(value, "unit")?,
        data: None,
    };
    if let Some(data) = of("gauge")? {
        metric.data = Some(Data::Gauge(list(data, "dataPoints", number)?));
    } else if let Some(data) = of("sum")? {
        metric.data = Some(Data::Sum {
            points: list(data, "dataPoints", number)?,
            temporality: temporality(data)?,
            monotonic: field(data, "isMonotonic") == Some(&Value::Bool(true)),
        });
    } else if let Some(data) = of("histogram")? {
        metric.data =
            Some(Data::Histogram { points: list(data, "dataPoints", explicit)?, temporality: temporality(data)? });
    } else if let Some(data) = of("exponentialHistogram")? {
        metric.data =
            Some(Data::Exponential { points: list(data, "dataPoints", exponential)?, temporality: temporality(data)? });
    } else if let Some(data) = of("summary")? {
        metric.data = Some(Data::Summary(list(data, "dataPoints", quantiles)?));
    }
    Ok(metric)
}

/// A number, or the name that the protocol's own files give it.
fn temporality(data: &Object) -> Result<Temporality, String> {
    let name = "aggregationTemporality";
    match field(data, name) {
        None => Ok(Temporality::Unspecified),
        Some(Value::String(text)) if text.starts_with("AGGREGATION_") => Ok(match text.rsplit_once('_') {
            Some((_, "DELTA")) => Temporality::Delta,
            Some((_, "CUMULATIVE")) => Temporality::Cumulative,
            _ => Temporality::Unspecified,
        }),
        Some(value) => unsigned(value).map(Temporality::of).map_err(|error| format!("{name}: {error}")),
    }
}

fn point(value: &Object) -> Result<Point, String> {
    Ok(Point {
        attributes: list(value, "attributes", attribute)?,
        start: or_zero(value, "startTimeUnixNano", unsigned)?,
        time: or_zero(value, "timeUnixNano", unsigned)?,
        flags: or_zero(value, "flags", unsigned)?,
        exemplars: list(value, "exemplars", exemplar)?,
    })
}

fn double_or_int(value: &Object) -> Result<Option<f64>, String> {
    let whole = read_as(value, "asInt", signed)?.map(|whole| whole as f64);
    Ok(read_as(value, "asDouble", float)?.or(whole))
}

fn number(value: &Value) -> Result<Number, String> {
    let value = object(value, "data point")?;
    Ok(Number { point: point(value)?, value: double_or_int(value)?.unwrap_or_default() })
}

fn explicit(value: &Value) -> Result<Explicit, String> {
    let value = object(value, "data point")?;
    Ok(Explicit {
        point: point(value)?,
        count: or_zero(value, "count", unsigned)?,
        sum: read_as(value, "sum", float)?,
        counts: list(value, "bucketCounts", unsigned)?,
        bounds: list(value, "explicitBounds", float)?,
    })
}

fn exponential(value: &Value) -> Result<Exponential, String> {
    let value = object(value, "data point")?;
    let side = |name: &str| match field(value, name) {
        None => Ok(Buckets::default()),
        Some(side) => {
            let side = object(side, name)?;
            Ok::<_, String>(Buckets {
                offset: small(or_zero(side, "offset", signed)?)?,
                counts: list(side, "bucketCounts", unsigned)?,
            })
        }
    };
    Ok(Exponential {
        point: point(value)?,
        count: or_zero(value, "count", unsigned)?,
        sum: read_as(value, "sum", float)?,
        scale: small(or_zero(value, "scale", signed)?)?,
        zero_count: or_zero(value, "zeroCount", unsigned)?,
        positive: side("positive")?,
        negative: side("negative")?,
    })
}

fn small(value: i64) -> Result<i32, String> {
    i32::try_from(value).map_err(|_| format!("{value} is no whole number of 32 bits"))
}

fn quantiles(value: &Value) -> Result<Quantiles, String> {
    let value = object(value, "data point")?;
    let quantile = |value: &Value| {
        let value = object(value, "quantile")?;
        Ok((or_zero(value, "quantile", float)?, or_zero(value, "value", float)?))
    };
    Ok(Quantiles {
        point: point(value)?,
        count: or_zero(value, "count", unsigned)?,
        sum: or_zero(value, "sum", float)?,
        values: list(value, "quantileValues", quantile)?,
    })
}

fn exemplar(value: &Value) -> Result<Exemplar, String> {
    let value = object(value, "exemplar")?;
    Ok(Exemplar {
        attributes: list(value, "filteredAttributes", attribute)?,
        time: or_zero(value, "timeUnixNano", unsigned)?,
        value: double_or_int(value)?,
        trace: hexadecimal(&text(value, "traceId")?).ok_or("traceId: not in hexadecimal digits")?,
        span: hexadecimal(&text(value, "spanId")?).ok_or("spanId: not in hexadecimal digits")?,
    })
}

fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = |pair: &[u8; 2]| u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok();
    if rest.is_empty() { pairs.iter().map(byte).collect() } else { None }
}

fn attribute(value: &Value) -> Result<(String, Any), String> {
    let value = object(value, "attribute")?;
    let found = field(value, "value").map(any).transpose()?;
    Ok((text(value, "key")?, found.unwrap_or_default()))
}

/// Levels are bounded by the reader of JSON.
fn any(value: &Value) -> Result<Any, String> {
    let value = object(value, "value")?;
    let inner = |name: &str| field(value, name);
    if inner("stringValue").is_some() {
        return text(value, "stringValue").map(Any::Text);
    }
    if let Some(found) = inner("boolValue") {
        return found.as_bool().map(Any::Bool).ok_or_else(|| "boolValue: neither true nor false".to_owned());
    }
    if let Some(found) = inner("intValue") {
        return signed(found).map(Any::Int);
    }
    if let Some(found) = inner("doubleValue") {
        return float(found).map(Any::Float);
    }
    if let Some(found) = inner("arrayValue") {
        return list(object(found, "arrayValue")?, "values", any).map(Any::List);
    }
    if let Some(found) = inner("kvlistValue") {
        return list(object(found, "kvlistValue")?, "values", attribute).map(Any::Map);
    }
    if inner("bytesValue").is_some() {
        let bytes = base64::engine::general_purpose::STANDARD.decode(text(value, "bytesValue")?);
        return bytes.map(Any::Bytes).map_err(|error| format!("bytesValue: {error}"));
    }
    Ok(Any::Empty)
}
