//! The list of series: records that need no other record to be understood.

use hashbrown::HashMap;

use crate::{
    bytes::{Reader, Torn, put_bytes, put_varint, put_zigzag},
    catalog::{Catalog, Full, SLOTS, SeriesRef},
};

/// Writes series of the catalog.
pub fn write_series(catalog: &Catalog, slots: impl Iterator<Item = u32> + Clone, out: &mut Vec<u8>) {
    let mut strings: HashMap<&str, u32, foldhash::fast::RandomState> = HashMap::default();
    let mut pairs: HashMap<(u32, u32), u32, foldhash::fast::RandomState> = HashMap::default();
    let (mut texts, mut couples, mut series) = (Vec::new(), Vec::new(), Vec::new());
    let mut before = 0i64;
    let mut count = 0u64;
    for slot in slots {
        let Some(reference) = catalog.reference(slot) else { continue };
        count += 1;
        put_zigzag(&mut series, i64::from(slot) - before);
        before = i64::from(slot);
        put_varint(&mut series, u64::from(reference.generation));
        put_varint(&mut series, catalog.pairs(slot).count() as u64);
        for (name, value) in catalog.pairs(slot) {
            let mut number = |text| {
                let next = strings.len() as u32;
                *strings.entry(text).or_insert_with(|| {
                    put_bytes(&mut texts, str::as_bytes(text));
                    next
                })
            };
            let pair = (number(name), number(value));
            let next = pairs.len() as u32;
            let pair = *pairs.entry(pair).or_insert_with(|| {
                put_varint(&mut couples, u64::from(pair.0));
                put_varint(&mut couples, u64::from(pair.1));
                next
            });
            put_varint(&mut series, u64::from(pair));
        }
    }
    for (count, bytes) in [(strings.len() as u64, texts), (pairs.len() as u64, couples), (count, series)] {
        put_varint(out, count);
        out.extend_from_slice(&bytes);
    }
}

/// Puts the series of a record into the catalog. What the record says before it turns out to be wrong is kept.
pub fn read_series(payload: &[u8], catalog: &mut Catalog) -> Result<Result<(), Full>, Torn> {
    let mut reader = Reader(payload);
    let strings = (0..reader.count(1)?).map(|_| reader.text()).collect::<Result<Vec<_>, _>>()?;
    let mut pairs = Vec::new();
    for _ in 0..reader.count(2)? {
        let mut text = || {
            let number = reader.varint()? as usize;
            strings.get(number).copied().ok_or(Torn("a series names a string that is not there"))
        };
        let (name, value) = (text()?, text()?);
        match catalog.intern(name, value) {
            Ok(pair) => pairs.push(pair),
            Err(full) => return Ok(Err(full)),
        }
    }
    let count = reader.count(3)?;
    catalog.reserve(count);
    let mut slot = 0i64;
    let mut numbers = Vec::new();
    for _ in 0..count {
        slot = slot.wrapping_add(reader.zigzag()?);
        let generation = reader.varint32()?;
        numbers.clear();
        for _ in 0..reader.count(1)? {
            let pair = reader.varint()? as usize;
            numbers.push(*pairs.get(pair).ok_or(Torn("a series names a pair that is not there"))?);
        }
        // A slot is an index into tables: a wild one would make them huge.
        let slot = u32::try_from(slot).ok().filter(|slot| *slot < SLOTS).ok_or(Torn("a series has a wild slot"))?;
        if let Err(full) = catalog.put(SeriesRef { slot, generation }, &numbers) {
            return Ok(Err(full));
        }
    }
    Ok(Ok(()))
}
