//! A request of OTLP as protocol buffers: the fields that become samples.
//!
//! A field of two bytes can stand for an object of two hundred: how many parts a request has is bounded.
//!
//! See <https://github.com/open-telemetry/opentelemetry-proto/blob/main/opentelemetry/proto/metrics/v1/metrics.proto>.

use crate::{
    proto::{Field, Reader, Torn},
    remote::message::Wrong,
};

/// Points, attributes, buckets and the like of a request at most.
pub const PARTS: usize = 1 << 20;
/// Levels that values of attributes may have.
const DEPTH: usize = 20;

/// Metrics by what has made them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// What has made them.
    pub resources: Vec<Resource>,
}

/// Something that makes metrics.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resource {
    /// What it is.
    pub attributes: Attributes,
    /// Metrics by the library that made them.
    pub scopes: Vec<Scope>,
}

/// A library that makes metrics.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scope {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What else is known of it.
    pub attributes: Attributes,
    /// Where the meaning of its words stands.
    pub schema_url: String,
    /// Its metrics.
    pub metrics: Vec<Metric>,
}

/// A metric.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metric {
    /// Its name.
    pub name: String,
    /// What it means.
    pub description: String,
    /// Its unit, as UCUM writes it.
    pub unit: String,
    /// Its points; none for a kind that is not known.
    pub data: Option<Data>,
}

/// Points of a kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Values that go up and down.
    Gauge(Vec<Number>),
    /// Sums.
    Sum {
        /// The points.
        points: Vec<Number>,
        /// Since when they count.
        temporality: Temporality,
        /// Whether they never fall.
        monotonic: bool,
    },
    /// Histograms with bounds.
    Histogram {
        /// The points.
        points: Vec<Explicit>,
        /// Since when they count.
        temporality: Temporality,
    },
    /// Histograms on an exponential scale.
    Exponential {
        /// The points.
        points: Vec<Exponential>,
        /// Since when they count.
        temporality: Temporality,
    },
    /// Quantiles that were computed elsewhere.
    Summary(Vec<Quantiles>),
}

/// Since when a point counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Temporality {
    /// Nobody has said.
    #[default]
    Unspecified,
    /// Since the point before.
    Delta,
    /// Since a beginning.
    Cumulative,
}

impl Temporality {
    /// The one with a number.
    pub fn of(number: u64) -> Self {
        match number {
            1 => Self::Delta,
            2 => Self::Cumulative,
            _ => Self::Unspecified,
        }
    }
}

/// What all points have. Times are nanoseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Point {
    /// What tells it from others.
    pub attributes: Attributes,
    /// When it began to count; 0 if that is not known.
    pub start: u64,
    /// When it was made.
    pub time: u64,
    /// Flags; the lowest says that there is no value.
    pub flags: u64,
    /// Examples.
    pub exemplars: Vec<Exemplar>,
}

/// A number.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Number {
    /// What all points have.
    pub point: Point,
    /// The value.
    pub value: f64,
}

/// A histogram with bounds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Explicit {
    /// What all points have.
    pub point: Point,
    /// Observations.
    pub count: u64,
    /// Their sum.
    pub sum: Option<f64>,
    /// Observations by bucket, one more than bounds.
    pub counts: Vec<u64>,
    /// Upper bounds.
    pub bounds: Vec<f64>,
}

/// A histogram on an exponential scale.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exponential {
    /// What all points have.
    pub point: Point,
    /// Observations.
    pub count: u64,
    /// Their sum.
    pub sum: Option<f64>,
    /// The bounds are powers of 2^(2^-scale).
    pub scale: i32,
    /// Observations of zero.
    pub zero_count: u64,
    /// Observations above zero.
    pub positive: Buckets,
    /// Observations below zero.
    pub negative: Buckets,
}

/// Dense buckets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Buckets {
    /// The index of the first.
    pub offset: i32,
    /// Observations.
    pub counts: Vec<u64>,
}

