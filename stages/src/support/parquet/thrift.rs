//! Thrift's compact protocol, as far as Parquet's metadata needs it.

use anyhow::{Context as _, bail};

use super::encoding::{take_varint, unzigzag, varint, zigzag};

const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const I16: u8 = 4;
const I32: u8 = 5;
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const STRUCT: u8 = 12;

/// Writes a structure: fields in ascending order, then [`Struct::end`].
pub(super) struct Struct<'a> {
    out: &'a mut Vec<u8>,
    last: u8,
}

impl<'a> Struct<'a> {
    /// Begins one.
    pub(super) fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, last: 0 }
    }

    fn field(&mut self, id: u8, of: u8) {
        self.out.push((id - self.last) << 4 | of);
        self.last = id;
    }

    pub(super) fn flag(&mut self, id: u8, value: bool) {
        self.field(id, if value { TRUE } else { FALSE });
    }

    pub(super) fn byte(&mut self, id: u8, value: u8) {
        self.field(id, BYTE);
        self.out.push(value);
    }

    pub(super) fn i32(&mut self, id: u8, value: i32) {
        self.field(id, I32);
        varint(zigzag(i64::from(value)), self.out);
    }

    pub(super) fn i64(&mut self, id: u8, value: i64) {
        self.field(id, I64);
        varint(zigzag(value), self.out);
    }

    pub(super) fn bytes(&mut self, id: u8, value: &[u8]) {
        self.field(id, BINARY);
        varint(value.len() as u64, self.out);
        self.out.extend_from_slice(value);
    }

    pub(super) fn inner(&mut self, id: u8, fill: impl FnOnce(&mut Struct<'_>)) {
        self.field(id, STRUCT);
        let mut inner = Struct::new(self.out);
        fill(&mut inner);
        inner.end();
    }

    fn list(&mut self, id: u8, of: u8, count: usize) {
        self.field(id, LIST);
        if count < 15 {
            self.out.push((count as u8) << 4 | of);
        } else {
            self.out.push(0xf0 | of);
            varint(count as u64, self.out);
        }
    }

    /// A list of structures that are encoded already, one after the other.
    pub(super) fn encoded(&mut self, id: u8, count: usize, structs: &[u8]) {
        self.list(id, STRUCT, count);
        self.out.extend_from_slice(structs);
    }

    pub(super) fn i32s(&mut self, id: u8, values: &[i32]) {
        self.list(id, I32, values.len());
        for &value in values {
            varint(zigzag(i64::from(value)), self.out);
        }
    }

    pub(super) fn texts(&mut self, id: u8, values: &[&str]) {
        self.list(id, BINARY, values.len());
        for value in values {
            varint(value.len() as u64, self.out);
            self.out.extend_from_slice(value.as_bytes());
        }
    }

    /// Ends the structure.
    pub(super) fn end(self) {
        self.out.push(0);
    }
}

/// A value that was read.
#[derive(Debug)]
pub(super) enum Value<'a> {
    /// A number or a flag.
    Number(i64),
    /// Bytes.
    Bytes(&'a [u8]),
    /// A structure: its fields.
    Fields(Vec<(i16, Value<'a>)>),
    /// A list.
    List(Vec<Value<'a>>),
}

impl<'a> Value<'a> {
    /// Takes a structure.
    pub(super) fn take(from: &mut &'a [u8]) -> anyhow::Result<Self> {
        Self::take_of(STRUCT, from)
    }

    fn take_of(of: u8, from: &mut &'a [u8]) -> anyhow::Result<Self> {
        Ok(match of {
            TRUE | FALSE => Self::Number(i64::from(of == TRUE)),
            BYTE => Self::Number(i64::from(byte(from)?)),
            I16 | I32 | I64 => Self::Number(unzigzag(take_varint(from)?)),
            DOUBLE => Self::Bytes(take(from, 8)?),
            BINARY => {
                let length = take_varint(from)? as usize;
                Self::Bytes(take(from, length)?)
            }
            LIST | SET => {
                let head = byte(from)?;
                let count = if head >> 4 == 15 { take_varint(from)? } else { u64::from(head >> 4) };
                let flags = matches!(head & 15, TRUE | FALSE);
                let item = |from: &mut &'a [u8]| match flags {
                    true => Ok(Self::Number(i64::from(byte(from)? == TRUE))),
                    false => Self::take_of(head & 15, from),
                };
                Self::List((0..count).map(|_| item(from)).collect::<anyhow::Result<_>>()?)
            }
            STRUCT => {
                let (mut fields, mut id) = (Vec::new(), 0);
                loop {
                    let head = byte(from)?;
                    if head == 0 {
                        break;
                    }
                    id = if head >> 4 == 0 { unzigzag(take_varint(from)?) as i16 } else { id + i16::from(head >> 4) };
                    fields.push((id, Self::take_of(head & 15, from)?));
                }
                Self::Fields(fields)
            }
            other => bail!("a value of type {other}"),
        })
    }

    /// Returns a field of a structure.
    pub(super) fn get(&self, id: i16) -> Option<&Self> {
        match self {
            Self::Fields(fields) => fields.iter().find(|(at, _)| *at == id).map(|(_, value)| value),
            _ => None,
        }
    }

    /// Returns a number in a structure.
    pub(super) fn number(&self, id: i16) -> Option<i64> {
        match self.get(id) {
            Some(Self::Number(number)) => Some(*number),
            _ => None,
        }
    }

    /// Returns bytes in a structure.
    pub(super) fn bytes(&self, id: i16) -> Option<&'a [u8]> {
        match self.get(id) {
            Some(Self::Bytes(bytes)) => Some(bytes),
            _ => None,
        }
    }

    /// Returns a list in a structure, an empty one where it lacks.
    pub(super) fn list(&self, id: i16) -> &[Self] {
        match self.get(id) {
            Some(Self::List(items)) => items,
            _ => &[],
        }
    }
}

fn byte(from: &mut &[u8]) -> anyhow::Result<u8> {
    Ok(take(from, 1)?[0])
}

fn take<'a>(from: &mut &'a [u8], count: usize) -> anyhow::Result<&'a [u8]> {
    let (taken, rest) = from.split_at_checked(count).context("metadata is cut off")?;
    *from = rest;
    Ok(taken)
}