/// Quantiles.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Quantiles {
    /// What all points have.
    pub point: Point,
    /// Observations.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// Quantiles and their values.
    pub values: Vec<(f64, f64)>,
}

/// An example.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exemplar {
    /// What the point has left out.
    pub attributes: Attributes,
    /// Nanoseconds since 1970.
    pub time: u64,
    /// The value; none if it is of an unknown kind.
    pub value: Option<f64>,
    /// The trace; zeros are none.
    pub trace: Vec<u8>,
    /// The span in it.
    pub span: Vec<u8>,
}

/// Names and values.
pub type Attributes = Vec<(String, Any)>;

/// A value of an attribute.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Any {
    /// Nothing.
    #[default]
    Empty,
    /// A text.
    Text(String),
    /// Yes or no.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A float.
    Float(f64),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Values.
    List(Vec<Any>),
    /// Names and values.
    Map(Attributes),
}

/// What a request may still have.
#[derive(Debug)]
pub struct Allowance(usize);

impl Default for Allowance {
    fn default() -> Self {
        Self(PARTS)
    }
}

impl Allowance {
    /// Takes some parts away.
    pub fn take(&mut self, parts: usize) -> Result<(), Wrong> {
        self.0 = self.0.checked_sub(parts).ok_or(Wrong::Large("a request has too many parts"))?;
        Ok(())
    }
}

/// Calls `each` with the fields of a message.
fn fields<'a>(bytes: &'a [u8], mut each: impl FnMut(u32, Field<'a>) -> Result<(), Wrong>) -> Result<(), Wrong> {
    let mut reader = Reader(bytes);
    while let Some((number, field)) = reader.field()? {
        each(number, field)?;
    }
    Ok(())
}

/// Reads a request.
pub fn read(bytes: &[u8]) -> Result<Request, Wrong> {
    let mut request = Request::default();
    let left = &mut Allowance::default();
    fields(bytes, |number, field| {
        if number == 1 {
            left.take(1)?;
            request.resources.push(resource(field.bytes()?, left)?);
        }
        Ok(())
    })?;
    Ok(request)
}

fn resource(bytes: &[u8], left: &mut Allowance) -> Result<Resource, Wrong> {
    let mut resource = Resource::default();
    fields(bytes, |number, field| {
        match number {
            1 => fields(field.bytes()?, |number, field| match number {
                1 => attribute(field, &mut resource.attributes, left),
                _ => Ok(()),
            })?,
            2 => {
                left.take(1)?;
                resource.scopes.push(scope(field.bytes()?, left)?);
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(resource)
}

fn scope(bytes: &[u8], left: &mut Allowance) -> Result<Scope, Wrong> {
    let mut scope = Scope::default();
    fields(bytes, |number, field| {
        match number {
            1 => fields(field.bytes()?, |number, field| {
                match number {
                    1 => scope.name = field.text()?.to_owned(),
                    2 => scope.version = field.text()?.to_owned(),
                    3 => attribute(field, &mut scope.attributes, left)?,
                    _ => {}
                }
                Ok(())
            })?,
            2 => {
                left.take(1)?;
                scope.metrics.push(metric(field.bytes()?, left)?);
            }
            3 => scope.schema_url = field.text()?.to_owned(),
            _ => {}
        }
        Ok(())
    })?;
    Ok(scope)
}

fn metric(bytes: &[u8], left: &mut Allowance) -> Result<Metric, Wrong> {
    let mut metric = Metric::default();
    fields(bytes, |number, field| {
        match number {
            1 => metric.name = field.text()?.to_owned(),
            2 => metric.description = field.text()?.to_owned(),
            3 => metric.unit = field.text()?.to_owned(),
            5 => metric.data = Some(Data::Gauge(points(field.bytes()?, left, number_point)?.0)),
            7 => {
                let (points, temporality, monotonic) = points(field.bytes()?, left, number_point)?;
                metric.data = Some(Data::Sum { points, temporality, monotonic });
            }
            9 => {
                let (points, temporality, _) = points(field.bytes()?, left, explicit)?;
                metric.data = Some(Data::Histogram { points, temporality });
            }
            10 => {
                let (points, temporality, _) = points(field.bytes()?, left, exponential)?;
                metric.data = Some(Data::Exponential { points, temporality });
            }
            11 => metric.data = Some(Data::Summary(points(field.bytes()?, left, quantiles)?.0)),
            _ => {}
        }
        Ok(())
    })?;
    Ok(metric)
}

type ReadPoint<P> = fn(&[u8], &mut Allowance) -> Result<P, Wrong>;

/// Points, their temporality, and whether they never fall: all kinds number these fields alike.
fn points<P>(bytes: &[u8], left: &mut Allowance, read: ReadPoint<P>) -> Result<(Vec<P>, Temporality, bool), Wrong> {
    let (mut points, mut temporality, mut monotonic) = (Vec::new(), Temporality::default(), false);
    fields(bytes, |number, field| {
        match number {
            1 => {
                left.take(1)?;
                points.push(read(field.bytes()?, left)?);
            }
            2 => temporality = Temporality::of(field.varint()?),
            3 => monotonic = field.varint()? != 0,
            _ => {}
        }
        Ok(())
    })?;
    Ok((points, temporality, monotonic))
}

/// A number of eight bytes.
fn fixed(field: Field<'_>) -> Result<u64, Torn> {
    field.double().map(f64::to_bits)
}

fn number_point(bytes: &[u8], left: &mut Allowance) -> Result<Number, Wrong> {
    let mut number = Number::default();
    let Number { point, value } = &mut number;
    fields(bytes, |at, field| {
        match at {
            2 => point.start = fixed(field)?,
            3 => point.time = fixed(field)?,
            4 => *value = field.double()?,
            5 => exemplar(field, &mut point.exemplars, left)?,
            6 => *value = fixed(field)? as i64 as f64,
            7 => attribute(field, &mut point.attributes, left)?,
            8 => point.flags = field.varint()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(number)
}

fn explicit(bytes: &[u8], left: &mut Allowance) -> Result<Explicit, Wrong> {
    let mut explicit = Explicit::default();
    let Explicit { point, count, sum, counts, bounds } = &mut explicit;
    fields(bytes, |at, field| {
        match at {
            2 => point.start = fixed(field)?,
            3 => point.time = fixed(field)?,
            4 => *count = fixed(field)?,
            5 => *sum = Some(field.double()?),
            6 => field.doubles(|bits| counts.push(bits.to_bits()))?,
            7 => field.doubles(|bound| bounds.push(bound))?,
            8 => exemplar(field, &mut point.exemplars, left)?,
            9 => attribute(field, &mut point.attributes, left)?,
            10 => point.flags = field.varint()?,
            _ => {}
        }
        Ok(())
    })?;
    left.take(counts.len())?;
    Ok(explicit)
}

fn exponential(bytes: &[u8], left: &mut Allowance) -> Result<Exponential, Wrong> {
    let mut exponential = Exponential::default();
    let Exponential { point, count, sum, scale, zero_count, positive, negative } = &mut exponential;
    fields(bytes, |at, field| {
        match at {
            1 => attribute(field, &mut point.attributes, left)?,
            2 => point.start = fixed(field)?,
            3 => point.time = fixed(field)?,
            4 => *count = fixed(field)?,
            5 => *sum = Some(field.double()?),
            6 => *scale = field.sint()? as i32,
            7 => *zero_count = fixed(field)?,
            8 => buckets(field.bytes()?, positive, left)?,
            9 => buckets(field.bytes()?, negative, left)?,
            10 => point.flags = field.varint()?,
            11 => exemplar(field, &mut point.exemplars, left)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(exponential)
}

fn buckets(bytes: &[u8], into: &mut Buckets, left: &mut Allowance) -> Result<(), Wrong> {
    fields(bytes, |number, field| {
        match number {
            1 => into.offset = field.sint()? as i32,
            2 => {
                let before = into.counts.len();
                field.varints(|count| into.counts.push(count))?;
                left.take(into.counts.len() - before)?;
            }
            _ => {}
        }
        Ok(())
    })
}

fn quantiles(bytes: &[u8], left: &mut Allowance) -> Result<Quantiles, Wrong> {
    let mut quantiles = Quantiles::default();
    let Quantiles { point, count, sum, values } = &mut quantiles;
    fields(bytes, |at, field| {
        match at {
            2 => point.start = fixed(field)?,
            3 => point.time = fixed(field)?,
            4 => *count = fixed(field)?,
            5 => *sum = field.double()?,
            6 => {
                left.take(1)?;
                let mut pair = (0.0, 0.0);
                fields(field.bytes()?, |number, field| {
                    match number {
                        1 => pair.0 = field.double()?,
                        2 => pair.1 = field.double()?,
                        _ => {}
                    }
                    Ok(())
                })?;
                values.push(pair);
            }
            7 => attribute(field, &mut point.attributes, left)?,
            8 => point.flags = field.varint()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(quantiles)
}

fn exemplar(field: Field<'_>, into: &mut Vec<Exemplar>, left: &mut Allowance) -> Result<(), Wrong> {
    left.take(1)?;
    let mut exemplar = Exemplar::default();
    fields(field.bytes()?, |number, field| {
        match number {
            2 => exemplar.time = fixed(field)?,
            3 => exemplar.value = Some(field.double()?),
            4 => exemplar.span = field.bytes()?.to_vec(),
            5 => exemplar.trace = field.bytes()?.to_vec(),
            6 => exemplar.value = Some(fixed(field)? as i64 as f64),
            7 => attribute(field, &mut exemplar.attributes, left)?,
            _ => {}
        }
        Ok(())
    })?;
    into.push(exemplar);
    Ok(())
}

fn attribute(field: Field<'_>, into: &mut Attributes, left: &mut Allowance) -> Result<(), Wrong> {
    pair(field.bytes()?, into, left, 0)
}

fn pair(bytes: &[u8], into: &mut Attributes, left: &mut Allowance, depth: usize) -> Result<(), Wrong> {
    left.take(1)?;
    let (mut name, mut value) = (String::new(), Any::Empty);
    fields(bytes, |number, field| {
        match number {
            1 => field.text()?.clone_into(&mut name),
            2 => value = any(field.bytes()?, left, depth)?,
            _ => {}
        }
        Ok(())
    })?;
    into.push((name, value));
    Ok(())
}

fn any(bytes: &[u8], left: &mut Allowance, depth: usize) -> Result<Any, Wrong> {
    if depth == DEPTH {
        return Err(Wrong::Large("a value has too many levels"));
    }
    let mut value = Any::Empty;
    fields(bytes, |number, field| {
        match number {
            1 => value = Any::Text(field.text()?.to_owned()),
            2 => value = Any::Bool(field.varint()? != 0),
            3 => value = Any::Int(field.varint()? as i64),
            4 => value = Any::Float(field.double()?),
            5 => {
                let mut list = Vec::new();
                fields(field.bytes()?, |number, field| {
                    if number == 1 {
                        left.take(1)?;
                        list.push(any(field.bytes()?, left, depth + 1)?);
                    }
                    Ok(())
                })?;
                value = Any::List(list);
            }
            6 => {
                let mut map = Vec::new();
                fields(field.bytes()?, |number, field| match number {
                    1 => pair(field.bytes()?, &mut map, left, depth + 1),
                    _ => Ok(()),
                })?;
                value = Any::Map(map);
            }
            7 => value = Any::Bytes(field.bytes()?.to_vec()),
            _ => {}
        }
        Ok(())
    })?;
    Ok(value)
}
